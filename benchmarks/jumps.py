"""Recall and precision of the jump detection on real prices with planted splits and spin-offs.

    python -m benchmarks.jumps ../shared/data

Each symbol of a split-free panel gets one event at a random session: earlier prices, and for splits earlier
volumes, are stated in old shares. Volume and range of the session itself are raised as on such days. The thresholds
were fitted on the even half of the symbols; results are of the odd half. Jumps of the panel itself count as false,
even real spin-offs.
"""

from __future__ import annotations

import math
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from boursomatic_assets.core.market.adjusted_close import scale_to_adjusted
from boursomatic_assets.core.market.bars import BAR_SCHEMA, PRICE_COLUMNS, CheckedBars, check_bars
from boursomatic_assets.core.market.corporate_actions import doubtful_steps, split_like_jumps
from boursomatic_assets.core.market.isolated_prices import set_aside_isolated

if TYPE_CHECKING:
    from collections.abc import Sequence

PANELS = {
    "S&P 500, 2013-18": "us_sp500_2013_2018.parquet",
    "members, 2000-16": "us_sp500_members_2000_2016.parquet",
    "Europe, 1989-2017": "europe_1989_2017.parquet",
}
# New price over old one, and how often among splits.
SPLITS = {
    1 / 2: 30, 2 / 3: 14, 1 / 3: 8, 4 / 5: 5, 3 / 4: 4, 1 / 4: 4, 1 / 5: 2, 1 / 7: 2, 1 / 10: 2, 1 / 20: 2,
    1 / 9: 1, 1 / 13: 1, 2.0: 2, 4.0: 2, 5.0: 3, 8.0: 3, 10.0: 8, 15.0: 2, 20.0: 4, 60.0: 1, 250.0: 1,
}  # fmt: skip
STOCK_DIVIDENDS = {1 / 1.05: 1, 1 / 1.1: 1}
SPIN_OFF = (0.4, 0.9)
# Log lift of volume and of range on the session itself: mean and deviation.
SPLIT_LIFT, SPIN_OFF_LIFT = ((0.25, 0.5), (0.1, 0.25)), ((1.1, 0.4), (0.7, 0.4))
EARLIEST, FEWEST, LATEST = 30, 100, 5
SESSIONS_A_YEAR = 252
# One event per symbol and seed; a small panel is planted more often, so that chance moves its recall by little.
FIRST_SEED, FEWEST_SEEDS, ENOUGH_EVENTS = 11, 3, 700


def read(path: Path) -> pl.DataFrame:
    """A panel as an update reads it: scaled to the adjusted close, checked, without isolated prices."""
    raw = pl.read_parquet(path).rename({"date": "session"}).with_columns(pl.col("session").cast(pl.Date))
    prices = [pl.col(name).cast(pl.Float64) for name in (*PRICE_COLUMNS, "volume")]
    typed = raw.with_columns(*prices)
    scaled = scale_to_adjusted(typed) if "adj_close" in typed.columns else typed
    newest = scaled["session"].max()
    return set_aside_isolated(check_bars(scaled, newest)).accepted  # type: ignore[arg-type]


