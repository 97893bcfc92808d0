from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.market.bars import BAR_SCHEMA
from boursomatic_assets.core.market.corporate_actions import ADJUSTMENT_SCHEMA
from boursomatic_assets.core.market.usable_bars import usable_bars

SCHEMA = {**BAR_SCHEMA, "exchange": pl.String()}
NONE_ENTERED = pl.DataFrame(schema=ADJUSTMENT_SCHEMA)
# Both were holidays of New York and of Euronext; of the Thursday between, only New York's.
CHRISTMAS, INDEPENDENCE_DAY = date(2024, 12, 25), date(2024, 7, 4)
SUNDAY, MONDAY, TUESDAY = date(2024, 7, 7), date(2024, 7, 8), date(2024, 7, 9)


def bar(
    symbol: str, session: date, exchange: str | None, volume: float = 100.0, price: float = 10.0
) -> pl.DataFrame:
    row = (symbol, session, price, price, price, price, volume, exchange)
    return pl.DataFrame([row], schema=SCHEMA, orient="row")


@pytest.mark.parametrize(
    ("session", "exchange", "volume", "is_usable"),
    [
        (CHRISTMAS, "XNYS", 0.0, False),
        (CHRISTMAS, "XPAR", 0.0, False),
        (INDEPENDENCE_DAY, "XNYS", 0.0, False),
        (INDEPENDENCE_DAY, "XPAR", 0.0, True),
        (SUNDAY, "NASDAQ", 0.0, False),
        (MONDAY, "XNYS", 0.0, True),
        # with a volume, whatever the calendar says
        (CHRISTMAS, "XNYS", 1.0, True),
        (SUNDAY, "XPAR", 1.0, True),
        # nothing is known of the exchange
        (SUNDAY, "XLON", 0.0, True),
        (SUNDAY, None, 0.0, True),
    ],
)
def test_usable_bars_leave_out_rows_filled_in_without_a_session(
    session: date, exchange: str | None, volume: float, *, is_usable: bool
) -> None:
    panel = pl.concat([bar("AAA", date(2024, 1, 3), exchange), bar("AAA", session, exchange, volume)])
    assert usable_bars(panel, NONE_ENTERED, []).equals(panel.head(1 + is_usable))


def test_usable_bars_leave_out_quarantined_symbols() -> None:
    panel = pl.concat([bar(symbol, day, "XNYS") for symbol in ("AAA", "BBB") for day in (MONDAY, TUESDAY)])
    assert usable_bars(panel, NONE_ENTERED, ["AAA", "ZZZ"]).equals(panel[2:])
    assert usable_bars(panel, NONE_ENTERED, ["AAA", "BBB"]).equals(panel.clear())
    assert usable_bars(panel.clear(), NONE_ENTERED, ["AAA"]).equals(panel.clear())


def test_usable_bars_are_adjusted() -> None:
    panel = pl.concat(
        [bar("AAA", date(2024, 7, 5), "XNYS"), bar("AAA", SUNDAY, "XNYS", 0.0), bar("AAA", TUESDAY, "XNYS")]
    )
    split = pl.DataFrame([("AAA", MONDAY, 0.5)], schema=ADJUSTMENT_SCHEMA, orient="row")
    found = usable_bars(panel, split, [])
    # before the split 10 * 0.5 = 5 and 100 / 0.5 = 200; Sunday's row was filled in
    assert found.select("session", "open", "close", "volume").rows() == [
        (date(2024, 7, 5), 5.0, 5.0, 200.0),
        (TUESDAY, 10.0, 10.0, 100.0),
    ]
    assert found.columns == panel.columns


def test_usable_bars_begin_with_the_first_trade() -> None:
    volumes = {8: 0.0, 9: 0.0, 10: 3.0, 11: 0.0}
    panel = pl.concat(bar("AAA", date(2024, 7, day), "XPAR", volume) for day, volume in volumes.items())
    assert usable_bars(panel, NONE_ENTERED, []).equals(panel[2:])
    # of an exchange without a calendar too; but an index, which never has a volume, stays whole
    unknown = panel.with_columns(exchange=pl.lit(None, pl.String))
    assert usable_bars(unknown, NONE_ENTERED, []).equals(unknown[2:])
    index = panel.with_columns(volume=pl.lit(0.0))
    assert usable_bars(index, NONE_ENTERED, []).equals(index)


# From 3 June to 31 August 2024 New York was closed on two weekdays, Euronext on none.
SUMMER = [date(2024, 6, 3) + timedelta(days) for days in range(90)]
CLOSED = {"XNYS": {date(2024, 6, 19), INDEPENDENCE_DAY}, "XBRU": set[date](), "XLON": None}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["AAA", "BBB", "CCC"]), st.sampled_from(SUMMER), st.sampled_from([0.0, 0.0, 5.0])
        ),
        max_size=40,
        unique_by=lambda row: row[:2],
    ),
    st.sets(st.sampled_from(["AAA", "BBB", "CCC"]), max_size=2),
)
def test_usable_bars_agree_with_a_loop(rows: list[tuple[str, date, float]], quarantined: set[str]) -> None:
    exchange_of = dict(zip(["AAA", "BBB", "CCC"], CLOSED, strict=True))
    panel = pl.concat(
        [
            pl.DataFrame(schema=SCHEMA),
            *(bar(symbol, day, exchange_of[symbol], volume) for symbol, day, volume in sorted(rows)),
        ]
    )
    kept = []
    first_trades = {symbol: min(days) for symbol in exchange_of if (days := traded_days(rows, symbol))}
    for symbol, day, volume in sorted(rows):
        holidays = CLOSED[exchange_of[symbol]]
        closed = holidays is not None and (day.weekday() >= 5 or day in holidays)
        # the price never changes here: rows before a first trade were filled in
        waiting = day < first_trades.get(symbol, day)
        if symbol not in quarantined and not (closed and volume == 0) and not waiting:
            kept.append((symbol, day, volume))
    found = usable_bars(panel, NONE_ENTERED, sorted(quarantined))
    assert found.select("symbol", "session", "volume").rows() == kept


def traded_days(rows: list[tuple[str, date, float]], symbol: str) -> list[date]:
    return [day for name, day, volume in rows if name == symbol and volume > 0]
