"""Membership of the universe over time.

A list of today's members, used for the past, leaves out the fallen and brings in the risen before anyone could know
them (survivorship bias).
"""

from __future__ import annotations

import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.errors import NotEnoughHistoryError, PanelContractError

MEMBER_SCHEMA: dict[str, pl.DataType] = {"symbol": pl.String(), "member_from": pl.Date(), "member_until": pl.Date()}


def within_membership(panel: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
    """Keep the rows of instruments at sessions at which they were members; without any `members`, keep all.

    A symbol belongs from `member_from` until before `member_until`, null for no end; it may have several rows.
    Raises NotEnoughHistoryError if the panel has rows and none of them is a member's.
    """
    if members.is_empty() or panel.is_empty():
        return panel
    spans = panel.select(PANEL_KEY).join(members, on="symbol")
    begun = pl.col("session") >= pl.col("member_from")
    inside = spans.filter(begun & (pl.col("session") < pl.col("member_until")).fill_null(value=True))
    kept = panel.join(inside.select(PANEL_KEY), on=PANEL_KEY, how="semi", maintain_order="left")
    if kept.is_empty():
        message = (
            f"the table of members names {members['symbol'].n_unique()} symbols, and none of the "
            f"{panel['symbol'].n_unique()} symbols with prices was a member at any session from "
            f"{panel['session'].min()!s} to {panel['session'].max()!s}.\n"
            "Compare the symbols and dates: boursomatic universe members list, or forget them: "
            "boursomatic universe members clear"
        )
        raise NotEnoughHistoryError(message)
    return kept


def check_members(members: pl.DataFrame) -> list[str]:
    """Describe every invalid row of a list of members, which has the `line` of each row."""
    ordered = members.sort("symbol", "member_from", nulls_last=True).with_columns(
        before_until=pl.col("member_until").shift().over("symbol"),
        before_line=pl.col("line").shift().over("symbol"),
    )
    problems = [problem for row in ordered.iter_rows(named=True) if (problem := _problem(row))]
    return [text for _, text in sorted(problems)]


def _problem(row: dict[str, object]) -> tuple[int, str] | None:
    line, symbol, first, until = (row[name] for name in ("line", "symbol", "member_from", "member_until"))
    assert isinstance(line, int)  # noqa: S101 (every row stands in a line)
    if not symbol:
        return line, f"line {line}: the symbol is missing"
    if first is None:
        return line, f"line {line}: {symbol} has no member_from; expected a date such as 2018-06-26"
    if until is not None and until <= first:  # type: ignore[operator]
        return line, f"line {line}: {symbol} leaves on {until}, not after {first}, when it joined"
    before, before_line = row["before_until"], row["before_line"]
    if before_line is not None and (before is None or before > first):  # type: ignore[operator]
        ended = f"until {before}" if before else "without an end"
        return line, f"line {line}: {symbol} joins on {first}, and belongs already, {ended}, by line {before_line}"
    return None


def require_members(members: pl.DataFrame, source: str) -> None:
    """Stop unless every row is valid and there is one; `members` as for `check_members`.

    Raises PanelContractError with every problem and its line.
    """
    problems = check_members(members)
    if problems or members.is_empty():
        listed = "".join(f"\n  {problem}" for problem in problems) or (
            "\n  it has no rows; to forget all of them: boursomatic universe members clear"
        )
        message = (
            f"{source} cannot be used as a list of members; nothing was changed:{listed}\n"
            "Expected the columns symbol,member_from,member_until; member_until is the first date on which it no "
            "longer belongs, empty while it does"
        )
        raise PanelContractError(message)
