"""What becomes of a newly trained version: the gate's decision, as it is stored, shown and acted on."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pytest

from boursomatic_assets.services.training import promotion as module
from boursomatic_assets.storage.artifacts.bundles import open_bundle
from boursomatic_assets.storage.postgres.model_events import list_events
from boursomatic_assets.storage.postgres.model_table import activate
from boursomatic_assets_tests.support.catalog import run
from boursomatic_assets_tests.support.installation import ALONE
from boursomatic_assets_tests.support.stored import overwrite_panel, panel_of

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.model_table import ModelRow
    from boursomatic_assets_tests.support.installation import Installation

pytestmark = pytest.mark.slow

RETRAINED = (
    dg.AssetSelection.assets("classifier", "regressor").downstream()
    & dg.AssetSelection.assets("model_version").upstream()
)
FROM_LABELS = dg.AssetSelection.assets("labels").downstream() & dg.AssetSelection.assets("model_version").upstream()


def shown(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """Metadata of the version that a run recorded."""
    assert result.success
    (made,) = [
        event.materialization
        for event in result.all_events
        if event.is_step_materialization and event.asset_key == dg.AssetKey("model_version")
    ]
    return {name: entry.value for name, entry in made.metadata.items()}


def newest(installation: Installation) -> ModelRow:
    return installation.versions()[0]


def shuffle_labels(installation: Installation) -> None:
    """Deal the labels of the training set out anew, and make everything up to the figures of it."""
    train = panel_of(installation, "train_set")
    order = np.random.default_rng(7).permutation(train.height)
    dealt = train.with_columns(train["label"].gather(order), train["forward_return"].gather(order))
    overwrite_panel(installation, "train_set", dealt)


def test_the_first_version_says_that_it_is_the_first(trained: Installation) -> None:
    (row,) = trained.versions()
    assert row.gate is not None
    assert (row.gate.promoted, row.gate.champion, row.gate.challenger) == (True, None, row.version)
    (event,) = list_events(trained.database())
    assert (event.event, event.version_from, event.version_to) == ("activated", None, row.version)
    assert event.who.startswith("run ")
    assert event.why == row.gate.reason
    manifest = open_bundle(row.model_path, row.manifest_sha256).manifest
    learned = [panel_of(trained, name)["label_end"].max() for name in ("train_set", "validation_set")]
    assert manifest.learned_until == max(learned)


def test_an_equal_version_is_promoted_with_its_figures_stored_and_shown(trained: Installation) -> None:
    (champion,) = trained.active()
    said = shown(trained.execute(ALONE))
    row = newest(trained)
    assert trained.active() == [row.version]
    assert row.gate is not None
    assert (row.gate.promoted, row.gate.champion) == (True, champion)
    assert row.gate.sessions == panel_of(trained, "test_set")["session"].n_unique()
    assert row.gate.figures["log_loss"]["difference"] == 0.0
    assert said["promoted"] is True
    assert said["gate"] == row.gate.reason
    assert said["replaces"] == champion
    assert said["active_version"] == row.version
    assert "to_activate_it" not in said
    assert said["log_loss_difference"] == said["log_loss_upper_bound"] == 0.0
    assert said["common_sessions"] == row.gate.sessions
    assert "Rank IC" in said["gate_figures"]
    event = list_events(trained.database())[-1]
    assert (event.event, event.version_from, event.figures) == ("activated", champion, row.gate.figures)
    trained.verify()


def test_a_version_trained_on_shuffled_labels_is_refused_kept_and_activated_only_by_a_person(
    trained: Installation,
) -> None:
    (champion,) = trained.active()
    shuffle_labels(trained)
    said = shown(trained.execute(RETRAINED))
    refused = newest(trained)
    assert trained.active() == [champion]
    assert not refused.is_active
    assert refused.gate is not None
    assert refused.gate.promoted is False
    assert "its log loss may be" in refused.gate.reason
    assert said["gate"] == refused.gate.reason
    assert said["replaces"] == f"nothing: {champion} stays the active one"
    assert said["active_version"] == champion
    assert said["to_activate_it"].startswith(f"boursomatic models activate {refused.version} --why ")
    event = list_events(trained.database())[-1]
    assert (event.event, event.version_from, event.version_to) == ("refused", champion, refused.version)
    # The bundle is whole, the ledger names it, and exactly one version is active.
    trained.verify()
    assert trained.bundles() == {champion, refused.version}
    assert trained.ask("SELECT version FROM trials") == [(refused.version,)]

    ended = trained.run("models", "activate", refused.version)
    assert (ended.code, trained.active()) == (0, [refused.version])
    assert trained.run("models", "rollback").code == 0
    assert trained.active() == [champion]


def test_the_command_line_says_that_the_new_version_was_refused_and_which_one_stays(trained: Installation) -> None:
    (champion,) = trained.active()
    shuffle_labels(trained)
    ended = trained.run("materialize", "--select", "classifier+,regressor+", "--to", "model_version")
    assert ended.code == 0, ended.errors
    refused = newest(trained)
    assert trained.active() == [champion]
    assert refused.gate is not None
    assert f"New model version: {refused.version}. {refused.gate.reason}" in ended.said
    assert f"Active model version: {champion} (as before)" in ended.said
    assert f"Active model version: {refused.version}" not in ended.said
    assert f"Bundle: {refused.model_path}" in ended.said
    # The command that it names does what it says.
    command = re.search(r"models activate \S+ --why", ended.said)
    assert command is not None
    assert trained.run(*command[0].split(), "to see it").code == 0
    assert trained.active() == [refused.version]


def test_the_mode_never_records_without_promoting_and_always_promotes(trained: Installation) -> None:
    (champion,) = trained.active()
    said = shown(trained.execute(ALONE, experiment={"promotion": {"mode": "never"}}))
    assert trained.active() == [champion]
    assert "promotion.mode is never" in said["gate"]
    # Another mode is no other model: everything made under the one is used under the other.
    assert newest(trained).params_hash == trained.versions()[-1].params_hash
    shuffle_labels(trained)
    said = shown(trained.execute(RETRAINED, experiment={"promotion": {"mode": "always"}}))
    assert trained.active() == [newest(trained).version] == [said["version"]]
    assert "promotion.mode is always" in said["gate"]


def test_a_champion_of_another_experiment_is_compared_where_both_foretell_the_same(trained: Installation) -> None:
    (champion,) = trained.active()
    # The champion reads features that the challenger does not: they are read from the database.
    fewer = {"features": ["ret_5d", "rsi_14"]}
    said = shown(trained.execute(FROM_LABELS, experiment=fewer))
    row = newest(trained)
    assert row.gate is not None
    assert row.gate.champion == champion
    assert row.gate.sessions == said["common_sessions"] > 40
    assert trained.active() == [row.version if row.gate.promoted else champion]

    # Another horizon is another question: its first answer takes the place of the one before, and says why.
    (before,) = trained.active()
    said = shown(trained.execute(FROM_LABELS, experiment={"horizon": 10}))
    assert trained.active() == [said["version"]]
    assert (
        f"in place of {before}, with which it could not be compared: its labels have another meaning (horizon)"
        in (said["gate"])
    )
    assert "gate_figures" not in said


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("UPDATE model_versions SET manifest_sha256 = NULL", "another program recorded it"),
        ("UPDATE model_versions SET model_path = '/nowhere'", "there is no bundle at /nowhere"),
        ("UPDATE model_versions SET manifest_sha256 = repeat('0', 64)", "manifest.json is not the file that was"),
    ],
)
def test_a_champion_without_a_sound_bundle_gives_way(trained: Installation, fault: str, why: str) -> None:
    run(trained.database(), fault)
    said = shown(trained.execute(ALONE))
    assert trained.active() == [said["version"]]
    assert f"could not be compared: {why}" in said["gate"]
    gate = newest(trained).gate
    assert gate is not None
    assert json.dumps(gate.to_json(), allow_nan=False)


def test_a_champion_that_a_person_changes_while_the_gate_decides_is_looked_at_anew(
    trained: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained.execute(ALONE).success
    second, first = (row.version for row in trained.versions())
    decide, asked = module.decide, []

    def meanwhile(*arguments: Any) -> Any:  # noqa: ANN401 (as the gate decides)
        asked.append(arguments[1].version)
        if len(asked) == 1:
            activate(trained.database(), first, who="ann", why="", inspect=lambda _row: None)
        return decide(*arguments)

    # Between the look at what is active and the record there is no other place to come in.
    monkeypatch.setattr(module, "decide", meanwhile)
    assert trained.execute(ALONE).success
    assert asked == [second, first]
    events = [(event.version_from, event.version_to) for event in list_events(trained.database())[-2:]]
    assert events == [(second, first), (first, newest(trained).version)]
    trained.verify()
