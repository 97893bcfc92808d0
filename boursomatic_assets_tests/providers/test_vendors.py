"""EODHD and Tiingo, at local servers that answer in their shape."""

from __future__ import annotations

import logging
from datetime import date
from typing import TYPE_CHECKING, Any

import httpx
import polars as pl
import pytest

from boursomatic_assets.core.market.bars import BAR_SCHEMA, PRICE_COLUMNS, check_bars
from boursomatic_assets.core.market.corporate_actions import ADJUSTMENT_SCHEMA, apply_adjustments
from boursomatic_assets.core.market.vendor_actions import ACTION_SCHEMA, applied_ratios
from boursomatic_assets.errors import NoBarsError, SourceFailedError, SymbolNotFoundError
from boursomatic_assets.providers.eodhd import EodhdSource, eodhd_provider
from boursomatic_assets.providers.fetching import FetchedProvider
from boursomatic_assets.providers.retry_policy import Pace, PassingFailureError, RetryPolicy
from boursomatic_assets.providers.source import BarRequest, Outcome
from boursomatic_assets.providers.tiingo import TiingoSource, tiingo_provider
from boursomatic_assets.providers.web import MOST_REDIRECTS, Web, web_of
from boursomatic_assets.settings import Settings
from boursomatic_assets_tests.support.fake_sources import FakeSources, Fault, weekday_bars
from boursomatic_assets_tests.support.fake_vendors import vendor_adjusted
from boursomatic_assets_tests.support.mock_web import mock_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "open+sesame/42"
VENDORS = ("eodhd", "tiingo")
SYMBOLS = ("AAPL", "BRK.B", "MC.PA")
FIRST, LAST = date(2024, 1, 10), date(2024, 3, 15)
# Weekdays from Monday 2024-01-01 on. Dividends on the 15th of January and the 1st of March, 4 for 1 on 1 February.
PAID, SPLIT, PAID_AGAIN = date(2024, 1, 15), date(2024, 2, 1), date(2024, 3, 1)


def raw(symbols: tuple[str, ...] = SYMBOLS) -> pl.DataFrame:
    """Raw bars that close at 100, 101, … and from the split on at a quarter of that."""
    shares = pl.when(pl.col("session") < SPLIT).then(1.0).otherwise(4.0)
    bars = weekday_bars(symbols, date(2024, 1, 1), 60)
    return bars.with_columns(
        *(pl.col(name) / shares for name in PRICE_COLUMNS),
        volume=pl.col("volume") * shares,
        split=pl.when(pl.col("session") == SPLIT).then(4.0),
        dividend=pl.when(pl.col("session") == PAID).then(2.0).when(pl.col("session") == PAID_AGAIN).then(0.25),
    )


BARS = raw()


@pytest.fixture
def sources() -> Iterator[FakeSources]:
    with FakeSources(BARS, retry_after="0") as sources:
        yield sources


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=600) as client:
        yield client


def source_of(vendor: str, web: Web) -> EodhdSource | TiingoSource:
    return EodhdSource(web, KEY) if vendor == "eodhd" else TiingoSource(web, KEY)


@pytest.fixture(params=VENDORS)
def vendor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def source(vendor: str, client: httpx.Client, sources: FakeSources) -> EodhdSource | TiingoSource:
    return source_of(vendor, Web(client, Pace(1000), sources.address, (KEY,)))


def request(symbol: str = "AAPL", first: date | None = FIRST, currency: str | None = "USD") -> BarRequest:
    return BarRequest(symbol, "XNYS", first, LAST, currency)


def adjusted(fetched: pl.DataFrame) -> pl.DataFrame:
    """Fetched bars as they are read: scaled by the actions that came with them."""
    actions = fetched.drop_nulls("ratio").select(list(ACTION_SCHEMA))
    ratios = applied_ratios(pl.DataFrame(schema=ADJUSTMENT_SCHEMA), actions)
    return apply_adjustments(fetched.select(list(BAR_SCHEMA)), ratios)


