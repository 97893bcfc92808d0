"""Hostile answers of every source: too large, without an end, nested, or with what must not be repeated."""

from __future__ import annotations

import gzip
import zlib
from base64 import b64encode
from datetime import date
from typing import TYPE_CHECKING

import polars as pl
import pytest

from boursomatic_assets.errors import SourceFailedError
from boursomatic_assets.providers import web
from boursomatic_assets.providers.fetching import FetchedProvider
from boursomatic_assets.providers.limits import MOST_BYTES, MOST_PARTS, TooMuchError, unpacked
from boursomatic_assets.providers.registry import provider_for
from boursomatic_assets.providers.retry_policy import RetryPolicy
from boursomatic_assets.providers.source import BarRequest, Outcome
from boursomatic_assets.settings import Settings
from boursomatic_assets_tests.support.fake_sources import FakeSources, Fault, weekday_bars

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


KEY = "open+sesame/42"
WISH = BarRequest("AAPL", "XNYS", date(2024, 1, 10), date(2024, 1, 31))
BARS = weekday_bars(("AAPL",), date(2024, 1, 1), 30).with_columns(adj_close=pl.col("close"))


@pytest.fixture
def sources() -> Iterator[FakeSources]:
    with FakeSources(BARS, retry_after="0") as sources:
        yield sources


@pytest.fixture(params=["yahoo", "stooq", "eodhd", "tiingo"])
def provider(request: pytest.FixtureRequest, sources: FakeSources, tmp_path: Path) -> FetchedProvider:
    """Each source alone, through a gateway whose address holds a password and a token."""
    settings = Settings.from_environment(
        {
            "BOURSOMATIC_HOME": str(tmp_path),
            "BOURSOMATIC_PROVIDER": request.param,
            "BOURSOMATIC_GATEWAY": f"http://me:hush%2F@127.0.0.1:{sources.port}",
            "BOURSOMATIC_REQUESTS_PER_SECOND": "1000",
            **{f"BOURSOMATIC_{name}_KEY": KEY for name in ("STOOQ", "EODHD", "TIINGO")},
        }
    )
    made = provider_for(settings)
    assert isinstance(made, FetchedProvider)
    return FetchedProvider(made.sources[:1], made.universe, RetryPolicy(attempts=1), secrets=made.secrets)


def said(provider: FetchedProvider) -> str:
    (delivery,) = provider.batches([WISH])
    (report,) = delivery.reports
    assert report.outcome is Outcome.SOURCE_FAILED, report
    return report.detail


def fail(provider: FetchedProvider, sources: FakeSources, fault: Fault) -> str:
    sources.faults = {f"{provider.sources[0].name}/*": fault}
    return said(provider)


def test_the_sources_answer_without_a_fault(provider: FetchedProvider) -> None:
    (delivery,) = provider.batches([WISH])
    assert delivery.reports[0].outcome is Outcome.FETCHED


def test_an_answer_that_unpacks_to_64_mb_is_not_read(provider: FetchedProvider, sources: FakeSources) -> None:
    assert "answers with more than 32 MiB" in fail(provider, sources, Fault.BOMB)


