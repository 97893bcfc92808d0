"""The recipes of `docs/extend.md`, applied as they are written to a copy of the package, and run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

import boursomatic_assets
from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.features import FEATURE_NAMES
from boursomatic_assets.providers.sample import SampleProvider
from boursomatic_assets_tests.support.installation import Installation, Outcome, new_installation

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(boursomatic_assets.__file__).parent
PAGE = PACKAGE.parent / "docs" / "extend.md"
# What a block's heading says: a new file, after a line of a file, or at its end.
_BLOCK = re.compile(
    r"^(New file )?`(boursomatic_assets/[\w/]+\.py)`(?:, after `([^`\n]+)`|, at the end)?:\n\n```python\n(.*?)```",
    re.MULTILINE | re.DOTALL,
)
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); "
MAIN = "from boursomatic_assets.cli import main; main()"
FEATURES_OF = "FROM features JOIN instruments i ON i.id = instrument_id WHERE symbol = 'IBM'"
SECONDS = 1800


@dataclass(frozen=True)
class Extended:
    """A copy of the package with every block of the page in its place, and a home made before."""

    copy: Path
    home: Installation
    prices: Path

    def start(self, code: str, *arguments: str, **variables: str) -> Outcome:
        """Run code in a process that imports the copy."""
        ended = subprocess.run(
            [sys.executable, "-P", "-c", START + code, str(self.copy), *arguments],
            env=self.home.environment({"HOUSE_PRICES": str(self.prices), **variables}),
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        return Outcome(ended.returncode, ended.stdout, ended.stderr)

    def run(self, code: str, *arguments: str) -> str:
        ended = self.start(code, *arguments)
        assert ended.code == 0, ended.said
        return ended.output


def blocks() -> list[tuple[str, str, str, str]]:
    return _BLOCK.findall(PAGE.read_text("utf-8"))


def put(copy: Path, is_new: str, path: str, after: str, block: str) -> None:
    """Put a block where its heading says."""
    file = copy / path
    if is_new:
        assert not file.exists()
        file.write_text(block, "utf-8")
        return
    text = file.read_text("utf-8")
    if not after:
        file.write_text(f"{text}\n\n{block}", "utf-8")
        return
    line = f"{after}\n"
    assert text.count(line) == 1, line
    file.write_text(text.replace(line, line + block), "utf-8")


def test_every_block_of_the_page_says_where_it_goes() -> None:
    assert len(blocks()) == PAGE.read_text("utf-8").count("```python") == 7


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Extended]:
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    for block in blocks():
        put(folder, *block)
    prices = folder / "prices.parquet"
    bars = SampleProvider().bars()
    bars.with_columns(symbol="H" + pl.col("symbol")).write_parquet(prices)
    with new_installation() as home:
        # A home made before: its table has the eight columns, and rows.
        assert home.run_apart("materialize", "--select", "instruments,price_bars,features").code == 0
        made = Extended(folder, home, prices)
        made.run(MAIN, "materialize", "--select", "instruments,price_bars,features,labels", "--provider", "house")
        yield made


def test_an_entry_becomes_a_column_of_an_existing_table_with_the_values_it_says(extended: Extended) -> None:
    rows = extended.home.ask(f"SELECT count(*), count(ret_60d) {FEATURES_OF}")
    closes = SampleProvider().bars().filter(symbol="IBM").sort("session")["close"]
    # The first 60 sessions have no close 60 sessions before them.
    assert rows == [(len(closes), len(closes) - 60)]
    ((value,),) = extended.home.ask(f"SELECT ret_60d {FEATURES_OF} ORDER BY ts DESC LIMIT 1")
    assert value == pytest.approx(closes[-1] / closes[-61] - 1, rel=1e-12)


def test_an_entry_is_a_model_input_of_the_default_experiment(extended: Extended) -> None:
    said = extended.run(
        "from boursomatic_assets.core.dataset.experiment import Experiment; print(*Experiment().features)"
    )
    assert set(said.split()) == {*Experiment().features, "ret_60d"}
    assert "ret_60d" not in FEATURE_NAMES


def test_a_provider_s_bars_are_stored(extended: Extended) -> None:
    stored = extended.home.ask(
        "SELECT symbol, count(*) FROM price_bars JOIN instruments i ON i.id = instrument_id "
        "WHERE left(symbol, 1) = 'H' GROUP BY symbol ORDER BY symbol"
    )
    bars = SampleProvider().bars().group_by("symbol").len().sort("symbol")
    assert stored == [(f"H{symbol}", count) for symbol, count in bars.iter_rows()]


def test_a_check_and_a_sensor_are_part_of_the_code_location(extended: Extended) -> None:
    said = extended.run(
        "from boursomatic_assets.definitions import defs; "
        "print([str(key) for key in defs.resolve_asset_graph().asset_check_keys], [s.name for s in defs.sensors])"
    )
    assert "returns_are_not_extreme" in said
    assert "recommend_after_report" in said


def test_a_server_that_is_named_gets_the_column_when_it_is_asked_to(extended: Extended) -> None:
    database = extended.home.database()
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE features DROP COLUMN ret_60d")
    select = ("materialize", "--select", "instruments", "--provider", "house")
    refused = extended.start(MAIN, *select, DATABASE_URL=database.url)
    assert refused.code == 1
    assert "the table features lacks columns ['ret_60d']" in refused.said
    assert "boursomatic db upgrade" in refused.said
    assert extended.start(MAIN, "db", "upgrade", DATABASE_URL=database.url).code == 0
    assert extended.start(MAIN, *select, DATABASE_URL=database.url).code == 0