def plant(bars: pl.DataFrame, kind: str, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Plant one event per symbol; returns the bars, and `symbol`, `session`, `planted` of the events.

    `kind` is "split", "split, volume as it was", "stock dividend" or "spin-off".
    """
    rng = np.random.default_rng(seed)
    columns = {name: bars[name].to_numpy().copy() for name in (*PRICE_COLUMNS, "volume")}
    begins = np.flatnonzero((bars["symbol"] != bars["symbol"].shift(1)).fill_null(value=True).to_numpy())
    events = []
    for first, end in zip(begins, np.append(begins[1:], bars.height), strict=True):
        if end - first < FEWEST:
            continue
        at = int(rng.integers(first + EARLIEST, end - LATEST))
        ratio = _ratio(rng, kind)
        for name in PRICE_COLUMNS:
            columns[name][first:at] /= ratio
        if kind in {"split", "stock dividend"}:
            columns["volume"][first:at] *= ratio
        volume, spread = SPIN_OFF_LIFT if kind == "spin-off" else SPLIT_LIFT
        columns["volume"][at] *= np.exp(rng.normal(*volume))
        wider = np.log(columns["high"][at] / columns["low"][at]) * np.expm1(abs(rng.normal(*spread))) / 2
        columns["high"][at] *= np.exp(wider)
        columns["low"][at] *= np.exp(-wider)
        events.append((bars["symbol"][int(first)], bars["session"][at], ratio))
    schema = {"symbol": pl.String, "session": pl.Date, "planted": pl.Float64}
    planted = bars.with_columns(pl.Series(name, values) for name, values in columns.items())
    return planted, pl.DataFrame(events, schema=schema, orient="row")


def _ratio(rng: np.random.Generator, kind: str) -> float:
    if kind == "spin-off":
        return float(rng.uniform(*SPIN_OFF))
    table = STOCK_DIVIDENDS if kind == "stock dividend" else SPLITS
    weights = np.array(list(table.values()), dtype=np.float64)
    return float(rng.choice(list(table), p=weights / weights.sum()))


def found_in(bars: pl.DataFrame) -> pl.DataFrame:
    """Jumps as an update finds them."""
    checked = set_aside_isolated(CheckedBars(bars, bars.clear().with_columns(reason=pl.lit(None, pl.String))))
    return split_like_jumps(checked.accepted)


def held_out(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of the symbols that no threshold was fitted on."""
    odd = [zlib.crc32(symbol.encode()) % 2 == 1 for symbol in frame["symbol"].to_list()]
    return frame.filter(pl.Series(odd, dtype=pl.Boolean))


def measure(bars: pl.DataFrame, kind: str) -> dict[str, Any]:
    """Recall and precision on the held-out half, over some seeds."""
    events = hits = false = 0
    seeds = max(FEWEST_SEEDS, math.ceil(ENOUGH_EVENTS / held_out(bars.select("symbol").unique()).height))
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        planted, truth = plant(bars, kind, seed)
        truth, detected = held_out(truth), held_out(found_in(planted))
        key = ["symbol", "session"]
        events += truth.height
        hits += truth.join(detected, on=key, how="semi").height
        false += detected.join(truth, on=key, how="anti").height
    precision = hits / (hits + false) if hits + false else None
    return {"events": events, "recall": hits / events, "precision": precision, "false": false}


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table; the argument is the folder of the panels."""
    console, folder = Console(), Path(*(arguments or sys.argv[1:2] or ["../shared/data"]))
    table = Table("Panel", "Planted", "Events", "Recall", "Precision", "Seconds")
    listed = []
    for name, file in PANELS.items():
        bars = read(folder / file).select(list(BAR_SCHEMA))
        for kind in ("split", "split, volume as it was", "spin-off", "stock dividend"):
            begun = time.perf_counter()
            said = measure(bars, kind)
            table.add_row(
                name, kind, f"{said['events']:,}", f"{said['recall']:.3f}",
                "none found" if said["precision"] is None else f"{said['precision']:.3f}",
                f"{time.perf_counter() - begun:.1f}",
            )  # fmt: skip
        decades = bars.height / SESSIONS_A_YEAR / 10
        listed.append((name, decades, split_like_jumps(bars), doubtful_steps(bars)))
    console.print(table)
    for name, decades, jumps, doubtful in listed:
        console.print(f"{name}, as it is: {jumps.height} jumps in {decades:,.0f} symbols and decades")
        for word, frame in (("jump", jumps), ("doubtful", doubtful)):
            for symbol, session, ratio, _ in frame.rows():
                console.print(f"  {word} {symbol} {session} {ratio:.4f}", highlight=False)


if __name__ == "__main__":
    main()
