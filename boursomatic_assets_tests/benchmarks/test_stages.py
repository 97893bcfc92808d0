"""The benchmark runs and prints every stage. Tests do not check seconds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from benchmarks.recommending import stage_name
from boursomatic_assets_tests.support.installation import new_installation

if TYPE_CHECKING:
    from pathlib import Path

STAGES = {
    "read and check the source",
    "first ingest: bars to database",
    "first ingest: features",
    "same bars again: bars and features",
    "one new session: bars and features",
    "features and labels from loaded bars",
    "database to model inputs",
    "floor: LightGBM alone, both models",
    "predict, choose the threshold, measure",
    "baselines: volatility-only classifier, momentum",
    "evaluation: every figure, 2,000 draws",
    "portfolio: every book, positions and trades",
    "floor of the folds: LightGBM alone, both models",
    "walk-forward: all folds",
    "boursomatic materialize, whole process",
    "retrain, whole process",
    "recommendations: 505 instruments",
    "recommendations: 60 instruments",
}


@pytest.mark.slow
def test_bench_prints_each_stage_beside_the_floor_and_leaves_nothing_behind() -> None:
    with new_installation() as installation:
        # Temporary files go into the home, so that leftovers are seen.
        ended = installation.run_apart(
            "bench", "--instruments", "505", "--instruments", "60", TMPDIR=str(installation.home)
        )
        assert ended.code == 0, ended.errors
        # Seconds, rows a second (none for reading the source) and peak memory of each stage.
        rows = re.findall(r"│ ([^│]+?) +│ +([\d.]+) │ +([\d,]*) │ +([\d,]+) │", ended.output)
        assert {stage for stage, *_ in rows} == STAGES
        assert len(rows) == len(STAGES)
        for stage, seconds, speed, megabytes in rows:
            assert float(seconds) >= 0
            assert bool(speed) == (stage != "read and check the source")
            assert int(megabytes.replace(",", "")) > 50
        assert "bundled sample" in ended.output
        assert re.search(
            r"Retrain over floor: [\d.]+ s / [\d.]+ s = [\d.]+; bound 2\.0 x floor \+ 10 s", ended.said
        )
        assert re.search(
            r"Dagster, checks, pictures and process start: -?[\d.]+ s, -?[\d.]+ s an asset", ended.said
        )
        assert re.search(r"Folds over their floor: [\d.]+ s / [\d.]+ s = [\d.]+; bound 1\.3", ended.said)
        assert re.search(r"Evaluation: [\d.]+ s; bound 20 s", ended.said)
        assert re.search(r"Portfolio of every instrument in every session: [\d.]+ s; bound 2 s", ended.said)
        assert re.search(r"for 505 instruments and three profiles: [\d.]+ s; bound 3 s", ended.said)
        # There is no bound for sixty.
        assert "for 60 instruments" not in ended.said
        assert ended.errors == ""
        assert [path for path in installation.home.iterdir() if path.name.startswith("bench-")] == []


def test_stage_name_separates_thousands() -> None:
    assert stage_name(10_000) == "recommendations: 10,000 instruments"


def test_bench_of_a_missing_file_fails_with_one_message(tmp_path: Path) -> None:
    with new_installation() as installation:
        ended = installation.run("bench", "--provider", "files", "--path", str(tmp_path / "none.csv"))
    assert ended.code == 1
    assert "there is nothing at" in ended.said
    assert "Traceback" not in ended.said


def test_bench_reads_the_path_if_the_environment_chooses_files(tmp_path: Path) -> None:
    # One bar is too few for any feature: a bench of another source would succeed.
    prices = tmp_path / "prices.csv"
    prices.write_text("Date,Symbol,Open,High,Low,Close,Volume\n2015-01-05,ZZZ,10,11,9,10.5,1000\n")
    with new_installation() as installation:
        ended = installation.run("bench", "--path", str(prices), BOURSOMATIC_PROVIDER="files")
    assert ended.code == 1
    assert "features need at least 21 sessions of one symbol" in ended.said
