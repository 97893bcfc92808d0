from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest

from boursomatic_assets.core.registry.contenders import Contender
from boursomatic_assets.errors import ModelMismatchError
from boursomatic_assets_tests.support import served


def test_the_manifest_says_until_when_a_version_has_learned() -> None:
    found = Contender.of(served.bundle({"learned_until": "2018-06-01"}), served.labels())
    assert (found.version, found.learned_until) == ("20260102_030405_abcdef", date(2018, 6, 1))
    assert found.serving.temperature == served.TEMPERATURE


def sets(train: str, validation: str) -> dict[str, Any]:
    return {"training_data": {"train_set": {"last_session": train}, "validation_set": {"last_session": validation}}}


def test_of_an_older_bundle_the_labels_say_when_those_of_its_last_session_ended() -> None:
    days = served.labels()["session"].unique().sort()
    found = Contender.of(served.bundle(sets(str(days[50]), str(days[80]))), served.labels())
    # A horizon of five sessions.
    assert found.learned_until == days[85]
    # A panel that begins later knows when the labels of its own first session end, which is later still.
    newer = served.labels().filter(pl.col("session") >= days[100])
    assert Contender.of(served.bundle(sets(str(days[50]), str(days[80]))), newer).learned_until == days[105]


@pytest.mark.parametrize(
    "manifest", [{}, sets("2018-01-01", "soon"), {"training_data": None}, {"learned_until": 3}]
)
def test_a_manifest_that_does_not_say_so_cannot_be_scored(manifest: dict[str, Any]) -> None:
    with pytest.raises(ModelMismatchError, match="does not say until when its models have learned"):
        Contender.of(served.bundle(manifest), served.labels())
