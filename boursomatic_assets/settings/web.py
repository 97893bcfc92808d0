"""Settings of the Dagster UI as it is served."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boursomatic_assets.settings import dagster_ui

if TYPE_CHECKING:
    from boursomatic_assets.settings.variable import Values


@dataclass(frozen=True)
class WebSettings:
    """Who may use the Dagster UI. Each attribute is the variable of that name in `settings.variables`."""

    url: str
    password: str | None = field(repr=False)
    hosts: tuple[str, ...]
    takes_reports: bool

    @classmethod
    def from_environment(cls, environ: Values | None = None) -> WebSettings:
        """Read the settings; `environ` stands in for `os.environ`.

        Raises
        ------
        ConfigurationError
            If a variable cannot be read as its type.
        """
        values = os.environ if environ is None else environ
        return cls(
            url=dagster_ui.UI_URL.read(values),
            password=dagster_ui.UI_PASSWORD.find(values),
            hosts=dagster_ui.UI_HOSTS.find(values) or (),
            takes_reports=dagster_ui.UI_REPORTS.read(values),
        )
