"""The command line as a person meets it: what it prints, how it ends, and what is there afterwards."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg2
import pytest

from boursomatic_assets.errors import DatabaseUnreachableError
from boursomatic_assets.storage.server import embedded as server
from boursomatic_assets_tests.support.installation import BOURSOMATIC, new_installation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.model_table import ModelRow
    from boursomatic_assets_tests.support.installation import Installation, Outcome

COMMANDS = {
    "": [
        "materialize",
        "dev",
        "bench",
        "db",
        "models",
        "universe",
        "adjustments",
        "recommend",
        "recommendations",
        "explain",
        "trace",
        "settings",
        "BOURSOMATIC_HOME",
        "DATABASE_URL",
    ],
    "settings": ["--json", "--markdown"],
    "materialize": [
        "--select",
        "--to",
        "--provider",
        "--path",
        "--lookback-days",
        "--folds",
        "--window",
        "--benchmark",
        "--artifacts-dir",
        "--verbose",
        "features+",
    ],
    "dev": ["--port", "3000"],
    "universe": ["show", "check", "init"],
    "adjustments": ["list", "add", "remove"],
    "adjustments add": ["symbol", "session", "ratio", "--note", "0.5 for a two-for-one split"],
    "adjustments remove": ["symbol", "session"],
    "bench": ["--provider", "--path"],
    "db": ["upgrade", "upgrade-server", "url", "stop"],
    "db upgrade-server": ["--old-bin", "kept beside it"],
    "db upgrade": ["stay as they are"],
    "db url": ['psql "$(boursomatic db url)"', "db stop"],
    "db stop": ["Stop the embedded server"],
    "models": ["list"],
    "models list": ["--limit"],
    "report": ["version", "--open"],
    "recommend": ["--verbose"],
    "recommendations": ["--profile", "--label", "--symbol", "--json", "--csv"],
    "explain": ["symbol", "--profile"],
}
VERSION = re.compile(r"\b\d{8}_\d{6}_[0-9a-f]{6}\b")
PASSWORD = "open-sesame-7341"  # noqa: S105 (what these tests look for in what is printed)

CSV = """Date,Symbol,Open,High,Low,Close,Volume
2015-01-05,ZZZ,10,11,9,10.5,1000
2015-01-06,ZZZ,10.5,11,10,10.75,1100
2015-01-05,YYY,20,21,19,20.5,2000
"""


@dataclass(frozen=True)
class Materialized:
    """An embedded installation after `boursomatic materialize`: what was printed, and the version made then."""

    installation: Installation
    ended: Outcome
    row: ModelRow


@pytest.fixture(scope="module")
def materialized() -> Iterator[Materialized]:
    with new_installation() as made:
        ended = made.run("materialize")
        assert ended.code == 0, ended.errors
        yield Materialized(made, ended, made.versions()[0])


@pytest.fixture
def installation(materialized: Materialized) -> Installation:
    """The same, for tests that leave its tables as they are or only add versions."""
    return materialized.installation


@pytest.fixture
def empty() -> Iterator[Installation]:
    """An empty home, where the first command that needs a database sets the embedded one up."""
    with new_installation() as made:
        yield made


@pytest.fixture
def named(settings: Settings) -> Iterator[Installation]:
    """An empty home, and an empty database on a server that is named."""
    with new_installation(settings.database_url) as made:
        yield made


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.csv"
    path.write_text(CSV)
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_what_there_is_to_choose(empty: Installation, command: str) -> None:
    for option in ("--help", "-h"):
        shown = empty.run(*command.split(), option)
        assert shown.code == 0
        assert shown.errors == ""
        for word in COMMANDS[command]:
            assert word in shown.said
    assert list(empty.home.iterdir()) == []


def test_help_answers_without_importing_dagster_or_any_library_of_the_graph(empty: Installation) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", BOURSOMATIC, "materialize", "--help"],
        env=empty.environment({}),
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in ended.stderr.splitlines()}
    assert "typer" in imported
    heavy = {
        "dagster", "polars", "pandas", "numpy", "lightgbm", "sklearn", "sqlalchemy", "alembic", "matplotlib",
        "exchange_calendars", "yfinance", "httpx",
    }  # fmt: skip
    assert imported & heavy == set()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("nonsense", "No such command"),
        ("materialize --nonsense", "No such option"),
        ("materialize unexpected", "unexpected extra argument"),
        ("materialize --lookback-days 0", "--lookback-days"),
        ("materialize --lookback-days -5", "--lookback-days"),
        ("materialize --lookback-days soon", "--lookback-days"),
        ("materialize --lookback-days 1.5", "--lookback-days"),
        ("materialize --lookback-days 99999999999", "--lookback-days"),
        ("materialize --select", "--select"),
        ("models list --limit 0", "--limit"),
        ("dev --port 70000", "--port"),
        ("db", "upgrade"),
        ("adjustments", "list"),
    ],
)
def test_wrong_usage_ends_with_2_and_starts_nothing(empty: Installation, arguments: str, words: str) -> None:
    ended = empty.run(*arguments.split())
    assert ended.code == 2
    assert words in ended.said
    assert list(empty.home.iterdir()) == []


@pytest.mark.parametrize("select", ["nosuch", "features,nosuch+", "Features", "+"])
def test_an_unknown_asset_is_wrong_usage_and_the_known_ones_are_listed(
    installation: Installation, select: str
) -> None:
    before = installation.tables()
    ended = installation.run("materialize", "--select", select)
    assert ended.code == 2
    assert "there is no asset" in ended.said
    for name in ("instruments", "price_bars", "features", "model_version"):
        assert name in ended.said
    assert installation.tables() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--to nosuch", "there is no asset 'nosuch'; there are: "),
        ("--select labels --to price_bars", "price_bars needs none of the selected assets: labels"),
        ("--folds 0", "--folds"),
        ("--window sliding", "'sliding' is not one of 'expanding', 'rolling'"),
    ],
)
def test_an_end_or_folds_that_cannot_be_are_wrong_usage(
    installation: Installation, arguments: str, words: str
) -> None:
    before = installation.files()
    ended = installation.run("materialize", *arguments.split())
    assert ended.code == 2
    assert words in ended.said
    assert installation.files() == before


def test_what_is_selected_ends_at_the_asset_that_is_named(installation: Installation) -> None:
    ended = installation.run("materialize", "--select", "labels+", "--to", "classifier")
    assert ended.code == 0, ended.errors
    rows = [line.split()[1] for line in ended.output.splitlines() if line.startswith("\u2502")]
    # Checks of train_set read the other two sets, which the same function makes.
    assert rows == ["labels", "train_set", "validation_set", "test_set", "classifier"]


@pytest.mark.parametrize("select", ["", ","])
def test_an_empty_selection_is_wrong_usage_not_everything(installation: Installation, select: str) -> None:
    # A script's `--select "$ASSETS"` whose variable is not set must not train a model.
    before = installation.tables()
    ended = installation.run("materialize", "--select", select)
    assert ended.code == 2
    assert "--select" in ended.said
    assert installation.tables() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            "--provider nosuch",
            "there is no price provider 'nosuch'; there are: database, eodhd, files, sample, stooq, tiingo, yahoo.",
        ),
        ("--provider files", "the provider 'files' needs a path"),
        ("--provider files --path /nowhere/prices.csv", "there is nothing at /nowhere/prices.csv. Correct --path"),
    ],
)
def test_a_source_that_cannot_be_used_fails_with_one_message_and_changes_nothing(
    installation: Installation, arguments: str, words: str
) -> None:
    before, files = installation.tables(), installation.files()
    ended = installation.run("materialize", *arguments.split())
    assert ended.code == 1
    assert ended.errors.startswith("Failed: ")
    assert words in ended.said
    assert "Traceback" not in ended.said
    assert (installation.tables(), installation.files()) == (before, files)


def test_verbose_shows_the_traceback_and_quiet_does_not(installation: Installation) -> None:
    arguments = ("materialize", "--provider", "files", "--path", "/nowhere/prices.csv")
    quiet = installation.run_apart(*arguments)
    assert quiet.code == 1
    assert quiet.errors.startswith("Failed: there is nothing at /nowhere/prices.csv")
    assert "Traceback" not in quiet.said
    assert "dagster" not in quiet.errors

    verbose = installation.run_apart(*arguments, "--verbose")
    assert verbose.code == 1
    assert "Traceback (most recent call last)" in verbose.errors
    assert "SourceFileError: there is nothing at /nowhere/prices.csv" in verbose.errors
    assert "providers/files.py" in verbose.errors


@pytest.mark.slow
def test_materialize_closes_with_rows_label_mix_figures_beside_baselines_version_and_path(
    materialized: Materialized,
) -> None:
    installation, ended, row = materialized.installation, materialized.ended, materialized.row
    assert ended.errors == ""
    assert "Traceback" not in ended.output
    # The five stocks' bars, and the rows within 2,000 days before the newest, of which 100 are still unlabelled.
    assert re.search(r"instruments\W+5\W", ended.output)
    assert re.search(r"price_bars\W+12,154\W+2000-03-01 \.\. 2013-03-01", ended.output)
    assert re.search(r"labels\W+5,712\W+2007-09-10 \.\. 2013-03-01", ended.output)
    mix = {
        name: tuple(int(count.replace(",", "")) for count in counts)
        for name, *counts in re.findall(r"│ (\w+) .*│ +([\d,]+) / ([\d,]+) / ([\d,]+) │", ended.output)
    }
    assert sum(mix["labels"]) == 5_712 - 5 * 20
    assert set(mix) == {"labels", "train_set", "validation_set", "test_set", "predictions"}

    shown = dict(re.findall(r"│ ([^│]+?) +│ +(-?[\d.]+ │ +-?[\d.]+|-?[\d.]+ │ +) +│", ended.output))
    figures = {
        name: [float(value) for value in values.split("│") if value.strip()] for name, values in shown.items()
    }
    for title, names in {
        "Accuracy, validation": ("val_accuracy", "val_majority_accuracy"),
        "Accuracy, test": ("test_accuracy", "test_majority_accuracy"),
        "BUY precision, validation": ("precision_buy_val", "buy_base_rate_val"),
        "BUY precision, test": ("precision_buy_test", "buy_base_rate_test"),
        "BUY lift at equal volatility, test": ("matched_lift_buy_test",),
        "Sharpe of the BUY book, test": ("test_sharpe_ratio", "test_equal_weight_sharpe_ratio"),
        "Deepest drawdown, test": ("test_max_drawdown", "test_equal_weight_max_drawdown"),
        "Total return net of cost, test": ("test_total_return", "test_equal_weight_total_return"),
    }.items():
        assert figures[title] == [round(row.metrics[name], 3) for name in names]

    assert f"Active model version: {row.version} (before: nothing: it is the first)" in ended.said
    assert f"Bundle: {installation.artifacts / 'models' / row.version}" in ended.said
    for name in ("instruments", "classifier", "metrics", "model_version"):
        assert f"materialized {name}" in ended.said


@pytest.mark.slow
def test_a_retrain_touches_no_bar_and_takes_the_artifacts_where_they_are_wanted(
    installation: Installation, tmp_path: Path
) -> None:
    before, files = installation.tables(), installation.files()
    old = installation.versions()[0]
    shortest = ("--select", "features+", "--to", "model_version")
    ended = installation.run("materialize", *shortest, "--artifacts-dir", str(tmp_path / "elsewhere"))
    assert ended.code == 0, ended.errors
    assert f"before: {old.version}" in ended.said
    after = installation.tables()
    for table in ("instruments", "price_bars", "features", "rejected_bars"):
        assert after[table] == before[table]
    assert "materialized price_bars" not in ended.said
    assert "materialized features" in ended.said
    assert installation.files() == files

    new, previous = installation.versions()[:2]
    assert (new.is_active, previous.is_active) == (True, False)
    assert previous.version == old.version
    assert new.model_path == str(tmp_path / "elsewhere" / "models" / new.version)
    assert {path.name for path in (tmp_path / "elsewhere" / "assets").iterdir()} == {
        "labels.parquet", "train_set.parquet", "validation_set.parquet", "test_set.parquet",
        "classifier.zip", "regressor.zip", "predictions.parquet", "threshold.json", "metrics.json",
        "feature_importance.parquet",
    }  # fmt: skip
    assert new.params_hash == old.params_hash
    assert new.metrics == old.metrics
    installation.verify()


def test_several_assets_are_selected_with_commas_and_only_they_are_made(installation: Installation) -> None:
    ended = installation.run("materialize", "--select", "labels, validation_set")
    assert ended.code == 0, ended.errors
    assert re.findall(r"^materialized (\w+)", ended.output, re.MULTILINE) == ["labels", "validation_set"]
    assert "Active model version" not in ended.said
    assert "How good is it" not in ended.said


def test_a_shorter_lookback_reads_fewer_calendar_days_before_the_newest_bar(
    installation: Installation, tmp_path: Path
) -> None:
    # 365 days before 2013-03-01 is 2012-03-01 (2012-02-29 lies between, but 2013-03-01 - 365 days is 2012-03-01).
    ended = installation.run(
        "materialize", "--select", "labels", "--lookback-days", "365", "--artifacts-dir", str(tmp_path)
    )
    assert ended.code == 0, ended.errors
    assert re.search(r"labels\W+[\d,]+\W+2012-03-01 \.\. 2013-03-01", ended.output)


def test_models_list_shows_the_versions_the_newest_first_and_where_the_active_one_is(
    installation: Installation,
) -> None:
    recorded = [row.version for row in installation.versions()]
    ended = installation.run("models", "list")
    assert ended.code == 0
    listed = ended.output.split("Active bundle")[0]
    assert VERSION.findall(listed) == recorded
    (active,) = [line for line in listed.splitlines() if " yes " in line]
    assert recorded[0] in active
    assert f"Active bundle: {installation.versions()[0].model_path}" in ended.said
    assert f"{installation.versions()[0].metrics['test_accuracy']:.3f}" in active

    one = installation.run("models", "list", "--limit", "1")
    assert VERSION.findall(one.output.split("Active bundle")[0]) == recorded[:1]


def test_models_list_without_any_says_how_to_make_one(named: Installation) -> None:
    assert named.run("db", "upgrade").code == 0
    ended = named.run("models", "list")
    assert ended.code == 0
    assert ended.said == "No model version yet: boursomatic materialize"


def test_the_provider_comes_from_the_environment_and_an_option_overrules_it(
    installation: Installation, named: Installation, prices: Path
) -> None:
    # Three lawful bars of two symbols.
    provider = {"BOURSOMATIC_PROVIDER": "files", "BOURSOMATIC_PROVIDER_PATH": str(prices)}
    assert named.run("db", "upgrade").code == 0
    ended = named.run("materialize", "--select", "instruments,price_bars", **provider)
    assert ended.code == 0, ended.errors
    assert named.ask("SELECT symbol FROM instruments ORDER BY symbol") == [("YYY",), ("ZZZ",)]
    assert named.ask("SELECT count(*) FROM price_bars") == [(3,)]

    ended = installation.run("materialize", "--select", "instruments", "--provider", "sample", **provider)
    assert ended.code == 0, ended.errors
    assert installation.ask("SELECT count(*) FROM instruments") == [(5,)]


@pytest.mark.parametrize("arguments", ["materialize", "materialize --provider sample", "bench"])
def test_a_path_that_the_provider_would_not_read_is_wrong_usage(
    empty: Installation, prices: Path, arguments: str
) -> None:
    # Ignored, it would give a model of the bundled prices to someone who named others.
    ended = empty.run(*arguments.split(), "--path", str(prices))
    assert ended.code == 2
    assert "--provider files" in ended.said
    assert list(empty.home.iterdir()) == []


def test_a_setting_that_cannot_be_read_is_named(empty: Installation) -> None:
    for name, value in (("BOURSOMATIC_MAX_REJECTED_SHARE", "many"), ("BOURSOMATIC_THREADS", "-1")):
        ended = empty.run("materialize", **{name: value})
        assert ended.code == 1
        assert f"{name} must be" in ended.said
        assert f"found '{value}'" in ended.said


def test_db_upgrade_twice_changes_nothing_the_second_time(named: Installation) -> None:
    first = named.run("db", "upgrade")
    assert (first.code, first.said.rpartition(": ")[2]) == (0, "none -> 0008")
    again = named.run("db", "upgrade")
    assert (again.code, again.said.rpartition(": ")[2]) == (0, "0008 -> 0008")


def test_db_url_prints_the_address_alone_and_the_server_stays_until_db_stop(empty: Installation) -> None:
    ended = empty.run_apart("db", "url")
    assert ended.code == 0, ended.errors
    (address,) = ended.output.splitlines()
    assert "boursomatic db stop" in ended.errors
    connection = psycopg2.connect(address)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_database()")
            assert cursor.fetchone() == ("boursomatic",)
    finally:
        connection.close()
    assert server.is_running(empty.settings)

    stopped = empty.run("db", "stop")
    assert (stopped.code, stopped.said) == (0, "Stopped the embedded PostgreSQL.")
    assert not server.is_running(empty.settings)
    again = empty.run("db", "stop")
    assert (again.code, again.said) == (0, "The embedded PostgreSQL is not running.")


def test_db_url_prints_a_named_server_s_address_as_it_is(empty: Installation) -> None:
    address = f"postgresql://reader:{PASSWORD}@db.example/prices"
    ended = empty.run("db", "url", DATABASE_URL=address)
    assert (ended.code, ended.output, ended.errors) == (0, f"{address}\n", "")
    assert list(empty.home.iterdir()) == []


@pytest.mark.slow
def test_a_password_is_never_printed_or_stored(settings: Settings) -> None:
    # The server trusts its socket's users, so any password opens it.
    assert settings.database_url is not None
    address = settings.database_url.replace("postgres:@", f"postgres:{PASSWORD}@")
    assert PASSWORD in address
    with new_installation(address) as installation:
        ended = [
            installation.run("db", "upgrade"),
            installation.run("materialize", "--select", "instruments,price_bars", "--verbose"),
            installation.run_apart("materialize", "--select", "classifier", "--verbose"),
            installation.run("models", "list"),
        ]
        assert "5 symbols, 12,154 bars" in ended[1].errors
        assert "Traceback" in ended[2].errors
        assert [outcome.code for outcome in ended] == [0, 0, 1, 0]
        for outcome in ended:
            assert PASSWORD not in outcome.output + outcome.errors
        assert "postgres:***@" in ended[0].output
        kept = [path for path in installation.home.rglob("*") if path.is_file()]
        assert [path for path in kept if PASSWORD.encode() in path.read_bytes()] == []
        tables = installation.ask(
            "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) FROM information_schema.tables "
            "WHERE table_schema IN ('dagster', 'public')"
        )
        assert len(tables) > 20
        hits = " + ".join(
            f"(SELECT count(*) FROM {table} t WHERE position('{PASSWORD}' IN t::text) > 0)"  # noqa: S608
            for (table,) in tables
        )
        assert installation.ask(f"SELECT {hits}") == [(0,)]


@pytest.mark.parametrize("arguments", ["materialize", "db upgrade"])
@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://user:{PASSWORD}@127.0.0.1:1/prices",
        f"postgresql+asyncpg://user:{PASSWORD}@127.0.0.1:1/prices",
        f"postgresql://127.0.0.1:1/prices?user=user&password={PASSWORD}",
        f"postgresql://user:{PASSWORD}@127.0.0.1:none/prices",
        f"host=127.0.0.1 port=1 user=user password={PASSWORD}",
    ],
)
def test_a_server_that_cannot_be_reached_is_named_without_its_password(
    empty: Installation, address: str, arguments: str
) -> None:
    ended = empty.run(*arguments.split(), DATABASE_URL=address)
    assert ended.code == 1
    assert PASSWORD not in ended.output + ended.errors
    assert "DATABASE_URL" in ended.errors
    assert "Traceback" not in ended.errors


def test_not_even_the_traceback_of_a_server_that_cannot_be_reached_shows_its_password(empty: Installation) -> None:
    address = f"postgresql://user:{PASSWORD}@127.0.0.1:1/prices"
    with pytest.raises(DatabaseUnreachableError) as raised:
        empty.run("materialize", "--verbose", DATABASE_URL=address)
    shown = "".join(traceback.format_exception(raised.value))
    assert "postgresql://user:***@127.0.0.1:1/prices" in shown
    assert PASSWORD not in shown


def test_dev_refuses_a_setting_that_its_processes_could_not_read(empty: Installation) -> None:
    ended = empty.run("dev", BOURSOMATIC_AUTOMATION="rubbish")
    assert ended.code == 1
    assert "BOURSOMATIC_AUTOMATION must be on or off; found 'rubbish'" in ended.said
    assert "Dagster UI" not in ended.said


def test_dev_says_so_when_the_port_is_taken(empty: Installation) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ended = empty.run("dev", "--port", str(port))
    assert ended.code == 1
    assert f"port {port} on 127.0.0.1 is taken" in ended.said
    assert f"boursomatic dev --port {port + 1}" in ended.said
    assert list(empty.home.iterdir()) == []
