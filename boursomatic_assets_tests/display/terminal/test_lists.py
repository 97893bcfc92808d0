"""Lists of versions and experiments on a terminal of 80 columns: nothing of them is cut off."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from rich.console import Console

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.display.terminal.closing import versions_table
from boursomatic_assets.display.terminal.trials import trials_report
from boursomatic_assets.storage.postgres.model_table import ModelRow
from boursomatic_assets.storage.postgres.trials_table import Trial

if TYPE_CHECKING:
    from rich.console import RenderableType

VERSION = "20261129_131946_81b625"
CUT_OFF = "\N{HORIZONTAL ELLIPSIS}"
TRIED = Experiment.parse({"horizon": 5, "classifier": {"n_estimators": 7}})


def shown(*parts: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=80)
    for part in parts:
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    return text


def test_versions_table_fits_80_columns() -> None:
    figures = {"test_accuracy": 0.456, "test_majority_accuracy": 0.405, "test_sharpe_ratio": -10.707}
    trained = datetime(2026, 11, 29, 13, 19, tzinfo=UTC)
    row = ModelRow(VERSION, trained, "b1fad510" * 8, figures, "/models", None)
    text = shown(versions_table([row], {}))
    assert CUT_OFF not in text
    for word in ("Version", "Active", "Gate", "Experiment", "Accuracy", "Baseline", "Sharpe", VERSION, "-10.707"):
        assert word in text


def test_trials_report_fits_80_columns() -> None:
    first, last = date(2007, 9, 10), date(2013, 3, 1)
    trial = Trial(
        "b1fad510" * 8, TRIED.model_dump(mode="json"), "data", 5, first, last, first, last,
        sharpe=-1.0, rank_ic=-0.064, matched_lift=1.183, version=VERSION,
        created_at=datetime(2026, 11, 29, tzinfo=UTC),
    )  # fmt: skip
    table, sentence = trials_report([trial], 1)
    text = shown(table)
    assert CUT_OFF not in text
    # -1 in each session is -1 times the root of 252 in a year: -15.875.
    for words in (
        "Matched lift",
        "Rank IC",
        VERSION,
        "horizon: 5",
        "classifier.n_estimators: 7",
        "-15.875",
        "none",
    ):
        assert words in text
    assert "1 distinct experiment was" in str(sentence)
