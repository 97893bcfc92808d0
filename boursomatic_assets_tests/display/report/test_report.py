"""The report as a document: well-formed, complete with any value missing, and without any request."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import tomllib
from datetime import date
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError
from plotly.graph_objects import Figure

from boursomatic_assets.core.evaluation.survivors import find_survivors, panel_spans
from boursomatic_assets.display.report.canvas import rounded, shortened
from boursomatic_assets.display.report.figures import books_chart, rolling_mean
from boursomatic_assets.display.report.filters import decimals_for, interval, number, p_value, sentence
from boursomatic_assets.display.report.importance import ReportImportance, importance_charts
from boursomatic_assets.display.report.page import environment
from boursomatic_assets.display.report.writing import ReportProofs
from boursomatic_assets_tests.support.pages import (
    HOSTILE,
    HOSTILE_TEXTS,
    occurrences,
    parsed,
    structure,
    words_of,
)
from boursomatic_assets_tests.support.synthetic_report import (
    PROOFS,
    SURVIVORS,
    contributions_of,
    evaluation_of,
    model_of,
    poisoned_report,
    report_of,
    walk_forward_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MINUS, DASH, SPACE = "\N{MINUS SIGN}", "\N{EN DASH}", "\N{NO-BREAK SPACE}"
ONE_BAR = pl.DataFrame({"symbol": ["AAA"], "session": [date(2018, 1, 2)]})
SECTIONS = ("conclusions", "walk_forward", "test_set", "importance", "proofs", "definitions", "made")
CHARTS = ("books", "ic", "years", "reliability", "deciles", "costs")
MOST_BYTES = 6_000_000


def macro(template: str, name: str) -> Callable[..., str]:
    return getattr(environment().get_template(template).module, name)


def charts_in(page: str) -> dict[str, Any]:
    (found,) = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    return json.loads(found)


@pytest.fixture(scope="module")
def page() -> str:
    return report_of(walk_forward=walk_forward_of())


def test_report_is_well_formed_and_small(page: str) -> None:
    assert page.startswith("<!DOCTYPE html>")
    tags = [tag for tag, _ in parsed(page).nodes]
    assert tags.count("h1") == 1
    assert len(page.encode()) < MOST_BYTES


def test_report_has_every_section_in_order_with_a_link(page: str) -> None:
    nodes = parsed(page).nodes
    assert [attributes["id"] for tag, attributes in nodes if tag == "h2"] == list(SECTIONS)
    links = [attributes["href"] for tag, attributes in nodes if tag == "a"]
    assert links == [f"#{name}" for name in SECTIONS]


def test_report_has_a_place_and_a_caption_for_every_chart(page: str) -> None:
    nodes = parsed(page).nodes
    places = {attributes["id"] for _, attributes in nodes if attributes.get("class") == "plot"}
    chapters = {f"{scope}_{chart}" for scope in ("walk_forward", "test_set") for chart in CHARTS}
    assert places == chapters | {"importance_gain", "importance_shap", "importance_swarm"}
    assert places == set(charts_in(page)["figures"])
    tags = [tag for tag, _ in nodes]
    assert tags.count("figure") == tags.count("figcaption") == len(places)


def test_report_has_a_caption_per_table_and_a_scope_per_heading(page: str) -> None:
    nodes = parsed(page).nodes
    tags = [tag for tag, _ in nodes]
    assert tags.count("table") == tags.count("caption") > 10
    scopes = [attributes.get("scope") for tag, attributes in nodes if tag == "th"]
    assert set(scopes) == {"row", "col", "rowgroup"}


def test_report_loads_nothing_and_runs_only_its_own_scripts(page: str) -> None:
    nodes = parsed(page).nodes
    loading = {"src", "srcset", "poster", "background", "action", "data", "ping"}
    assert not [attributes for _, attributes in nodes if loading & set(attributes)]
    assert [attributes["href"] for tag, attributes in nodes if tag == "link"] == ["data:,"]
    assert "@import" not in page.partition("</style>")[0]
    assert "url(" not in page.partition("</style>")[0]
    (policy,) = [str(attributes["content"]) for _, attributes in nodes if "http-equiv" in attributes]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert re.findall(r"'sha256-([^']+)'", policy) == digests
    assert len(scripts) == 2
    assert "http:" not in policy
    assert "https:" not in policy


def test_report_begins_with_the_walk_forward(page: str) -> None:
    words = words_of(page)
    assert words.index("Walk-forward, 2017-05-01") < words.index("Test set, 2017-05-01")


def test_report_repeats_the_verdict_word_for_word() -> None:
    evaluation = evaluation_of()
    evaluation["verdict"] = {"skill": True, "sentence": "Skill, it seems.", "remarks": ["First.", "Second."]}
    page = report_of(evaluation)
    assert "Skill, it seems. First. Second." in words_of(page)
    assert 'class="said skill"' in page
    assert 'class="said skill"' not in report_of()


def test_report_shows_the_smallest_rank_ic_beside_each() -> None:
    # 190 sessions are 0.75 years; two errors are 0.023, and (0.023 / 0.01)^2 = 5.29 times 0.754 years 3.99.
    assert "Rank IC 0.0123 0.0230 0.8 4.0" in words_of(report_of())
    assert f"Rank IC at equal volatility {DASH} 1 sessions have one, and 22 are needed" in words_of(report_of())


def test_report_shows_survivors_by_year() -> None:
    words = words_of(report_of())
    assert SURVIVORS.sentence in words
    # 480 / 504 = 95.2 %, 503 / 505 = 99.6 %
    assert "2016 505 2 504 480 95.2 % 2016-06-30" in words
    assert "2017 503 0 505 503 99.6 % 2017-06-30" in words
    assert "traded for more than 20 sessions after its last bar" in words
    unknown = evaluation_of() | {"survivors": find_survivors(panel_spans(ONE_BAR)).to_json()}
    words = words_of(report_of(unknown))
    assert "no symbol of this panel stops trading before the panel ends." in words
    assert "Year Symbols Ended 2018 1 0 The books" in words
    assert "A symbol has ended" not in words_of(report_of(unknown | {"survivors": None}))


def test_report_without_a_walk_forward_says_how_to_make_one() -> None:
    page = report_of(model=model_of(no_walk_forward="There is none. Make it: boursomatic x"))
    assert "There is none. Make it: boursomatic x" in words_of(page)
    assert "walk_forward" not in {attributes.get("id") for _, attributes in parsed(page).nodes}


def test_report_without_proof_runs_names_their_command() -> None:
    assert "boursomatic bench --proofs" in words_of(report_of(proofs=ReportProofs(PROOFS.checks)))
    assert "boursomatic bench --proofs" not in words_of(report_of())


def test_report_shows_proof_runs_of_any_shape() -> None:
    runs = {
        "null": {"runs": 3, "passed": True, "nothing": None},
        "leaks": ["one bar ahead", "no purge"],
        "extra": 1.5,
    }
    words = words_of(report_of(proofs=ReportProofs((), runs)))
    assert "runs 3 passed yes nothing \N{EN DASH}" in words
    assert "one bar ahead no purge" in words
    assert "extra 1.500" in words
    assert "measured on an unknown day" in words
    assert "No check has been recorded." in words


def test_report_shows_the_last_result_of_each_check() -> None:
    words = words_of(report_of())
    assert "features the future is not read passed 2024-03-01 18:30" in words
    assert "train_set sets do not touch failed" in words
    assert "metrics figures are plausible never evaluated" in words


def test_report_names_version_run_code_and_packages() -> None:
    model = model_of(version=None)
    words = words_of(report_of(model=model))
    assert "none recorded of these models" in words
    for said in (model.params_hash, model.run_id, "ab" * 32, "lightgbm 4.7.0", "not from a checkout", "horizon 20"):
        assert said in words


def leaves(value: Any) -> list[Any]:  # noqa: ANN401
    if isinstance(value, dict):
        return [*value, *(leaf for item in value.values() for leaf in leaves(item))]
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list) else [value]


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_report_keeps_hostile_texts_as_text(text: str) -> None:
    harmless = "x" * len(text)
    page, expected = poisoned_report(text), poisoned_report(harmless)
    assert structure(page) == structure(expected)
    assert occurrences(page, text) == occurrences(expected, harmless) > 100
    (embedded,) = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert not set("<>&'") & set(embedded)
    told = leaves(json.loads(embedded))
    assert len(told) == len(leaves(charts_in(expected)))
    assert text in told


def test_report_turns_no_text_into_markup() -> None:
    page = poisoned_report(HOSTILE)
    nodes = parsed(page).nodes
    assert [tag for tag, _ in nodes].count("script") == 3
    assert "img" not in [tag for tag, _ in nodes]
    assert not [attributes for _, attributes in nodes if "onerror" in attributes]
    assert HOSTILE.replace("&amp;", "&") in html.unescape(html.unescape(page))


def test_templates_insert_only_files_of_the_package_unescaped() -> None:
    folder = resources.files("boursomatic_assets.display.report") / "templates"
    sources = {found.name: found.read_text(encoding="utf-8") for found in folder.iterdir()}
    assert sorted(sources) == environment().list_templates()
    unescaped = {name: re.findall(r"\w+ *\| *safe|autoescape", source) for name, source in sources.items()}
    assert {name: found for name, found in unescaped.items() if found} == {
        "base.html": ["style | safe", "script | safe"]
    }


def test_package_data_hold_every_file_of_the_pages() -> None:
    package = Path(str(resources.files("boursomatic_assets")))
    project = tomllib.loads((package.parent / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["boursomatic_assets"]
    files = {path for path in (package / "display").rglob("*.*") if path.suffix not in {".py", ".pyc"}}
    assert len(files) > 8
    assert files <= {path for pattern in patterns for path in package.glob(pattern)}


def test_templates_refuse_a_missing_value() -> None:
    with pytest.raises(UndefinedError, match="no attribute 'symbol'"):
        environment().from_string("Of {{ facts.symbol }}").render(facts={})


def test_report_of_equal_input_has_equal_bytes(page: str) -> None:
    environment.cache_clear()
    assert report_of(walk_forward=walk_forward_of()) == page


def emptied(value: Any) -> Any:  # noqa: ANN401
    """Every number, text and flag replaced by null, the shape left as it is."""
    if isinstance(value, dict):
        return {name: emptied(item) for name, item in value.items()}
    return [emptied(item) for item in value] if isinstance(value, list) else None


SHAPES = {
    "nothing at all": {},
    "only its scope": {"scope": "test set"},
    "nothing under any name": dict.fromkeys(evaluation_of()),
    "no value anywhere": {**emptied(evaluation_of()), "scope": "test set"},
    "empty books": {
        **evaluation_of(),
        "curves": {"books": {"buy": {"sessions": [], "returns": []}, "benchmark": None}},
    },
    "one symbol and one session": evaluation_of(sessions=1, symbols=1),
}


@pytest.mark.parametrize("name", SHAPES)
def test_report_is_whole_with_gaps_anywhere(name: str) -> None:
    page = report_of(SHAPES[name], walk_forward={**SHAPES[name], "scope": "walk-forward", "folds": [{}]})
    ids = {attributes.get("id") for _, attributes in parsed(page).nodes}
    assert set(SECTIONS) - {"test_set"} <= ids
    charts_in(page)


def test_report_of_models_without_splits_is_whole() -> None:
    empty = ReportImportance(pl.DataFrame({"feature": [], "classifier_gain": [], "regressor_gain": []}))
    page = report_of(importance=empty)
    assert "No split was made." in words_of(page)
    assert importance_charts(ReportImportance(empty.gains, contributions_of(rows=0))) == []


def test_report_says_why_a_figure_is_undefined() -> None:
    assert "SELL lift at equal volatility undefined SELL was never called" in words_of(report_of())


def test_report_shows_long_names_whole_in_tables_and_cut_in_charts() -> None:
    evaluation = evaluation_of()
    name = "A" * 300
    evaluation["comparisons"] = [{**evaluation["comparisons"][0], "baseline": f"{name}{row}"} for row in range(400)]
    evaluation["curves"]["books"][name] = evaluation["curves"]["books"]["buy"]
    words = words_of(report_of(evaluation))
    assert f"{name}399" in words
    assert shortened(name) in words
    assert len(shortened(name)) == 40


def test_charts_are_valid_for_plotly(page: str) -> None:
    found = charts_in(page)

    def whole(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, dict):
            return (
                found["lists"][value["list"]]
                if "list" in value
                else {key: whole(item) for key, item in value.items()}
            )
        if isinstance(value, list):
            return [whole(item) for item in value]
        # The page looks colours up by their names.
        return "#123456" if isinstance(value, str) and value.startswith("var:") else value

    for chart in found["figures"].values():
        Figure(data=whole(chart["data"]), layout=whole(chart["layout"]))


def test_charts_use_only_colours_of_the_style_sheet(page: str) -> None:
    style = page.partition("</style>")[0]
    parts = style.partition("* {")[0].split("@media (prefers-color-scheme: dark)")
    light, dark = (set(re.findall(r"(--[a-z-]+):", part)) for part in parts)
    used = set(re.findall(r"var:(--[a-z-]+)", json.dumps(charts_in(page))))
    assert used <= light
    assert light == dark


def test_books_chart_hides_some_books_at_first(page: str) -> None:
    assert charts_in(page)["figures"]["test_set_books"]["hidden"] == ["volatility", "momentum"]
    pressed = [
        (attributes["data-group"], attributes["aria-pressed"])
        for tag, attributes in parsed(page).nodes
        if tag == "button" and attributes["data-figure"] == "test_set_books"
    ]
    assert dict(pressed)["momentum"] == "false"
    assert dict(pressed)["buy"] == "true"


def test_books_chart_compounds_returns_and_skips_gaps() -> None:
    # 1 * 1.1 = 1.1; no return; 1.1 * 0.5 = 0.55, which is 0.55 / 1.1 - 1 = -0.5 from the peak
    chart = books_chart("books", {"buy": {"sessions": ["a", "b", "c"], "returns": [0.1, None, -0.5]}})
    assert chart is not None
    assert [trace["y"] for trace in chart.data] == [[1.1, 1.1, 0.55], [0.0, 0.0, -0.5]]


def test_rolling_mean_begins_with_a_full_window_and_skips_gaps() -> None:
    # of 2: none yet; (1 + 3) / 2 = 2; 3 alone; 5 alone; and none of two gaps
    assert rolling_mean([1.0, 3.0, None, 5.0], 2) == [None, 2.0, 3.0, 5.0]
    assert rolling_mean([1.0, None, None], 2) == [None, 1.0, None]


@settings(max_examples=50)
@given(st.lists(st.floats(-1, 1) | st.none(), max_size=40), st.integers(1, 10))
def test_rolling_mean_equals_numpy(values: list[float | None], window: int) -> None:
    for place, found in enumerate(rolling_mean(values, window)):
        known = [value for value in values[max(place - window + 1, 0) : place + 1] if value is not None]
        assert found == (pytest.approx(np.mean(known), abs=1e-12) if known and place + 1 >= window else None)


def test_rounded_keeps_five_digits() -> None:
    assert rounded([0.123456789, None, 12345.678]) == [0.12346, None, 12346.0]


def test_number_and_p_value_are_written_for_people() -> None:
    assert number(0.1234, "percent") == f"12.3{SPACE}%"
    assert number(-0.0042, "percent") == f"{MINUS}0.42{SPACE}%"
    assert number(-1234.5) == f"{MINUS}1,234"
    assert number(0.01234) == "0.0123"
    assert number(1.5) == "1.500"
    assert number(12.0) == "12"
    assert number(-0.00001) == "0.0000"
    assert number(None) == "\N{EN DASH}"
    assert p_value(0.0004) == f"<{SPACE}0.001"
    assert p_value(0.0416) == "0.042"


def test_sentence_has_a_capital_and_a_full_stop() -> None:
    assert sentence("none of 40 values stands") == "None of 40 values stands."
    assert sentence(" It stands. ") == "It stands."
    assert sentence("") == ""


def test_figures_table_folds_details_and_no_unknown_figure() -> None:
    names = ("rank_ic", "icir", "buy_turnover", "something_new")
    figures = [{"name": name, "value": 0.5, "group": "new"} for name in names]
    table = macro("tables.html", "figures_table")(figures)
    shown, _, folded = table.partition("<details><summary>2 more figures</summary>")
    assert ("rank_ic" in shown, "something_new" in shown, "icir" in shown) == (True, True, False)
    assert ("icir" in folded, "buy_turnover" in folded) == (True, True)


def test_interval_has_the_decimals_of_its_figure_and_needs_both_ends() -> None:
    places = decimals_for([0.0123, None])
    assert interval(-0.011, 0.036, places=places) == f"{MINUS}0.0110 to 0.0360"
    assert interval(None, 0.036) == "\N{EN DASH}"
    assert interval(0.1, 0.25, "percent") == f"10.0{SPACE}% to 25.0{SPACE}%"


def test_strip_draws_marks_in_proportion() -> None:
    # from -1 to 3 over 108 of 120 px, 6 px free at each end: 0 lies at 6 + 27 = 33, 1 at 6 + 54 = 60
    strip = macro("parts.html", "strip")
    drawn = strip(1.0, -1.0, 3.0, 0.0)
    assert 'class="none" x1="33.0"' in drawn
    assert 'cx="60.0"' in drawn
    assert strip(1.0, None, 3.0, 0.0) == '<td class="strip"></td>'
    assert 'class="none"' not in strip(1.0, 1.0, 1.0, None)


def test_report_without_charts_has_no_script() -> None:
    empty = pl.DataFrame({"feature": [], "classifier_gain": [], "regressor_gain": []})
    page = report_of({}, importance=ReportImportance(empty))
    assert "script-src 'none'" in page
    assert "<script>" not in page


def test_books_chart_is_none_without_a_session() -> None:
    assert books_chart("books", {"buy": {"sessions": [], "returns": []}}) is None


def test_report_defines_each_term() -> None:
    texts = [text for text in parsed(report_of()).texts if text[0] in {"dt", "dd"}]
    found = texts[[text for _, text in texts].index("Forward return") :]
    assert [tag for tag, _ in found] == ["dt", "dd"] * (len(found) // 2)
    told = [" ".join(text.split()) for _, text in found]
    terms = list(zip(told[::2], told[1::2], strict=True))
    assert len(terms) > 15
    assert all(term and len(meaning) > 20 for term, meaning in terms)
    assert ("Independent periods", "Sessions / H: about the number of observations that do not overlap.") in terms
