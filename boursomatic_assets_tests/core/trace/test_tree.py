from __future__ import annotations

import json

import pytest

from boursomatic_assets.core.trace.tree import (
    CHANGED,
    DIFFERS,
    GONE,
    MATCHES,
    NOT_RECORDED,
    Trace,
    TraceStep,
    digest_step,
    group_step,
    value_step,
    values_step,
)

BAR = TraceStep("2018-01-02", DIFFERS, "close 1.0", "close 2.0")
TREE = TraceStep(
    "recommendation",
    DIFFERS,
    children=(
        TraceStep("call", MATCHES, children=(TraceStep("code", CHANGED),)),
        TraceStep("features", DIFFERS, children=(TraceStep("bars", DIFFERS, children=(BAR,)),)),
        TraceStep("run", GONE),
    ),
)
PATH_TO_THE_BAR = ("recommendation", "features", "bars", "2018-01-02")


def test_sources_are_the_last_steps_that_differ() -> None:
    assert TREE.sources() == [(PATH_TO_THE_BAR, BAR), (("recommendation", "run"), TraceStep("run", GONE))]


def test_walk_begins_with_the_step() -> None:
    names = ["recommendation", "call", "code", "features", "bars", "2018-01-02", "run"]
    assert [step.name for _, step in TREE.walk()] == names


@pytest.mark.parametrize(
    ("status", "matches"),
    [(MATCHES, True), (CHANGED, True), (NOT_RECORDED, False), (GONE, False), (DIFFERS, False)],
)
def test_trace_matches_where_every_step_is_sound(status: str, matches: bool) -> None:  # noqa: FBT001
    root = TraceStep("recommendation", MATCHES, children=(TraceStep("bars", status),))
    assert Trace({}, root).matches is matches


def test_trace_as_json_has_facts_sources_and_steps() -> None:
    found = json.loads(json.dumps(Trace({"symbol": "AAA"}, TREE).to_json(), allow_nan=False))
    assert (found["symbol"], found["matches"]) == ("AAA", False)
    assert [source["path"] for source in found["sources"]] == [list(PATH_TO_THE_BAR), ["recommendation", "run"]]
    assert found["sources"][0]["found"] == "close 2.0"
    assert found["steps"]["children"][1]["children"][0]["name"] == "bars"


def test_value_step_compares_to_the_last_bit() -> None:
    # the number after 0.1 is 0.1 + 2 ** -56 (0.1 lies between 2 ** -4 and 2 ** -3, with 52 bits after the first)
    assert value_step("x", 0.1, 0.1 + 2**-56).status == DIFFERS
    assert value_step("x", 0.1, 0.1).status == MATCHES
    assert value_step("x", None, 0.0).status == DIFFERS
    assert value_step("x", None, None).status == MATCHES


def test_digest_step_tells_not_recorded_from_gone() -> None:
    cases = {(None, "b"): NOT_RECORDED, (None, None): NOT_RECORDED, ("a", None): GONE, ("a", "b"): DIFFERS}
    assert {texts: digest_step("x", *texts).status for texts in cases} == cases
    assert digest_step("x", "a", "a").status == MATCHES


def test_group_step_is_sound_where_its_parts_are() -> None:
    assert group_step("x", []).status == MATCHES
    assert group_step("x", [TraceStep("a", CHANGED)]).status == MATCHES
    assert group_step("x", [TraceStep("a", MATCHES), TraceStep("b", NOT_RECORDED)]).status == DIFFERS


def test_values_step_names_what_differs() -> None:
    step = values_step("x", {"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 1.0, "b": 2.5, "d": 4.0}, "Why")
    # b has another value, c is only on one side and d only on the other
    assert [(part.name, part.recorded, part.found) for part in step.children] == [
        ("b", "2.0", "2.5"),
        ("c", "3.0", "nothing"),
        ("d", "nothing", "4.0"),
    ]
    assert step.detail == "3 of 4 values not as recorded. Why"
    assert values_step("x", {"a": 1}, {"a": 1}).detail == "1 value"
