"""Tables of the report: each takes a piece of what was found, with gaps anywhere, and writes HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boursomatic_assets.display.report.figures import book_line
from boursomatic_assets.display.report.page import (
    DASH,
    cell,
    count,
    decimals_for,
    heading,
    number,
    p_value,
    paragraph,
    sentence,
    strip,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Row = Mapping[str, Any]

_GROUPS = {
    "ranking": "Ranking",
    "classification": "Classification",
    "calibration": "Calibration",
    "portfolio": "Portfolio",
    "regression": "Forecast of the return",
}
# Figures whose names end so say how a main figure comes about; a name that is not known is a main one.
_DETAILS = (
    "icir", "_hold", "_sell", "recall_buy", "f1_buy", "brier", "rmse", "mae", "_newey_west_t",
    "_probabilistic_sharpe", "_lo_sharpe_ratio", "_total_return", "_annual_volatility", "_hit_rate", "_turnover",
    "_exposure", "rank_ic_deviation", "rank_ic_t",
)  # fmt: skip
_FIGURE_COLUMNS = (
    ("Figure", "text"), ("Value", "number"), ("95 % interval", "number"), ("", "strip"), ("No skill", "number"),
    ("Baseline", "number"), ("Baseline is", "text"), ("p-value", "number"),
)  # fmt: skip

_REACH_COLUMNS = (
    ("Figure", "text"), ("Value", "number"), ("Smallest it could show", "number"), ("Years judged", "number"),
    ("Years for 0.01", "number"),
)  # fmt: skip


def figures_table(figures: Sequence[Row]) -> str:
    """Every figure with its interval, the value of no skill, its baseline and p-value; grouped, details folded."""
    main = [figure for figure in figures if not _is_detail(figure)]
    others = [figure for figure in figures if _is_detail(figure)]
    if not main:
        return paragraph("No figure.", "nothing")
    caption = (
        "Main figures. In the drawing: the interval, the value as a dot, no skill as an upright. An interval that "
        "holds the upright has shown nothing."
    )
    shown = table(caption, _FIGURE_COLUMNS, _by_group(main))
    if not others:
        return shown
    folded = table("Figures that explain the main ones", _FIGURE_COLUMNS, _by_group(others))
    return f"{shown}<details><summary>{len(others)} more figures</summary>{folded}</details>"


def _is_detail(figure: Row) -> bool:
    return str(figure.get("name")).endswith(_DETAILS)


def _by_group(figures: Sequence[Row]) -> list[list[str]]:
    order = dict.fromkeys([*_GROUPS, *(str(figure.get("group")) for figure in figures)])
    bodies = []
    for group in order:
        rows = [_figure_row(figure) for figure in figures if str(figure.get("group")) == group]
        title = heading(_GROUPS.get(group, group), "rowgroup", colspan=len(_FIGURE_COLUMNS))
        bodies.append([title, *rows] if rows else [])
    return bodies


def _figure_row(figure: Row) -> str:
    title = heading(str(figure.get("title") or figure.get("name") or "?"), "row")
    value, low, high, none, baseline = (figure.get(key) for key in ("value", "low", "high", "no_skill", "baseline"))
    if value is None:
        why = figure.get("why_undefined") or "it could not be computed"
        rest = len(_FIGURE_COLUMNS) - 2
        return title + cell("undefined", "number") + cell(f"{why}", "text why", colspan=rest)
    unit = figure.get("unit") or "number"
    places = decimals_for([value, baseline], unit)
    return "".join(
        [
            title,
            cell(number(value, unit, places)),
            cell(interval(low, high, unit, places)),
            strip(value, low, high, none),
            cell(number(none, unit, places if none else 0)),
            cell(number(baseline, unit, places)),
            cell(str(figure.get("baseline_is") or ""), "text long"),
            cell(p_value(figure.get("p_value"))),
        ]
    )


def interval(low: float | None, high: float | None, unit: str = "number", places: int | None = None) -> str:
    """Two bounds; a dash where one is not known."""
    if low is None or high is None:
        return DASH
    places = decimals_for([low, high], unit) if places is None else places
    return f"{number(low, unit, places)} to {number(high, unit, places)}"


def comparisons_table(comparisons: Sequence[Row]) -> str:
    """The model against each baseline: mean difference with interval and test."""
    if not comparisons:
        return paragraph("There is no baseline to compare with.", "nothing")
    columns = (
        ("Against", "text"), ("Measured by", "text"), ("Difference", "number"), ("95 % interval", "number"),
        ("", "strip"), ("Statistic", "number"), ("p-value", "number"),
    )  # fmt: skip
    rows = []
    for found in comparisons:
        value, low, high = (found.get(key) for key in ("difference", "low", "high"))
        places = max(decimals_for([value, low, high]), _fine(value, low, high))
        rows.append(
            heading(str(found.get("baseline") or "?"), "row")
            + cell(str(found.get("measure") or ""), "text")
            + cell(number(value, decimals=places))
            + cell(interval(low, high, places=places))
            + strip(value, low, high, 0.0)
            + cell(number(found.get("statistic"), decimals=2))
            + cell(p_value(found.get("p_value")))
        )
    caption = (
        "Model against baseline (Diebold and Mariano): above 0 the model is better. The test allows for overlap."
    )
    notes = dict.fromkeys(sentence(str(found["note"])) for found in comparisons if found.get("note"))
    return table(caption, columns, [rows]) + "".join(paragraph(note, "faint") for note in notes)


def _fine(*values: float | None) -> int:
    """Decimals for daily returns, which four decimals would show as 0."""
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    return 6 if 0 < largest < 0.01 else 4  # noqa: PLR2004


def reach_table(figures: Sequence[Row], reach: Row) -> str:
    """Beside each rank IC the smallest that the sample could have shown, and the years that a small one needs."""
    values = {str(figure.get("name")): figure.get("value") for figure in figures}
    rows = [
        heading(str(found.get("title") or name), "row")
        + cell(number(values.get(name), decimals=4))
        + (
            cell(str(found["why_undefined"]), "text why", colspan=len(_REACH_COLUMNS) - 2)
            if found.get("why_undefined")
            else cell(number(found.get("smallest"), decimals=4))
            + cell(number(found.get("years"), decimals=1))
            + cell(number(found.get("years_for_wanted"), decimals=1))
        )
        for name, found in reach.items()
        if found
    ]
    if not rows:
        return ""
    caption = (
        "What this sample could have shown. The smallest rank IC is two standard errors; errors allow for the "
        "overlap of the horizons. A year is 252 sessions."
    )
    return table(caption, _REACH_COLUMNS, [rows], "narrow")


def survivors_table(survivors: Row) -> str:
    """Symbols that end before the panel does, and members that it holds, by year."""
    years = survivors.get("by_year") or ()
    if not years:
        return ""
    known = bool(survivors.get("memberships_known"))
    columns = [("Year", "text"), ("Symbols", "number"), ("Ended", "number")]
    if known:
        columns += [("Members", "number"), ("held", "number"), ("share held", "number"), ("counted on", "number")]
    rows = [
        heading(str(year.get("year")), "row")
        + "".join(cell(count(year.get(name))) for name in ("symbols", "ended"))
        + (
            "".join(cell(count(year.get(name))) for name in ("members", "members_held"))
            + cell(number(year.get("share_held"), "percent", 1))
            + cell(str(year.get("members_on") or DASH))
            if known
            else ""
        )
        for year in years
    ]
    caption = (
        "By year. A symbol has ended where its exchange traded for more than "
        f"{count(survivors.get('sessions_to_end'))} sessions after its last bar."
    )
    return table(caption, columns, [rows], "narrow")


def years_table(years: Sequence[Row]) -> str:
    """Mean rank IC of each year."""
    rows = [
        heading(str(year.get("year")), "row")
        + cell(number(year.get("mean"), decimals=4))
        + cell(count(year.get("sessions")))
        for year in years
    ]
    return table(
        "Rank IC by year", (("Year", "text"), ("Mean", "number"), ("Sessions", "number")), [rows], "narrow"
    )


def reliability_table(bins: Sequence[Row]) -> str:
    """The calibration curve in numbers."""
    rows = [
        heading(number(part.get("probability"), "percent", 1), "row")
        + cell(number(part.get("frequency"), "percent", 1))
        + cell(count(part.get("rows")))
        for part in bins
    ]
    columns = (("Said", "text"), ("Came", "number"), ("Rows", "number"))
    return table("Probability of BUY, as said and as it came", columns, [rows], "narrow")


def deciles_table(deciles: Sequence[Row]) -> str:
    """Precision by decile in numbers."""
    rows = [
        heading(str(part.get("decile")), "row")
        + cell(number(part.get("volatility")))
        + cell(count(part.get("calls")))
        + cell(number(part.get("precision"), "percent", 1))
        + cell(number(part.get("base_rate"), "percent", 1))
        for part in deciles
    ]
    columns = (
        ("Decile", "text"), ("Volatility", "number"), ("Calls", "number"), ("Precision", "number"),
        ("Base rate", "number"),
    )  # fmt: skip
    return table("BUY calls by decile of volatility", columns, [rows], "narrow")


def costs_table(sweep: Sequence[Row]) -> str:
    """Sharpe ratio and annual return of each book at each cost."""
    books = list(dict.fromkeys(str(part.get("book")) for part in sweep))
    found = {(part.get("cost_bps"), str(part.get("book"))): part for part in sweep}
    costs = sorted({cost for cost, _ in found if cost is not None})
    columns = [("Basis points a side", "text")]
    for book in books:
        columns += [(f"{book_line(book).label}: Sharpe", "number"), ("annual return", "number")]
    rows = []
    for cost in costs:
        parts = [found.get((cost, book), {}) for book in books]
        cells = [
            cell(number(part.get("sharpe"), decimals=2)) + cell(number(part.get("annual_return"), "percent", 1))
            for part in parts
        ]
        rows.append(heading(f"{cost:g}", "row") + "".join(cells))
    return table("The same books at other costs", columns, [rows], "narrow")


def confusion_table(confusion: Row) -> str:
    """What was called against what came, each row shaded by its shares."""
    classes, counts = list(confusion.get("classes") or ()), confusion.get("counts") or []
    if not classes or not counts:
        return paragraph("No rows to count.", "nothing")
    rows = []
    for name, row in zip(classes, counts, strict=False):
        total = sum(item or 0 for item in row)
        cells = [_shaded(item, (item or 0) / total if total else 0.0) for item in row]
        rows.append(heading(f"was {name}", "row") + "".join(cells) + cell(count(total)))
    columns = [("", "text"), *((f"called {name}", "number") for name in classes), ("rows", "number")]
    caption = "Confusion matrix: rows of each true class, by call, with the share of the row."
    return table(caption, columns, [rows], "narrow counts")


def _shaded(rows: float | None, share: float) -> str:
    text = f"{count(rows)} ({number(share, 'percent', 0)})"
    return cell(text, "number heat", style=f"--share:{share:.3f}")


def folds_table(folds: Sequence[Row]) -> str:
    """What each fold was trained on, and how it did."""
    columns = (
        ("Fold", "text"), ("Trained from", "number"), ("labels until", "number"), ("rows", "number"),
        ("Predicted", "number"), ("rows", "number"), ("Rank IC", "number"), ("Matched lift", "number"),
        ("Accuracy", "number"), ("most frequent class", "number"), ("\N{GREEK SMALL LETTER TAU}", "number"),
    )  # fmt: skip
    rows = [
        "".join(
            [
                heading(str(fold.get("fold")), "row"),
                *(cell(str(fold.get(name) or DASH)) for name in ("train_first", "train_last_label_end")),
                cell(count(fold.get("train_rows"))),
                cell(f"{fold.get('test_first') or DASH} to {fold.get('test_last') or DASH}"),
                cell(count(fold.get("rows"))),
                cell(number(fold.get("rank_ic"), decimals=4)),
                cell(number(fold.get("matched_lift_buy"), decimals=3)),
                *(cell(number(fold.get(name), "percent", 1)) for name in ("accuracy", "majority_accuracy")),
                cell(number(fold.get("tau"), decimals=3)),
            ]
        )
        for fold in folds
    ]
    caption = "Each fold is trained only on labels that had matured before its first session."
    return table(caption, columns, [rows])
