"""Recommendations in the UI and in the terminal: tables, bars and pictures."""

from __future__ import annotations

import io
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest
from PIL import Image
from rich.console import Console

from boursomatic_assets.core.dataset.experiment import PROFILE_NAMES, Profiles
from boursomatic_assets.core.recommendations.calls import RECOMMENDATION_SCHEMA
from boursomatic_assets.display.terminal.recommendation_tables import (
    HALF_A_BAR,
    bar,
    calls_table,
    contribution_table,
    exclusions_table,
    reason_lines,
    recommendations_table,
)
from boursomatic_assets.display.ui.recommendations import calls_picture, mixes_of, strongest_calls, strongest_row
from boursomatic_assets.storage.postgres.stored_recommendations import STORED_SCHEMA

FULL = "\N{FULL BLOCK}"
TODAY = date(2024, 6, 28)


def rows_of(labels: dict[str, tuple[str, str, str]], confidence: dict[str, float]) -> pl.DataFrame:
    """Rows of symbols with a label for each profile, cautious first; prices differ by profile."""
    rows = [
        {
            **dict.fromkeys(RECOMMENDATION_SCHEMA),
            "symbol": symbol,
            "session": date(2024, 6, 28),
            "profile": profile,
            "label": label,
            "confidence": confidence[symbol] if label != "HOLD" else 0.3,
            "expected_return_pct": 1.5,
            "stop_loss": None if label == "HOLD" else 90.0 - place,
            "take_profit": None if label == "HOLD" else 120.0 + place,
        }
        for symbol, own in labels.items()
        for place, (profile, label) in enumerate(zip(PROFILE_NAMES, own, strict=True))
    ]
    return pl.DataFrame(rows, schema=RECOMMENDATION_SCHEMA).with_columns(justification=pl.lit("Because."))


ROWS = rows_of(
    {
        "AAA": ("HOLD", "BUY", "BUY"),
        "BBB": ("SELL", "SELL", "SELL"),
        "CCC": ("HOLD", "HOLD", "BUY"),
        "DDD": ("HOLD", "HOLD", "HOLD"),
    },
    {"AAA": 0.45, "BBB": 0.55, "CCC": 0.36, "DDD": 0.9},
)
NOBODY = ROWS.filter(pl.col("symbol") == "DDD")