def test_raw_bars_arrive_as_they_were_traded(source: EodhdSource | TiingoSource) -> None:
    for first in (FIRST, None):
        fetched = source.fetch(request("BRK.B", first))
        expected = BARS.filter(pl.col("session").is_between(first or date(2024, 1, 1), LAST), symbol="BRK.B")
        assert fetched.select(list(BAR_SCHEMA)).equals(expected.select(list(BAR_SCHEMA)))
        assert fetched["doubt"].null_count() == fetched.height


def test_splits_and_dividends_become_ratios(source: EodhdSource | TiingoSource) -> None:
    actions = source.fetch(request()).drop_nulls("ratio")
    # Monday the 15th is the eleventh weekday; the tenth closed at 109: 1 - 2/109.
    # Friday 1 March is the 45th; the 44th closed at (100 + 43)/4 = 35.75: 1 - 0.25/35.75.
    assert actions.select("session", "split", "dividend").rows() == [
        (PAID, 1.0, 2.0),
        (SPLIT, 4.0, 0.0),
        (PAID_AGAIN, 1.0, 0.25),
    ]
    assert actions["ratio"].to_list() == pytest.approx([1 - 2 / 109, 0.25, 1 - 0.25 / 35.75], rel=1e-12)


def test_bars_as_they_are_read_are_the_vendors_adjusted_ones(source: EodhdSource | TiingoSource) -> None:
    found, wanted = (
        adjusted(source.fetch(request(first=None))),
        vendor_adjusted(BARS.filter(pl.col("session") <= LAST, symbol="AAPL")),
    )
    assert found["session"].equals(wanted["session"])
    for name in (*PRICE_COLUMNS, "volume"):
        assert found[name].to_list() == pytest.approx(wanted[name].to_list(), rel=1e-12), name
    # By hand, for 1 January: 100 * (1 - 2/109) / 4 * (1 - 0.25/35.75), and 1000 shares that are 4000 today.
    assert found["close"][0] == pytest.approx(100 * (107 / 109) / 4 * (35.5 / 35.75), rel=1e-12)
    assert found["volume"][0] == 4000.0


def test_a_split_after_the_last_bar_requested_leaves_volumes_as_they_were_traded(
    source: EodhdSource | TiingoSource,
) -> None:
    early = BarRequest("AAPL", "XNYS", None, date(2024, 1, 31), "USD")
    assert source.fetch(early)["volume"].unique().to_list() == [1000.0]


def test_the_dates_and_the_key_are_asked_for(
    vendor: str, source: EodhdSource | TiingoSource, sources: FakeSources
) -> None:
    source.fetch(request("BRK.B"))
    asked = sources.asked(vendor, "BRK.B")
    assert {request["query"]["key"] for request in asked} == {KEY}
    # two weeks before the 10th of January, for the close before the first bar
    expected = {
        "eodhd": [
            ("eod", {"from": "2023-12-27", "to": "2024-03-15", "period": "d", "order": "a", "fmt": "json"}),
            ("splits", {"from": "2023-12-27", "fmt": "json"}),
            ("div", {"from": "2023-12-27", "fmt": "json"}),
        ],
        "tiingo": [("prices", {"startDate": "2023-12-27", "endDate": "2024-03-15", "format": "json"})],
    }
    hidden = {"key", "host", "table", "api_token"}
    found = [(r["query"]["table"], {k: v for k, v in r["query"].items() if k not in hidden}) for r in asked]
    assert found == expected[vendor]


def test_a_euronext_symbol_is_one_of_eodhds_and_none_of_tiingos(client: httpx.Client, sources: FakeSources) -> None:
    web = Web(client, Pace(1000), sources.address, (KEY,))
    assert EodhdSource(web, KEY).fetch(request("MC.PA")).height
    with pytest.raises(SymbolNotFoundError, match=r"only symbols of the US have a name there, not MC\.PA"):
        TiingoSource(web, KEY).fetch(request("MC.PA"))
    with pytest.raises(SymbolNotFoundError, match=r"not VOD\.L"):
        EodhdSource(web, KEY).fetch(request("VOD.L"))
    assert not sources.asked("tiingo")


