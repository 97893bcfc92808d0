from __future__ import annotations

import getpass
import json
import socket
from typing import TYPE_CHECKING

import pytest
from upath import UPath

from boursomatic_assets.core.models.training import feature_importance
from boursomatic_assets.core.registry.bundle import build_bundle
from boursomatic_assets.core.registry.gate import GateDecision
from boursomatic_assets.storage.artifacts.bundles import save_bundle
from boursomatic_assets.storage.postgres.model_table import ModelRow, record_version
from boursomatic_assets_tests.conftest import upgraded
from boursomatic_assets_tests.support import served
from boursomatic_assets_tests.support.bundles import MOMENT
from boursomatic_assets_tests.support.installation import Installation, new_installation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boursomatic_assets.settings import Settings

FIGURES = {
    "mode": "gate", "margin": 0.005, "rows": 80, "sessions": 40, "first_session": "2020-01-02",
    "last_session": "2020-02-28",
    "log_loss": {"challenger": 1.01, "champion": 1.0, "difference": 0.01, "low": -0.01, "high": 0.03,
                 "upper_bound": 0.0265, "why_undefined": None},
    "matched_lift_buy": {"challenger": None, "champion": None, "difference": None, "low": None, "high": None,
                         "upper_bound": None, "why_undefined": "no call"},
    "rank_ic": {"challenger": 0.01, "champion": 0.02, "difference": -0.01, "low": -0.05, "high": 0.03,
                "upper_bound": None, "why_undefined": None},
}  # fmt: skip


@pytest.fixture
def installed(settings: Settings) -> Iterator[Installation]:
    """Four versions with bundles that can be served: two were active, then two were refused."""
    upgraded(settings)
    with new_installation(settings.database_url) as installation:
        champion = None
        for number in range(4):
            champion = _record(installation, number, champion)
        yield installation


def _record(installation: Installation, number: int, champion: str | None) -> str | None:
    provenance = {"experiment": served.EXPERIMENT.model_dump(mode="json"), "threshold": {"tau": None}}
    moment = MOMENT.replace(second=number)
    version, folder, digest = save_bundle(
        UPath(str(installation.artifacts)),
        moment,
        lambda version: build_bundle(
            *served.models(), {}, feature_importance(*served.models()), {"version": version, **provenance}
        ),
    )
    promoted = number < 2
    gate = GateDecision(
        promoted, f"Reason {number}.", champion, version, 40 if champion else 0, FIGURES if champion else {}
    )
    row = ModelRow(version, moment, "p" * 64, {}, str(folder), digest, promoted, gate)
    record_version(installation.database(), row, who=f"run {number}", why=gate.reason, champion=champion)
    return version if promoted else champion


def names(installation: Installation) -> list[str]:
    """Versions, the oldest first."""
    return [row.version for row in reversed(installation.versions())]


def test_the_list_says_which_one_is_active_and_what_the_gate_decided(installed: Installation) -> None:
    ended = installed.run("models", "list")
    assert ended.code == 0
    lines = {name: next(line for line in ended.output.splitlines() if name in line) for name in names(installed)}
    first, second, third, fourth = lines.values()
    assert "yes" in second
    assert "yes" not in first + third + fourth
    assert "promoted" in first
    assert "promoted" in second
    assert "refused" in third
    assert "refused" in fourth
    assert f"Active bundle: {installed.artifacts}/models/{names(installed)[1]}" in ended.said


def test_a_version_is_shown_with_the_decision_its_figures_and_what_became_of_it(installed: Installation) -> None:
    _, second, third, _ = names(installed)
    said = installed.run("models", "show", third).said
    for words in (
        f"Version {third}", "Active no", "Gate Reason 2.", "40 sessions, 2020-01-02 to 2020-02-28",
        "Log loss, nats (lower is better) 1.0100 1.0000 0.0100 -0.0100 0.0300 0.0265", "refused",
        "run 2",
    ):  # fmt: skip
        assert words in said
    assert f"{third} refused, {second} stayed, by run 2: Reason 2." in said
    assert f'To activate boursomatic models activate {third} --why "..."' in said
    assert "To activate" not in installed.run("models", "show", second).said
    found = json.loads(installed.run("models", "show", third, "--json").output)
    assert (found["version"], found["is_active"], found["gate"]["figures"]) == (third, False, FIGURES)
    assert [event["event"] for event in found["events"]] == ["refused"]


def test_the_active_version_is_the_one_that_is_shown_where_none_is_named(installed: Installation) -> None:
    _, second, _, _ = names(installed)
    assert f"Version {second} Active yes" in installed.run("models", "show").said


