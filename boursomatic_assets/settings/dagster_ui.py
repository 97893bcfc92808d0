"""Declarations of the variables of the Dagster UI."""

from __future__ import annotations

from boursomatic_assets.settings import forms
from boursomatic_assets.settings.variable import Secret, Variable

DEFAULT_UI_URL = "http://127.0.0.1:3000"
# Form of a variable that holds an address.
WEB_ADDRESS = "an http:// or https:// address"

UI_URL = Variable(
    "BOURSOMATIC_UI_URL",
    "Dagster UI as readers of a notice reach it, for links.",
    WEB_ADDRESS,
    forms.address,
    default=DEFAULT_UI_URL,
    default_note=f"{DEFAULT_UI_URL}; under `boursomatic dev` its own address",
)
UI_PASSWORD = Variable(
    "BOURSOMATIC_UI_PASSWORD",
    "Password of the Dagster UI, with any user name. Required where other machines can reach it.",
    "a password",
    forms.password,
    secret=Secret.WHOLE,
)
UI_HOSTS = Variable(
    "BOURSOMATIC_UI_HOSTS",
    "Host names under which browsers may open the Dagster UI, besides localhost and that of BOURSOMATIC_UI_URL.",
    "host names without a port, separated by commas",
    forms.hosts,
    example="boursomatic.example",
)
UI_REPORTS = Variable(
    "BOURSOMATIC_UI_REPORTS",
    "Whether programs may report materializations, observations and checks to the Dagster UI over HTTP.",
    "1 or 0",
    forms.switch,
    default="0",
    example="1",
)