def test_a_dividend_in_another_currency_is_taken_from_the_adjusted_close(
    client: httpx.Client, sources: FakeSources
) -> None:
    source = EodhdSource(Web(client, Pace(1000), sources.address, (KEY,)), KEY)
    actions = source.fetch(request("MC.PA", currency="EUR")).drop_nulls("ratio")
    assert actions.select("session", "dividend").rows()[0] == (PAID, 0.0)
    # four decimals of an adjusted close near 27
    assert actions["ratio"][0] == pytest.approx(1 - 2 / 109, abs=1e-5)
    assert "without a split or a dividend" in actions["doubt"][0]


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (Fault.NOT_FOUND, SymbolNotFoundError, "answered 404: '.*[Nn]ot [Ff]ound"),
        (Fault.EMPTY, NoBarsError, "no bars from 2024-01-10 to 2024-03-15"),
        (Fault.MISSING_KEYS, SourceFailedError, "expected 'volume' in every row; .* lack it"),
        (Fault.LIMIT_REACHED, SourceFailedError, "allows no more requests for now: '.*request"),
        (Fault.UNKNOWN_KEY, SourceFailedError, "answered 401, does not know the key of BOURSOMATIC_.*_KEY"),
        (Fault.REDIRECTED, SourceFailedError, "redirects to another host, localhost; it is not asked there"),
        (Fault.PAGE, PassingFailureError, "expected JSON; found '<!DOCTYPE html>"),
        (Fault.SERVER_ERROR, PassingFailureError, "answered 500"),
        (Fault.TOO_MANY, PassingFailureError, "answered 429"),
        (Fault.HALF_BODY, PassingFailureError, "RemoteProtocolError"),
        (Fault.DROPPED, PassingFailureError, "RemoteProtocolError"),
    ],
)
def test_each_cause_has_an_error_of_its_own_and_none_repeats_the_key(
    source: EodhdSource | TiingoSource,
    sources: FakeSources,
    fault: Fault,
    error: type[Exception],
    message: str,
) -> None:
    sources.faults = {f"{source.name}/AAPL": fault}
    with pytest.raises(error, match=message) as caught:
        source.fetch(request())
    assert caught.type is error
    assert "sesame" not in str(caught.value)
    assert source.fetch(request("BRK.B")).height


def test_the_key_goes_to_no_other_host(
    vendor: str, source: EodhdSource | TiingoSource, sources: FakeSources
) -> None:
    sources.faults = {f"{vendor}/AAPL": Fault.REDIRECTED}
    with pytest.raises(SourceFailedError):
        source.fetch(request())
    assert {request["query"]["host"] for request in sources.requests} == {f"127.0.0.1:{sources.port}"}


def test_no_log_holds_the_key(vendor: str, sources: FakeSources, caplog: pytest.LogCaptureFixture) -> None:
    variables = {
        "BOURSOMATIC_GATEWAY": sources.address,
        "BOURSOMATIC_EODHD_KEY": KEY,
        "BOURSOMATIC_TIINGO_KEY": KEY,
    }
    settings = Settings.from_environment(variables)
    with caplog.at_level(logging.DEBUG):
        source_of(vendor, web_of(settings, 1000)).fetch(request())
    assert sources.asked(vendor, "AAPL")
    assert "sesame" not in caplog.text
    assert "sesame" not in repr(settings)


