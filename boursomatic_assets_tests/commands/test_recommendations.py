"""The commands that make, read and explain recommendations, as a person and another program use them."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING

import pytest

from boursomatic_assets.storage.postgres.stored_recommendations import find_recommendation
from boursomatic_assets_tests.support.catalog import run
from boursomatic_assets_tests.support.installation import new_installation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boursomatic_assets_tests.support.installation import Installation, Outcome

pytestmark = pytest.mark.slow

SYMBOLS = ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
# Feature, value, contribution, and the bar.
DRAWN = re.compile(r"^│ (\w+) +│ +([-\d.,%]+|none) │ +([+-]\d\.\d{3}) │ ([ \u2588]*│[ \u2588]*) │$", re.MULTILINE)
# Fractions are read in percent.
IN_PERCENT = {"ret_1d", "ret_5d", "ret_20d", "momentum_5d", "vol_20d", "natr_14"}
PROFILES = ["conservative", "moderate", "aggressive"]


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """The sample with a model and its recommendations. Tests leave it as they found it."""
    with new_installation() as made:
        ended = made.run("materialize", "--to", "recommendations")
        assert ended.code == 0, ended.errors
        assert "Recommendations: 15 on 5 instruments, session 2013-03-01" in ended.said
        assert "Read them: boursomatic recommendations; why: boursomatic explain SYMBOL" in ended.said
        yield made


@pytest.fixture(scope="module")
def recommended(installation: Installation) -> Outcome:
    """What `recommend` prints where nothing is new."""
    ended = installation.run("recommend")
    assert ended.code == 0, ended.errors
    return ended


def test_recommend_closes_with_calls_of_each_profile_and_what_was_written(
    installation: Installation, recommended: Outcome
) -> None:
    assert "Recommendations: 15 on 5 instruments, session 2013-03-01" in recommended.said
    counts = re.findall(r"(conservative|moderate|aggressive) +(\d+) +(\d+) +(\d+)", recommended.said)
    stored = installation.ask(
        "SELECT profile, count(*) FILTER (WHERE label = 'BUY'), count(*) FILTER (WHERE label = 'HOLD'), "
        "count(*) FILTER (WHERE label = 'SELL') FROM recommendations WHERE is_active GROUP BY 1"
    )
    assert {name: tuple(map(int, found)) for name, *found in counts} == {name: tuple(c) for name, *c in stored}
    version = installation.active()[0]
    assert f"Rows: 0 new, 0 archived, 15 as they were; model version {version}" in recommended.said
    assert "materialized recommendations 15 rows" in recommended.said
    assert "materialized classifier" not in recommended.said
    assert recommended.errors == ""


def test_recommend_lists_the_strongest_calls_with_their_reasons(
    installation: Installation, recommended: Outcome
) -> None:
    calls = installation.ask("SELECT justification FROM recommendations WHERE label <> 'HOLD' AND is_active")
    if not calls:
        assert "No profile calls BUY or SELL" in recommended.said
        return
    assert "Strongest calls" in recommended.output
    # Its first words: the table breaks the rest into lines.
    assert any(" ".join(str(text).split()[:4]) in recommended.said for (text,) in calls)


def test_recommend_says_who_was_left_out_and_why(installation: Installation) -> None:
    run(
        installation.database(),
        "INSERT INTO unexplained_jumps (symbol, session, ratio, split_ratio) "
        "VALUES ('IBM', '2012-03-01', 0.5, 0.5)",
    )
    try:
        ended = installation.run("recommend")
    finally:
        run(installation.database(), "DELETE FROM unexplained_jumps")
    assert ended.code == 0
    assert "on 4 instruments, session 2013-03-01; 1 instrument left out" in ended.said
    assert re.search(r"IBM +quarantined", ended.said)
    assert "check failed few_instruments_are_left_out of recommendations" in ended.said


def test_recommendations_are_a_table_by_default(installation: Installation) -> None:
    ended = installation.run("recommendations")
    assert ended.code == 0
    found = re.findall(r"│ (\w+) +│ (conservative|moderate|aggressive) +│ (BUY|HOLD|SELL) +│", ended.output)
    assert [(symbol, profile) for symbol, profile, _ in found] == [(s, p) for s in SYMBOLS for p in PROFILES]
    assert "boursomatic explain SYMBOL" in ended.said


@pytest.mark.parametrize(
    ("arguments", "condition"),
    [
        ("", "true"),
        ("--profile aggressive", "profile = 'aggressive'"),
        ("--label hold", "label = 'HOLD'"),
        ("--symbol IBM", "symbol = 'IBM'"),
        ("--profile moderate --symbol FB", "profile = 'moderate' AND symbol = 'FB'"),
        ("--symbol NONE", "false"),
    ],
)
def test_json_and_csv_hold_what_is_asked_for_and_all_of_it(
    installation: Installation, arguments: str, condition: str
) -> None:
    wanted = installation.ask(
        "SELECT symbol, profile, label, confidence, justification FROM current_recommendations "  # noqa: S608
        f"WHERE {condition} ORDER BY 1, 2"
    )
    names = ("symbol", "profile", "label", "confidence", "justification")
    ended = installation.run("recommendations", *arguments.split(), "--json")
    found = json.loads(ended.output)
    assert sorted(tuple(row[name] for name in names) for row in found) == wanted
    assert all(row["session"] == "2013-03-01" for row in found)
    ended = installation.run("recommendations", *arguments.split(), "--csv")
    read = list(csv.DictReader(io.StringIO(ended.output)))
    assert sorted((row["symbol"], row["profile"], row["label"], float(row["confidence"])) for row in read) == [
        row[:4] for row in wanted
    ]
    assert ended.errors == ""


def test_what_matches_nothing_says_so(installation: Installation) -> None:
    ended = installation.run("recommendations", "--symbol", "NONE")
    assert (ended.code, ended.errors) == (0, "")
    assert "No active recommendation matches" in ended.said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("recommendations --json --csv", "choose one of --json and --csv"),
        ("recommendations --profile reckless", "'reckless' is not one of"),
        ("recommendations --label MAYBE", "'MAYBE' is not one of"),
        ("explain", "Missing argument"),
        ("explain IBM --profile reckless", "'reckless' is not one of"),
    ],
)
def test_wrong_usage_ends_with_2(installation: Installation, arguments: str, words: str) -> None:
    ended = installation.run(*arguments.split())
    assert ended.code == 2
    assert words in ended.said


def test_without_recommendations_the_next_command_is_named() -> None:
    with new_installation() as empty:
        ended = empty.run("recommendations")
        assert ended.code == 0
        assert "No recommendations yet: boursomatic recommend" in ended.said
        ended = empty.run("recommendations", "--json")
        assert json.loads(ended.output) == []
        ended = empty.run("explain", "IBM")
        assert ended.code == 1
        assert "nothing is recommended on 'IBM' for the profile moderate" in ended.said


@pytest.mark.parametrize("profile", PROFILES)
def test_explain_draws_what_each_feature_adds_the_largest_first(installation: Installation, profile: str) -> None:
    stored = next(row for row in find_recommendation(installation.database(), "IBM") if row["profile"] == profile)
    evidence, label = stored["snapshot"], stored["label"]
    ended = installation.run("explain", "IBM", "--profile", profile)
    assert ended.code == 0, ended.errors
    drawn = DRAWN.findall(ended.output)
    contributions = evidence["contributions"][label]
    assert [name for name, *_ in drawn] == sorted(contributions, key=lambda name: (-abs(contributions[name]), name))
    largest = max(map(abs, contributions.values()))
    for name, value, shown, picture in drawn:
        assert shown == f"{contributions[name]:+.3f}"
        left, right = picture.split("│")
        # Sixteen cells each way, the largest fills its side.
        cells = round(16 * abs(contributions[name]) / largest)
        filled = (0, cells) if contributions[name] >= 0 else (cells, 0)
        assert (left.count("\u2588"), right.count("\u2588")) == filled
        known = evidence["features"][name]
        written = f"{known:.2%}" if name in IN_PERCENT else f"{known:,.2f}"
        assert value == written
    chances = ", ".join(f"{name} {evidence['calibrated'][name]:.1%}" for name in ("BUY", "HOLD", "SELL"))
    assert f"Probabilities: {chances}; before calibration" in ended.said
    assert " ".join(stored["justification"].split()) in ended.said
    assert f"boursomatic trace {stored['id']}" in ended.said


def test_explain_of_an_unknown_symbol_says_where_to_look(installation: Installation) -> None:
    ended = installation.run("explain", "NONE")
    assert ended.code == 1
    assert ended.errors.startswith("Failed: nothing is recommended on 'NONE'")
    assert "boursomatic recommendations" in ended.said


def test_explain_of_another_program_s_row_says_that_it_kept_no_contributions(installation: Installation) -> None:
    run(
        installation.database(),
        "INSERT INTO instruments (id, symbol, exchange, is_active, created_at, updated_at) VALUES "
        "('00000000-0000-0000-0000-000000000001', 'THEIRS', 'XNYS', true, now(), now()); "
        "INSERT INTO recommendations (id, instrument_id, model_version_id, profile, label, confidence, "
        "features_snapshot, generated_at, is_active) SELECT gen_random_uuid(), "
        "'00000000-0000-0000-0000-000000000001', id, 'moderate', 'BUY', 0.9, '{}', now(), true FROM model_versions",
    )
    try:
        ended = installation.run("explain", "THEIRS")
        listed = installation.run("recommendations", "--symbol", "THEIRS")
    finally:
        run(
            installation.database(),
            "DELETE FROM recommendations r USING instruments i WHERE i.id = r.instrument_id "
            "AND i.symbol = 'THEIRS'; "
            "DELETE FROM instruments WHERE symbol = 'THEIRS'",
        )
    assert ended.code == 1
    assert "written by another program" in ended.said
    assert listed.code == 0
    assert "THEIRS" in listed.said