@pytest.mark.parametrize("fault", [Fault.DRIP, Fault.HEADER_DRIP])
def test_an_answer_without_an_end_is_given_up(
    provider: FetchedProvider, sources: FakeSources, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each byte arrives long before the limit for the next one.
    monkeypatch.setattr(web, "SECONDS_IN_ALL", 0.3)
    session = getattr(provider.sources[0], "_session", None)
    if session is not None:
        session._seconds_to_answer = 0.3  # noqa: SLF001 (there is no setting)
    detail = fail(provider, sources, fault)
    # Between two reads, or during one.
    assert "the answer has no end after 0.3 s" in detail or "timed out" in detail


def test_nested_json_is_the_sources_failure(provider: FetchedProvider, sources: FakeSources) -> None:
    assert "expected" in fail(provider, sources, Fault.NESTED)


def test_more_rows_than_bars_can_have_are_not_parsed(provider: FetchedProvider, sources: FakeSources) -> None:
    assert f"more than {MOST_PARTS:,} rows" in fail(provider, sources, Fault.ROWS)


def test_no_report_repeats_a_key_or_the_gateways_login(provider: FetchedProvider, sources: FakeSources) -> None:
    detail = fail(provider, sources, Fault.ECHO)
    assert "403" in detail
    for secret in ("sesame", "hush", b64encode(b"me:hush/").decode()):
        assert secret not in detail


def test_no_redirect_takes_a_key_or_a_login_to_another_host(
    provider: FetchedProvider, sources: FakeSources
) -> None:
    sources.faults = {f"{provider.sources[0].name}/*": [Fault.REDIRECTED]}
    (delivery,) = provider.batches([WISH])
    first, *more = sources.requests
    assert first["login"]
    if provider.sources[0].name == "yahoo":
        # It has no key; the gateway's login stays with the gateway.
        assert [request["login"] for request in more] == [""]
    else:
        assert more == []
        assert "redirects to another host" in delivery.reports[0].detail


def test_what_an_answer_breaks_is_the_failure_of_its_symbol() -> None:
    class Broken:
        name = "broken"

        def fetch(self, request: BarRequest) -> pl.DataFrame:
            message = f"{request.symbol}\x1b[31m\n{KEY}{'x' * 5_000}"
            raise KeyError(message)

    (delivery,) = FetchedProvider((Broken(),), pl.DataFrame, secrets=(KEY,)).batches([WISH])
    detail = delivery.reports[0].detail
    assert detail.startswith("broken: sent what cannot be read: KeyError: 'AAPL")
    assert detail.isprintable()
    assert "sesame" not in detail
    assert len(detail) <= 2_000


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate", " GZIP "])
def test_unpacked_stops_beyond_the_limit(encoding: str) -> None:
    whole = b"bar" * 1_000
    pack = {"": bytes, "deflate": zlib.compress}.get(encoding, gzip.compress)
    packed = pack(whole)
    assert unpacked([packed[:10], packed[10:]], encoding) == whole
    read = 0

    def without_end() -> Iterator[bytes]:
        nonlocal read
        packer = zlib.compressobj(1)
        while True:
            chunk = b"x" * (1 << 20)
            read += 1
            yield chunk if not encoding else packer.compress(chunk) + packer.flush(zlib.Z_SYNC_FLUSH)

    with pytest.raises(TooMuchError, match="more than 32 MiB"):
        unpacked(without_end(), encoding)
    assert read <= (MOST_BYTES >> 20) + 1


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_unpacked_refuses_what_was_not_asked_for(encoding: str) -> None:
    with pytest.raises(SourceFailedError, match="expected gzip"):
        unpacked([b"x"], encoding)


def test_unpacked_refuses_a_damaged_answer() -> None:
    with pytest.raises(SourceFailedError, match="cannot be unpacked"):
        unpacked([b"no gzip"], "gzip")


def test_a_short_secret_is_hidden_in_reports_and_changes_no_price(sources: FakeSources, tmp_path: Path) -> None:
    environment = {
        "BOURSOMATIC_HOME": str(tmp_path),
        "BOURSOMATIC_PROVIDER": "stooq",
        "BOURSOMATIC_GATEWAY": sources.address,
        "BOURSOMATIC_REQUESTS_PER_SECOND": "1000",
        "BOURSOMATIC_STOOQ_KEY": "10",
    }
    provider = provider_for(Settings.from_environment(environment))
    (delivery,) = provider.batches([WISH])
    expected = BARS.filter(pl.col("session").is_between(date(2024, 1, 10), date(2024, 1, 31)))
    assert delivery.bars["close"].to_list() == expected["close"].to_list()
    sources.faults = {"stooq/*": Fault.ECHO}
    (delivery,) = provider.batches([WISH])
    assert "apikey=***" in delivery.reports[0].detail
    assert "10" not in delivery.reports[0].detail