@pytest.mark.parametrize(
    ("build", "variable", "rate"),
    [(eodhd_provider, "BOURSOMATIC_EODHD_KEY", 15.0), (tiingo_provider, "BOURSOMATIC_TIINGO_KEY", 2.5)],
)
def test_the_settings_build_the_vendor_at_its_documented_rate(
    sources: FakeSources,
    monkeypatch: pytest.MonkeyPatch,
    build: Callable[[Settings], FetchedProvider],
    variable: str,
    rate: float,
) -> None:
    rates: list[float] = []

    class NotedPace(Pace):
        def __init__(self, requests_per_second: float) -> None:
            rates.append(requests_per_second)
            super().__init__(1000)

    monkeypatch.setattr("boursomatic_assets.providers.web.Pace", NotedPace)
    provider = build(Settings.from_environment({"BOURSOMATIC_GATEWAY": sources.address, variable: KEY}))
    (batch,) = provider.batches([request()])
    assert batch.reports[0].outcome is Outcome.FETCHED
    assert rates == [rate]


def test_a_batch_keeps_actions_beside_its_bars_and_doubts_in_its_report(
    vendor: str, client: httpx.Client, sources: FakeSources
) -> None:
    web = Web(client, Pace(1000), sources.address, (KEY,))
    provider = FetchedProvider((source_of(vendor, web),), pl.DataFrame)
    (batch,) = provider.batches([request("AAPL"), request("BRK.B")])
    assert batch.bars.columns == list(BAR_SCHEMA)
    assert batch.actions.schema == ACTION_SCHEMA
    assert batch.actions.group_by("symbol").len().sort("symbol").rows() == [("AAPL", 3), ("BRK.B", 3)]
    assert not batch.adjusted
    assert {report.detail for report in batch.reports} == {""}
    assert check_bars(batch.bars, LAST).rejected.is_empty()


def test_an_attempt_asks_only_for_what_failed(sources: FakeSources, client: httpx.Client) -> None:
    # the second request fails, then the fourth, which is for the third table
    sources.faults = {"eodhd/AAPL": ["", Fault.PAGE, "", Fault.PAGE]}
    provider = FetchedProvider(
        (EodhdSource(Web(client, Pace(1000), sources.address, (KEY,)), KEY),),
        pl.DataFrame,
        RetryPolicy(pause=lambda _: None),
    )
    for _ in range(2):
        (batch,) = provider.batches([request()])
        assert batch.reports[0].outcome is Outcome.FETCHED
    tables = [request["query"]["table"] for request in sources.requests]
    assert tables == ["eod", "splits", "splits", "div", "div", "eod", "splits", "div"]


def test_an_allowance_that_is_used_up_is_not_asked_again(
    vendor: str, client: httpx.Client, sources: FakeSources
) -> None:
    sources.faults = {f"{vendor}/*": Fault.LIMIT_REACHED}
    pauses: list[float] = []
    web = Web(client, Pace(1000), sources.address, (KEY,))
    provider = FetchedProvider((source_of(vendor, web),), pl.DataFrame, RetryPolicy(pause=pauses.append))
    (delivery,) = provider.batches([request()])
    assert delivery.reports[0].outcome is Outcome.SOURCE_FAILED
    assert "allows no more requests for now" in delivery.reports[0].detail
    assert (len(sources.requests), pauses) == (1, [])


def answering(body: Any, status: int = 200, **headers: str) -> httpx.Client:  # noqa: ANN401 (JSON)
    reply = httpx.Response(status, json=body, headers=headers)
    return mock_client(lambda _: reply)


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (402, "Payment Required", "answered 402, the plan of the key BOURSOMATIC_TIINGO_KEY does not include this"),
        (403, {"detail": "no permission"}, "answered 403, the plan of the key"),
        (418, "a teapot", "answered 418: '\"a teapot\"'"),
        (200, {"detail": "odd"}, "expected a JSON array of objects"),
        (200, [{"date": "soon", "adjClose": 1.0}], "expected 'open' in every row; 1 of 1 lack it"),
        (
            200,
            [dict.fromkeys(("open", "high", "low", "close", "volume", "adjClose"), 1.0) | {"date": "soon"}],
            "expected dates such as 2024-01-31; found Invalid isoformat string: 'soon'",
        ),
    ],
)
def test_an_answer_of_another_shape_is_the_sources_failure(status: int, body: Any, message: str) -> None:  # noqa: ANN401
    with answering(body, status) as client, pytest.raises(SourceFailedError, match=message):
        TiingoSource(Web(client, Pace(1000)), KEY).fetch(request())


