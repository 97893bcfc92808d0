from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest

from boursomatic_assets.core.registry.contenders import Contender
from boursomatic_assets.errors import ModelMismatchError
from boursomatic_assets_tests.support import served


def test_contender_reads_learned_until_from_the_manifest() -> None:
    found = Contender.of(served.bundle({"learned_until": "2018-06-01"}), served.labels())
    assert (found.version, found.learned_until) == ("20260102_030405_abcdef", date(2018, 6, 1))
    assert found.serving.temperature == served.TEMPERATURE


def sets(train: str, validation: str) -> dict[str, Any]:
    return {"training_data": {"train_set": {"last_session": train}, "validation_set": {"last_session": validation}}}


def test_contender_of_an_older_bundle_takes_the_end_of_labels_from_the_panel() -> None:
    days = served.labels()["session"].unique().sort()
    found = Contender.of(served.bundle(sets(str(days[50]), str(days[80]))), served.labels())
    # A horizon of five sessions.
    assert found.learned_until == days[85]
    # A panel that begins later knows when the labels of its own first session end, which is later still.
    newer = served.labels().filter(pl.col("session") >= days[100])
    assert Contender.of(served.bundle(sets(str(days[50]), str(days[80]))), newer).learned_until == days[105]


@pytest.mark.parametrize("manifest", [{}, {"training_data": {"train_set": {"last_session": "2018-01-01"}}}])
def test_contender_refuses_a_manifest_without_learned_until(manifest: dict[str, Any]) -> None:
    with pytest.raises(ModelMismatchError, match="does not say until when its models have learned"):
        Contender.of(served.bundle(manifest), served.labels())
