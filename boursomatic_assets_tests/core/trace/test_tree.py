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
    compared,
    gathered,
    values_step,
    vouched,
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


def test_the_source_is_the_last_step_that_differs_on_each_way() -> None:
    assert TREE.sources() == [(PATH_TO_THE_BAR, BAR), (("recommendation", "run"), TraceStep("run", GONE))]


def test_a_step_is_walked_before_what_it_was_made_from() -> None:
    names = ["recommendation", "call", "code", "features", "bars", "2018-01-02", "run"]
    assert [step.name for _, step in TREE.walk()] == names


@pytest.mark.parametrize(
    ("status", "matches"),
    [(MATCHES, True), (CHANGED, True), (NOT_RECORDED, False), (GONE, False), (DIFFERS, False)],
)
def test_a_trace_matches_where_every_step_does(status: str, matches: bool) -> None:  # noqa: FBT001
    root = TraceStep("recommendation", MATCHES, children=(TraceStep("bars", status),))
    assert Trace({}, root).matches is matches


def test_as_json_a_trace_has_its_facts_its_sources_and_all_steps() -> None:
    found = json.loads(json.dumps(Trace({"symbol": "AAA"}, TREE).to_json(), allow_nan=False))
    assert (found["symbol"], found["matches"]) == ("AAA", False)
    assert [source["path"] for source in found["sources"]] == [list(PATH_TO_THE_BAR), ["recommendation", "run"]]
    assert found["sources"][0]["found"] == "close 2.0"
    assert found["steps"]["children"][1]["children"][0]["name"] == "bars"


def test_numbers_are_compared_to_the_last_bit() -> None:
    # the number after 0.1 is 0.1 + 2 ** -56 (0.1 lies between 2 ** -4 and 2 ** -3, with 52 bits after the first)
    assert compared("x", 0.1, 0.1 + 2**-56).status == DIFFERS
    assert compared("x", 0.1, 0.1).status == MATCHES
    assert compared("x", None, 0.0).status == DIFFERS
    assert compared("x", None, None).status == MATCHES


def test_what_nobody_wrote_down_and_what_is_no_longer_there_are_told_apart() -> None:
    found = [
        vouched("x", *texts).status for texts in ((None, "b"), (None, None), ("a", None), ("a", "b"), ("a", "a"))
    ]
    assert found == [NOT_RECORDED, NOT_RECORDED, GONE, DIFFERS, MATCHES]


def test_a_step_of_parts_is_as_they_are() -> None:
    assert gathered("x", []).status == MATCHES
    assert gathered("x", [TraceStep("a", CHANGED)]).status == MATCHES
    assert gathered("x", [TraceStep("a", MATCHES), TraceStep("b", NOT_RECORDED)]).status == DIFFERS


def test_of_many_values_those_that_differ_are_named() -> None:
    step = values_step("x", {"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 1.0, "b": 2.5, "d": 4.0}, "Why")
    # b has another value, c is only on one side and d only on the other
    assert [(part.name, part.recorded, part.found) for part in step.children] == [
        ("b", "2.0", "2.5"),
        ("c", "3.0", "nothing"),
        ("d", "nothing", "4.0"),
    ]
    assert step.detail == "3 of 4 values not as recorded. Why"
    assert values_step("x", {"a": 1}, {"a": 1}).detail == "1 value"
