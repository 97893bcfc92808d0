from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from boursomatic_assets.core.recommendations.outcomes import summarise_outcomes
from boursomatic_assets.display.ui.canvas import INK
from boursomatic_assets.display.ui.data_pictures import CLASS_COLOURS
from boursomatic_assets.display.ui.outcomes import NOTHING_YET, outcome_metadata, precision_picture, record_table
from boursomatic_assets.storage.postgres.outcomes_table import JUDGED_SCHEMA
from boursomatic_assets_tests.support.pictures import check_picture, coloured, pixels

JUDGED_AT = datetime(2024, 7, 5, tzinfo=UTC).replace(tzinfo=None)
LABELS = ("BUY", "HOLD", "SELL")
NO_RECORD = summarise_outcomes(pl.DataFrame(schema=JUDGED_SCHEMA))


def record(*rows: dict[str, Any]) -> pl.DataFrame:
    """A record of these rows, each a moderate BUY of 1,234 calls unless it says otherwise."""
    usual = {
        "profile": "moderate", "label": "BUY", "calls": 1234, "sessions": 150, "expected": 0.45, "realised": 0.4,
        "difference": -0.05, "low": -0.081, "high": 0.012, "p_value": 0.2, "stop_first": 0.25,
        "target_first": 0.125, "mean_return": -0.0123, "stopped_trading": 1,
    }  # fmt: skip
    return pl.DataFrame([usual | row for row in rows], schema=NO_RECORD.schema)


def columns_of(png: bytes, colour: str) -> np.ndarray:
    return np.flatnonzero(coloured(png, colour).any(axis=0))


WHOLE = record(
    *(
        {"profile": profile, "label": label}
        for profile in ("conservative", "moderate", "aggressive")
        for label in LABELS
    )
)
PICTURES = {
    "all": WHOLE,
    "one": record({}),
    "no interval": record({"low": None, "high": None, "p_value": None}),
    "at the edges": record({"expected": 1.0, "realised": 1.0, "difference": 0.0, "low": -0.5, "high": 0.5}),
    "nothing": NO_RECORD,
}


@pytest.mark.parametrize("name", PICTURES)
def test_precision_picture_is_small_of_its_size_and_whole(name: str) -> None:
    check_picture(lambda: precision_picture(PICTURES[name]), (700, 240), 25_000)


def test_precision_picture_has_a_colour_per_label_and_none_if_empty() -> None:
    whole, nothing = precision_picture(WHOLE), precision_picture(NO_RECORD)
    for label in LABELS:
        assert coloured(whole, CLASS_COLOURS[label]).sum() > 200
    # HOLD is grey, as the edges of letters are.
    for label in ("BUY", "SELL"):
        assert not coloured(nothing, CLASS_COLOURS[label]).any()
    assert (pixels(nothing) < 200).any()


def test_precision_picture_draws_wider_intervals_wider_and_within_0_and_1() -> None:
    narrow, wide, widest = (
        np.ptp(columns_of(precision_picture(record({"low": -far, "high": far})), CLASS_COLOURS["BUY"]))
        for far in (0.1, 0.3, 5.0)
    )
    # a panel is about 200 pixels for 100 %: 0.2, 0.6, and all of it
    assert 25 < narrow < 60
    assert 2.5 * narrow < wide < 3.5 * narrow
    assert wide < widest < 230


def test_precision_picture_draws_a_point_without_an_interval() -> None:
    png = precision_picture(record({"low": None, "high": None}))
    assert np.ptp(columns_of(png, CLASS_COLOURS["BUY"])) < 20


def test_precision_picture_has_a_panel_per_profile() -> None:
    left, right = (
        columns_of(precision_picture(record({"profile": profile})), CLASS_COLOURS["BUY"]).mean()
        for profile in ("conservative", "aggressive")
    )
    assert left < 250
    assert right > 450


def test_precision_picture_marks_the_expected_value() -> None:
    low, high = (coloured(precision_picture(record({"expected": share})), INK) for share in (0.1, 0.9))
    assert (low != high).any()


def test_record_table_has_each_figure_in_its_unit() -> None:
    head, _, buy, hold = record_table(
        record(
            {},
            {"label": "HOLD", "low": None, "high": None, "stop_first": None, "target_first": None},
        )
    ).splitlines()
    assert head.count("|") == buy.count("|") == hold.count("|")
    # shares as percent, their difference and its interval in points, a return with its sign
    assert buy == (
        "| moderate | BUY | 1,234 | 150 | 45.0 % | 40.0 % | \N{MINUS SIGN}5.0 | \N{MINUS SIGN}8.1 to +1.2 "
        "| 25.0 % | 12.5 % | \N{MINUS SIGN}1.23 % |"
    )
    assert hold.endswith("| \N{MINUS SIGN}5.0 | too few sessions |  |  | \N{MINUS SIGN}1.23 % |")


def outcomes(count: int) -> pl.DataFrame:
    row = {
        "recommendation_id": "1", "entry_session": date(2024, 7, 1), "entry_close": 100.0,
        "exit_session": date(2024, 7, 4), "exit_close": 106.0, "realised_return": 0.06, "realised_label": "BUY",
        "hit": True, "first_touch": None, "touched_session": None, "ended": "horizon",
        "judged_at": JUDGED_AT, "symbol": "AAA", "exchange": "XPAR", "profile": "moderate",
        "label": "BUY", "confidence": 0.5, "session": date(2024, 7, 1), "horizon_days": 3, "version": "v",
    }  # fmt: skip
    return pl.DataFrame([row | {"recommendation_id": str(number)} for number in range(count)], schema=JUDGED_SCHEMA)


def test_outcome_metadata_describes_every_column_and_plots_precision() -> None:
    stored = outcomes(8)
    found = outcome_metadata(stored, summarise_outcomes(stored))
    assert found["dagster/row_count"] == 8
    assert found["precision_moderate_buy"] == 1.0
    assert "| moderate | BUY | 8 |" in found["record"].value
    assert found["expected_and_realised"].value.startswith("![Expected and realised precision")
    # two lines of head, and five rows
    assert len(found["preview"].value.splitlines()) == 7
    schema = found["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchema)
    assert [column.name for column in schema.columns] == list(JUDGED_SCHEMA)
    assert all(column.description for column in schema.columns)


def test_outcome_metadata_of_no_outcomes() -> None:
    found = outcome_metadata(outcomes(0), NO_RECORD)
    assert found["dagster/row_count"] == 0
    assert found["record"].value == NOTHING_YET
    assert not [name for name in found if name.startswith("precision")]
