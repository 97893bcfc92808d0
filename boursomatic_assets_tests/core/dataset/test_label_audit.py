from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.label_audit import inconsistent_rows
from boursomatic_assets.core.dataset.labels import LABEL_TYPE

FIRST, SECOND = date(2024, 1, 2), date(2024, 1, 30)
# A gain of 10 % is a BUY from the default threshold of 5 % on.
SOUND: dict[str, Any] = {
    "session": FIRST, "label": "BUY", "forward_return": 0.1, "label_end": SECOND, "realised_return": 0.1,
    "realised_on": SECOND,
}  # fmt: skip
NOTHING_YET = SOUND | dict.fromkeys(("label", "forward_return", "label_end", "realised_return", "realised_on"))


def panel(*rows: dict[str, Any]) -> pl.DataFrame:
    dates = dict.fromkeys(("session", "label_end", "realised_on"), pl.Date)
    return pl.DataFrame(
        rows, schema={**dates, "label": LABEL_TYPE, "forward_return": pl.Float64, "realised_return": pl.Float64}
    )


def test_inconsistent_rows_accept_consistent_ones() -> None:
    # A row whose instrument ended early is realised without a label.
    closed = NOTHING_YET | {"realised_return": -0.2, "realised_on": SECOND}
    assert not any(inconsistent_rows(panel(SOUND, NOTHING_YET, closed), Experiment()).values())


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        # A label known on its own session; the horizon then ends there, too.
        ({"label_end": FIRST, "realised_on": FIRST}, {"labels_too_early", "realised_unlike_the_label"}),
        ({"forward_return": None, "label": None}, {"labels_without_return"}),
        ({"label": "SELL"}, {"labels_unlike_their_return"}),
        ({"label": None}, {"labels_unlike_their_return"}),
        ({"realised_on": None}, {"realised_unlike_the_label"}),
        ({"realised_return": 0.2}, {"realised_unlike_the_label"}),
        ({"realised_on": date(2024, 1, 31)}, {"realised_unlike_the_label"}),
    ],
)
def test_inconsistent_rows_count_each_contradiction(change: dict[str, Any], faults: set[str]) -> None:
    found = inconsistent_rows(panel(SOUND, SOUND | change, SOUND), Experiment())
    assert found == {name: int(name in faults) for name in found}
    assert faults <= set(found)
