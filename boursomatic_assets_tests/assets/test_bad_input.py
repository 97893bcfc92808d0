"""Bad input through the command line: one clear message, exit code 1, and what was there before is still there."""

from __future__ import annotations

import resource
import signal
from contextlib import contextmanager
from datetime import date, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest

from boursomatic_assets_tests.support.catalog import run, shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from boursomatic_assets_tests.support.installation import Installation, Outcome

pytestmark = pytest.mark.slow

# So far after the sample's newest bar, 2013-03-01, that a lookback of 2,000 days from here does not reach it.
LAST = date(2024, 6, 28)
HEADER = "Date,Symbol,Open,High,Low,Close,Volume"


def weekdays(count: int) -> list[date]:
    """The last `count` weekdays up to Friday 2024-06-28."""
    return [LAST - timedelta(days=7 * (i // 5) + i % 5) for i in reversed(range(count))]


def rows_of(closes: Sequence[float], symbol: str = "ZZZ") -> list[str]:
    """CSV rows of bars whose four prices agree."""
    sessions = weekdays(len(closes))
    return [
        f"{session},{symbol},{close},{close},{close},{close},1000"
        for session, close in zip(sessions, closes, strict=True)
    ]


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    return tmp_path / "prices.csv"


def write(path: Path, rows: Sequence[str], header: str = HEADER) -> None:
    path.write_text("\n".join([header, *rows]) + "\n")


class Before:
    """What an installation held; `still_there` later says that none of it was lost or changed."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.tables, self.files = installation.tables(), installation.files()

    def untouched(self) -> bool:
        """Nothing was added either."""
        return (self.installation.tables(), self.installation.files()) == (self.tables, self.files)

    def still_there(self) -> bool:
        """Rows may have been added, none is gone or rewritten; nothing from the models on was touched at all."""
        after, files = self.installation.tables(), self.installation.files()
        self.installation.verify()
        rows = all(after[table].items() >= kept.items() for table, kept in self.tables.items())
        return rows and after["model_versions"] == self.tables["model_versions"] and late(files) == late(self.files)


def late(files: dict[str, str]) -> dict[str, str]:
    """Files that the classifier and what follows it are kept in."""
    names = (
        "assets/classifier.zip", "assets/predictions.parquet", "assets/threshold.json", "assets/metrics.json",
        "assets/feature_importance.parquet", "models/",
    )  # fmt: skip
    return {name: digest for name, digest in files.items() if name.startswith(names)}


def says(ended: Outcome, *words: str) -> bool:
    """It failed with one message, without a traceback, that holds the words."""
    assert ended.code == 1, ended.said
    assert ended.errors.startswith("Failed: ")
    assert ended.said.count("Failed:") == 1
    assert "Traceback" not in ended.said
    assert "add --verbose" not in ended.said
    for word in words:
        assert word in ended.said
    return True


def ingest(installation: Installation, path: Path, *arguments: str, **variables: str) -> Outcome:
    return installation.run("materialize", "--provider", "files", "--path", str(path), *arguments, **variables)


def test_a_file_without_bars(trained: Installation, prices: Path) -> None:
    write(prices, [])
    before = Before(trained)
    assert says(ingest(trained, prices), str(prices), "0 of 0", "there are no rows", "Nothing was stored")
    assert before.untouched()


def test_one_bar(trained: Installation, prices: Path) -> None:
    write(prices, rows_of([10.0]))
    before = Before(trained)
    assert says(
        ingest(trained, prices),
        "labels need sessions with features and 20 more sessions after them",
        "boursomatic materialize --select price_bars",
        "--lookback-days",
    )
    assert before.still_there()


def test_fewer_sessions_than_the_features_need(blank: Installation, prices: Path) -> None:
    # 21 sessions are needed: ret_20d compares a close with the one 20 sessions before
    assert blank.run("db", "upgrade").code == 0
    write(prices, rows_of([10.0 + i for i in range(20)]))
    assert says(
        ingest(blank, prices),
        "features need at least 21 sessions of one symbol",
        f"the longest, 'ZZZ', has 20 ({weekdays(20)[0]}..2024-06-28)",
        "boursomatic materialize --select price_bars",
    )
    assert blank.ask("SELECT count(*) FROM features") == [(0,)]
    assert blank.versions() == []
    assert blank.files() == {}


def test_fewer_sessions_than_the_split_needs(trained: Installation, prices: Path) -> None:
    # 60 weekdays: the first 20 lack history. 20 sessions before 2024-06-28 is 2024-05-30, 21 weekdays before, since
    # New York was closed on 2024-06-19: the last 21 lack an outcome. Of the 19 that are left 2024-05-27, a holiday,
    # is no session: 18, and each label takes 20 more.
    write(prices, rows_of([10.0 + i % 7 for i in range(60)]))
    before = Before(trained)
    assert says(
        ingest(trained, prices),
        "three purged sets need many more sessions than the horizon of 20",
        "18 labelled sessions",
        "--lookback-days",
    )
    assert before.still_there()


@pytest.mark.parametrize(
    ("closes", "absent"),
    [
        # 1.005 ** 20 is 1.105: every return over 20 sessions is above +5 %
        ([10 * 1.005**i for i in range(400)], ("'HOLD': 0", "'SELL': 0")),
        ([10.0] * 400, ("'BUY': 0", "'SELL': 0")),
    ],
    ids=["steadily rising", "constant"],
)
def test_one_class_only(trained: Installation, prices: Path, closes: list[float], absent: tuple[str, str]) -> None:
    write(prices, rows_of(closes))
    before = Before(trained)
    assert says(
        ingest(trained, prices, "--to", "model_version"),
        "the classifier needs rows of every class to train on",
        *absent,
        "buy_threshold, sell_threshold",
    )
    assert before.still_there()


def test_a_missing_column(trained: Installation, prices: Path) -> None:
    write(prices, ["2024-06-28,ZZZ,10,11,9,1000"], "Date,Symbol,Open,High,Low,Volume")
    before = Before(trained)
    assert says(ingest(trained, prices), str(prices), "none found for close", "'Volume'", "Rename them")
    assert before.untouched()


def broken(rows: list[str]) -> list[str]:
    """The same rows, three of them broken, each in its own way."""
    sessions = [row.partition(",")[0] for row in rows]
    changed = list(rows)
    changed[3] = f"{sessions[3]},ZZZ,10,11,9,,1000"
    changed[7] = f"{sessions[7]},ZZZ,10,9,11,10,1000"
    changed[8] = f"{sessions[8]},ZZZ,10,11,9,10,-5"
    return changed


def test_more_than_one_percent_broken_rows_lists_reasons_and_examples_and_nothing_lands(
    trained: Installation, prices: Path
) -> None:
    # 3 of 200 are 1.5 %
    rows = broken(rows_of([10.0] * 200))
    write(prices, rows)
    before = Before(trained)
    assert says(
        ingest(trained, prices),
        "at most 1.00% break the bar contract; 3 of 200 do (1.50%). Nothing was stored.",
        "1 x null price or volume",
        "1 x high below low, open or close",
        "1 x negative volume",
        f"symbol=ZZZ session={weekdays(200)[3]} open=10.0 high=11.0 low=9.0 close=None volume=1000.0",
        f"symbol=ZZZ session={weekdays(200)[7]} open=10.0 high=9.0 low=11.0",
        "BOURSOMATIC_MAX_REJECTED_SHARE",
    )
    assert before.untouched()

    # Allowed on purpose, the other 197 come in.
    allowed = ingest(trained, prices, "--select", "instruments,price_bars", BOURSOMATIC_MAX_REJECTED_SHARE="0.015")
    assert allowed.code == 0, allowed.errors
    assert trained.ask("SELECT count(*) FROM price_bars WHERE ts >= '2020-01-01'") == [(197,)]


def test_exactly_one_percent_lands_and_each_rejected_row_is_explained(trained: Installation, prices: Path) -> None:
    # 3 of 300 are 1 %
    write(prices, broken(rows_of([10.0] * 300)))
    sessions = weekdays(300)
    before = Before(trained)
    ended = ingest(trained, prices, "--select", "instruments,price_bars")
    assert ended.code == 0, ended.errors
    assert before.still_there()
    landed = trained.ask("SELECT ts::date FROM price_bars WHERE ts >= '2020-01-01' ORDER BY ts")
    assert [session for (session,) in landed] == [
        session for i, session in enumerate(sessions) if i not in {3, 7, 8}
    ]
    assert trained.ask(
        "SELECT symbol, session, open, high, low, close, volume, reason, copies, source FROM rejected_bars "
        "ORDER BY session"
    ) == [
        ("ZZZ", sessions[3], 10, 11, 9, None, 1000, "null price or volume", 1, f"files:{prices}"),
        ("ZZZ", sessions[7], 10, 9, 11, 10, 1000, "high below low, open or close", 1, f"files:{prices}"),
        ("ZZZ", sessions[8], 10, 11, 9, 10, -5, "negative volume", 1, f"files:{prices}"),
    ]


def test_a_truncated_parquet_file(trained: Installation, tmp_path: Path) -> None:
    path = tmp_path / "prices.parquet"
    closes = [10.0] * 400
    pl.DataFrame(
        {"date": weekdays(400), "symbol": "ZZZ", "open": closes, "high": closes, "low": closes, "close": closes}
    ).with_columns(volume=1000.0).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-200])
    before = Before(trained)
    assert says(ingest(trained, path), str(path), "cannot be read; it may be truncated")
    assert before.untouched()


def test_a_database_that_cannot_be_reached(trained: Installation) -> None:
    before = Before(trained)
    ended = trained.run("materialize", DATABASE_URL="postgresql://reader@127.0.0.1:1/prices")
    assert says(ended, "postgresql://reader@127.0.0.1:1/prices cannot be reached", "DATABASE_URL")
    assert before.untouched()


@pytest.mark.parametrize("command", ["materialize", "models list"])
def test_a_named_database_that_was_not_upgraded_is_left_as_it_is(blank: Installation, command: str) -> None:
    run(blank.database(), "CREATE TABLE instruments (id int); INSERT INTO instruments VALUES (1)")
    before = shape(blank.database())
    ended = blank.run(*command.split())
    assert says(ended, "must be at revision 0008; found none", "boursomatic db upgrade")
    assert shape(blank.database()) == before
    assert list(blank.home.iterdir()) == []


def test_a_database_of_a_newer_program(trained: Installation) -> None:
    run(trained.database(), "UPDATE boursomatic_assets_alembic_version SET version_num = '9999'")
    before = Before(trained)
    for command in ("materialize", "models list", "db upgrade"):
        ended = trained.run(*command.split())
        assert says(ended, "revision 9999, newer than this program's 0008", "DATABASE_URL")
    assert before.untouched()


def test_an_artifacts_folder_that_cannot_be_written(trained: Installation, tmp_path: Path) -> None:
    # A file in its place stops even a superuser, whom no permission would.
    path = tmp_path / "artifacts"
    path.write_text("a file")
    before = Before(trained)
    ended = trained.run("materialize", "--select", "labels", "--artifacts-dir", str(path))
    assert says(ended, f"{path}/assets/labels.parquet cannot be written", "--artifacts-dir DIR")
    assert path.read_text() == "a file"
    assert before.untouched()


def test_a_bundle_folder_that_cannot_be_written(trained: Installation) -> None:
    before = Before(trained)
    models = trained.artifacts / "models"
    aside = models.rename(trained.home / "aside")
    models.write_text("a file")
    ended = trained.run("materialize", "--select", "model_version")
    assert says(ended, f"{models}/", "cannot be written", "--artifacts-dir DIR")
    models.unlink()
    aside.rename(models)
    assert before.untouched()


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """This process can write files up to a size: then the disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_disk_that_fills_during_the_bundle(trained: Installation) -> None:
    before = Before(trained)
    sizes = [path.stat().st_size for path in trained.artifacts.glob("models/*/*")]
    assert min(sizes) < 100_000 < max(sizes)
    with no_file_larger_than(100_000):
        ended = trained.run("materialize", "--select", "model_version")
    assert says(ended, "cannot be written: File too large", "Nothing of it was left behind")
    assert before.untouched()
    assert list(trained.artifacts.glob("models/.*")) == []


def test_inputs_that_were_built_under_another_experiment(trained: Installation) -> None:
    before = Before(trained)
    ended = trained.run("materialize", "--select", "classifier", "--lookback-days", "1000")
    assert says(
        ended,
        "train_set was built under another experiment",
        "lookback_days: 2000 -> 1000",
        "boursomatic materialize --select 'train_set+'",
    )
    assert before.untouched()


def test_a_blocking_check_that_fails_is_named(trained: Installation) -> None:
    # Another program's bar, with a high below its low.
    run(
        trained.database(),
        """
        INSERT INTO price_bars (id, instrument_id, ts, o, h, l, c, v, interval)
        SELECT gen_random_uuid(), id, '2013-03-02', 10, 9, 11, 10, 100, 'daily' FROM instruments
        WHERE symbol = 'IBM'
        """,
    )
    before = Before(trained)
    ended = trained.run("materialize")
    assert ended.code == 1
    assert "Traceback" not in ended.said
    assert "check failed stored_bars_keep_the_contract of price_bars" in ended.said
    assert ended.errors.startswith("Failed: ")
    assert "stored_bars_keep_the_contract" in ended.errors
    assert before.untouched()