def printed(*parts: object, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    for part in parts:
        console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_strongest_calls_are_the_most_probable_as_the_most_cautious_profile_has_them() -> None:
    found = strongest_calls(ROWS, 2)
    assert [(call["symbol"], call["label"], call["profiles"]) for call in found] == [
        ("BBB", "SELL", ["conservative", "moderate", "aggressive"]),
        ("AAA", "BUY", ["moderate", "aggressive"]),
    ]
    # the second of three profiles: 90 - 1 and 120 + 1
    assert (found[1]["stop_loss"], found[1]["take_profit"]) == (89.0, 121.0)
    assert strongest_calls(NOBODY, 5) == []


def test_strongest_row_is_a_call_if_there_is_one() -> None:
    strongest = strongest_row(ROWS)
    assert (strongest["symbol"], strongest["profile"]) == ("BBB", "conservative")
    assert (strongest_row(NOBODY)["symbol"], strongest_row(NOBODY)["profile"]) == ("DDD", "conservative")


def test_mixes_of_counts_calls_by_profile() -> None:
    assert mixes_of(ROWS) == {
        "conservative": {"BUY": 0, "HOLD": 3, "SELL": 1},
        "moderate": {"BUY": 1, "HOLD": 2, "SELL": 1},
        "aggressive": {"BUY": 2, "HOLD": 1, "SELL": 1},
    }


@pytest.mark.parametrize(
    ("share", "left", "right"), [(1.0, 0, 16), (-1.0, 16, 0), (0.5, 0, 8), (-0.25, 4, 0), (0.0, 0, 0), (0.01, 0, 0)]
)
def test_bar_extends_from_the_middle_in_the_direction_of_its_sign(share: float, left: int, right: int) -> None:
    drawn = bar(share).plain
    assert len(drawn) == 2 * HALF_A_BAR + 1
    before, after = drawn.split("\N{BOX DRAWINGS LIGHT VERTICAL}")
    assert before == (FULL * left).rjust(HALF_A_BAR)
    assert after == (FULL * right).ljust(HALF_A_BAR)


def evidence(contributions: dict[str, float], features: dict[str, float | None]) -> dict[str, Any]:
    return {"contributions": {"BUY": contributions}, "expected_scores": {"BUY": -1.0}, "features": features}


def test_contribution_table_lists_features_by_size_with_values_in_their_units() -> None:
    shown = printed(
        contribution_table(
            evidence({"ret_20d": -0.2, "rsi_14": 0.4, "volume_zscore": 0.0}, {"ret_20d": -0.0612, "rsi_14": 71.5}),
            "BUY",
        )
    )
    order = [shown.index(name) for name in ("rsi_14", "ret_20d", "volume_zscore")]
    assert order == sorted(order)
    assert "-6.12%" in shown
    assert "71.50" in shown
    assert "none" in shown
    # -1 + 0.4 - 0.2
    assert "-1.000 on average, -0.800 here" in shown


def test_contribution_table_without_contributions_has_no_bar() -> None:
    assert FULL not in printed(contribution_table(evidence({"ret_1d": 0.0}, {"ret_1d": 0.01}), "BUY"))


def stored(symbol: str, session: date) -> dict[str, Any]:
    return dict.fromkeys(STORED_SCHEMA) | {
        "symbol": symbol, "profile": "conservative", "label": "SELL", "confidence": 0.354, "session": session,
        "expected_return_pct": -12.345, "stop_loss": 12_345.678, "take_profit": 10_123.456, "version": "1" * 22,
        "is_of_active_model": True,
    }  # fmt: skip


def test_recommendations_table_has_shared_values_in_the_title_and_fits_80_columns() -> None:
    both = pl.DataFrame([stored("AAA", TODAY), stored("MC.PA", TODAY)], schema=STORED_SCHEMA)
    lines = printed(recommendations_table(both), width=80).splitlines()
    assert lines[0].strip() == f"Recommendations: session {TODAY}, model {'1' * 22}"
    assert "\N{HORIZONTAL ELLIPSIS}" not in "".join(lines)
    (row,) = [line for line in lines if "MC.PA" in line]
    for text in ("conservative", "SELL", "35%", "-12.3 %", "12,345.68", "10,123.46"):
        assert text in row


def test_recommendations_table_has_a_column_for_differing_sessions() -> None:
    two = pl.DataFrame([stored("AAA", TODAY), stored("BBB", TODAY + timedelta(days=1))], schema=STORED_SCHEMA)
    shown = printed(recommendations_table(two))
    assert "Recommendations: model" in shown
    assert [str(TODAY) in line for line in shown.splitlines() if "AAA" in line] == [True]
    assert [str(TODAY) in line for line in shown.splitlines() if "BBB" in line] == [False]


def test_tables_print_foreign_texts_without_markup() -> None:
    stored = dict.fromkeys(STORED_SCHEMA) | {
        "symbol": "[bold]X", "profile": "moderate", "label": "[red]", "confidence": 0.5, "version": "1",
        "is_of_active_model": False,
    }  # fmt: skip
    shown = printed(
        recommendations_table(pl.DataFrame([stored], schema=STORED_SCHEMA)),
        exclusions_table({"[dim]Y": "because [/nothing] closed"}),
        calls_table(strongest_calls(ROWS, 1)),
        *reason_lines(strongest_calls(ROWS.with_columns(justification=pl.lit("[not] markup")), 1)),
    )
    for text in ("[bold]X", "[red]", "(not active)", "[dim]Y", "[/nothing]", "[not] markup"):
        assert text in shown


@pytest.mark.parametrize("rows", [ROWS, NOBODY], ids=["calls", "none"])
def test_calls_picture_is_small(rows: pl.DataFrame) -> None:
    symbols = rows["symbol"].unique().sort()
    predictions = pl.DataFrame({"symbol": symbols, "calibrated_buy": 0.4, "vol_20d": 0.02})
    content = calls_picture(predictions, rows, Profiles())
    assert len(content) < 40_000
    with Image.open(io.BytesIO(content)) as picture:
        assert (picture.format, picture.width) == ("PNG", 700)