def test_names_are_whole_in_a_narrow_window(installed: Installation) -> None:
    third = names(installed)[2]
    assert all(name in installed.run("models", "list", COLUMNS="60").output for name in names(installed))
    output = installed.run("models", "show", third, COLUMNS="60").output
    assert output.count(f"{third} refused, {names(installed)[1]} stayed") == 1
    assert max(map(len, output.splitlines())) > 60


def test_a_version_without_a_decision_is_shown_all_the_same(installed: Installation) -> None:
    database = installed.database()
    with database.connection() as connection:
        connection.exec_driver_sql(
            "INSERT INTO model_versions (id, version, params_hash, metrics_json) "
            "VALUES (gen_random_uuid(), 'theirs', 'h', '{}')"
        )
    said = installed.run("models", "show", "theirs").said
    assert "Gate no decision is recorded" in said
    assert "Bundle none" in said
    assert "theirs" in installed.run("models", "list").said
    refused = installed.run("models", "activate", "theirs")
    assert (refused.code, installed.active()) == (1, [names(installed)[1]])
    assert "version theirs has no bundle: another program recorded it" in refused.said


def test_activating_and_going_back_say_what_was_active_before(installed: Installation) -> None:
    first, second, third, _ = names(installed)
    ended = installed.run("models", "activate", third, "--why", "the [crash] is over")
    assert (ended.code, ended.said) == (0, f"Active model version: {third} (before: {second})")
    assert installed.active() == [third]
    again = installed.run("models", "activate", third)
    assert again.said == f"{third} is the active version already; nothing was changed."
    shown = json.loads(installed.run("models", "show", third, "--json").output)["events"][-1]
    assert shown["who"] == f"{getpass.getuser()}@{socket.gethostname()}"
    assert shown["why"] == "the [crash] is over"
    assert "the [crash] is over" in installed.run("models", "show", third).said

    back = installed.run("models", "rollback")
    assert (back.code, back.said) == (0, f"Active model version: {second} (before: {third})")
    assert installed.run("models", "rollback", "--why", "older still").code == 0
    assert installed.active() == [first]
    no_further = installed.run("models", "rollback")
    assert (no_further.code, installed.active()) == (1, [first])
    assert "there is no version to go back to" in no_further.said
    assert "boursomatic models activate VERSION" in no_further.said


def test_a_version_that_cannot_be_served_is_not_activated(installed: Installation) -> None:
    _, second, third, _ = names(installed)
    text = installed.artifacts / "models" / third / "classifier.txt"
    text.write_bytes(text.read_bytes() + b" ")
    refused = installed.run("models", "activate", third)
    assert (refused.code, installed.active()) == (1, [second])
    assert "classifier.txt is not the file that was recorded" in refused.said


def test_a_version_whose_bundle_was_pruned_is_not_activated_and_it_says_where_it_went(
    installed: Installation,
) -> None:
    _, second, third, _ = names(installed)
    assert installed.run("models", "prune", "--keep", "1", "--yes").code == 0
    refused = installed.run("models", "activate", third)
    assert (refused.code, installed.active()) == (1, [second])
    assert f"the bundle of version {third} is not at" in refused.said
    assert f"boursomatic models show {third}" in refused.said
    assert f"{third} pruned: its bundle was removed, by " in installed.run("models", "show", third).said


@pytest.mark.parametrize("command", ["show", "activate"])
def test_a_version_that_does_not_exist_is_named(installed: Installation, command: str) -> None:
    ended = installed.run("models", command, "nothing")
    assert ended.code == 1
    assert "there is no version 'nothing'; see what there is: boursomatic models list" in ended.said


def test_pruning_says_what_would_go_and_removes_it_only_when_told_to(installed: Installation) -> None:
    first, second, third, fourth = names(installed)
    assert installed.run("models", "prune").said == "Nothing to remove."
    said = installed.run("models", "prune", "--keep", "1").said
    assert said.startswith(f"bundle {third} Would remove 1 bundle and 0 snapshots")
    assert "boursomatic models prune --keep 1 --yes" in said
    assert installed.bundles() == {first, second, third, fourth}
    said = installed.run("models", "prune", "--keep", "1", "--yes").said
    assert said.startswith(f"bundle {third} Removed 1 bundle and")
    assert installed.bundles() == {first, second, fourth}
    assert len(installed.versions()) == 4
    assert "pruned" in installed.run("models", "show", third).said


def test_before_the_first_training_the_list_says_how_to_begin(settings: Settings) -> None:
    upgraded(settings)
    with new_installation(settings.database_url) as empty:
        assert empty.run("models", "list").said == "No model version yet: boursomatic materialize"
        assert empty.run("models", "rollback").code == 1
        shown = empty.run("models", "show")
        assert (shown.code, "no version is active; see what there is" in shown.said) == (1, True)
        assert empty.run("models", "prune", "--keep", "0", "--yes").said == "Nothing to remove."