def test_what_is_no_number_is_left_to_the_bar_contract() -> None:
    row = dict.fromkeys(("open", "high", "low", "close", "volume", "adjClose"), 10.0) | {
        "splitFactor": 1.0,
        "divCash": 0.0,
    }
    rows = [row | {"date": "2024-01-10"}, row | {"date": "2024-01-11", "close": None, "open": "n/a"}]
    with answering(rows) as client:
        fetched = TiingoSource(Web(client, Pace(1000)), KEY).fetch(request())
    assert check_bars(fetched.select(list(BAR_SCHEMA)), LAST).rejected["session"].to_list() == [date(2024, 1, 11)]


def test_an_action_of_a_row_that_is_sent_twice_counts_once() -> None:
    names = ("open", "high", "low", "close", "volume")
    before = dict.fromkeys((*names, "adjClose"), 40.0) | {"splitFactor": 1.0, "divCash": 0.0, "adjClose": 10.0}
    after = dict.fromkeys((*names, "adjClose"), 10.0) | {"splitFactor": 4.0, "divCash": 0.0}
    rows = [before | {"date": "2024-01-10"}, *[after | {"date": "2024-01-11"}] * 2]
    with answering(rows) as client:
        provider = FetchedProvider((TiingoSource(Web(client, Pace(1000)), KEY),), pl.DataFrame)
        (batch,) = provider.batches([request()])
    assert batch.bars.height == 3
    assert batch.actions.rows() == [("AAPL", date(2024, 1, 11), 4.0, 0.0, 0.25)]


@pytest.mark.parametrize("split", ["4:1", "4/0", "none"])
def test_a_split_that_cannot_be_read_is_the_sources_failure(split: str) -> None:
    bar = dict.fromkeys(("open", "high", "low", "close", "volume", "adjusted_close"), 10.0)

    def answer(request: httpx.Request) -> httpx.Response:
        rows = {"eod": bar, "splits": {"split": split}, "div": {}}[request.url.path.split("/")[2]]
        return httpx.Response(200, json=[rows | {"date": "2024-01-10"}])

    with mock_client(answer) as client:
        source = EodhdSource(Web(client, Pace(1000)), KEY)
        with pytest.raises(SourceFailedError, match=r"expected splits such as 4\.000000/1\.000000"):
            source.fetch(request())


def test_redirects_within_the_host_are_followed_and_end() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        place = int(request.url.params["at"])
        if place == MOST_REDIRECTS - 1:
            return httpx.Response(200, text="here")
        return httpx.Response(302, headers={"Location": f"/?at={place + 1}"})

    with mock_client(answer) as client:
        web = Web(client, Pace(1000))
        assert web.get("https://prices.example/", {"at": "0"}).text == "here"
        with pytest.raises(SourceFailedError, match="redirects more than 5 times"):
            web.get("https://prices.example/", {"at": "-1"})


@pytest.mark.parametrize("place", ["http://prices.example/", "https://prices.example:8443/", "https://x.example/"])
def test_another_scheme_port_or_host_is_another_host(place: str) -> None:
    with (
        answering("", 302, Location=place) as client,
        pytest.raises(SourceFailedError, match="redirects to another host"),
    ):
        Web(client, Pace(1000)).get("https://prices.example/", {})


def test_a_key_is_hidden_however_it_is_written() -> None:
    body = "open+sesame/42 open%2Bsesame%2F42 open+sesame"
    with answering(body) as client:
        said = Web(client, Pace(1000), secrets=[KEY]).get("https://prices.example/", {}).text
    assert said == '"*** *** open+sesame"'
