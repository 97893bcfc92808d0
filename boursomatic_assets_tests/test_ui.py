"""What a person sees and clicks in the Dagster UI, from an empty home on: `boursomatic dev` in a real Chromium."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from boursomatic_assets.definitions import defs
from boursomatic_assets.storage.dagster.instance import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)
from boursomatic_assets_tests.conftest import ONE_THREAD
from boursomatic_assets_tests.support.browser import (
    HOST,
    PAGE_MILLISECONDS,
    RUN_SECONDS,
    Product,
    Window,
    in_chromium,
    open_window,
    running_product,
    wait_until,
)
from boursomatic_assets_tests.support.hostile import hostile_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import FloatRect, Locator, Page

GROUPS = (
    *("market_data", "features", "labels", "splits", "models", "predictions", "baselines", "metrics", "portfolio"),
    *("evaluation", "walk_forward", "report", "model_version", "recommendations", "outcomes", "drift"),
)
FOLDS = [f"fold_{number:02d}" for number in range(1, 9)]


@dataclass(frozen=True)
class Box:
    """What the page of an asset has to show beyond what all have."""

    group: str
    is_table: bool = True
    has_column_lineage: bool = True
    pictures: int = 0


BOXES = {
    "instruments": Box("market_data", has_column_lineage=False),
    "price_bars": Box("market_data", pictures=1),
    "features": Box("features"),
    "labels": Box("labels", pictures=1),
    "train_set": Box("splits", pictures=2),
    "validation_set": Box("splits", pictures=2),
    "test_set": Box("splits", pictures=2),
    "classifier": Box("models", is_table=False, pictures=1),
    "regressor": Box("models", is_table=False, pictures=1),
    "predictions": Box("predictions"),
    "threshold": Box("predictions", is_table=False, has_column_lineage=False),
    "metrics": Box("metrics", is_table=False, has_column_lineage=False, pictures=2),
    "feature_importance": Box("metrics", has_column_lineage=False, pictures=1),
    "model_version": Box("model_version", is_table=False, has_column_lineage=False),
    "baselines": Box("baselines"),
    "portfolio": Box("portfolio", has_column_lineage=False, pictures=1),
    "positions": Box("portfolio", has_column_lineage=False),
    "trades": Box("portfolio", has_column_lineage=False),
    "evaluation": Box("evaluation", is_table=False, has_column_lineage=False),
    "report": Box("report", is_table=False, has_column_lineage=False),
    "recommendations": Box("recommendations", pictures=2),
    "outcomes": Box("outcomes", has_column_lineage=False, pictures=1),
    "drift": Box("drift", has_column_lineage=False, pictures=1),
}
# What the job of the whole graph leaves out.
WALK_FORWARD = {
    "walk_forward": Box("walk_forward", pictures=1),
    "walk_forward_summary": Box("walk_forward", is_table=False, has_column_lineage=False, pictures=2),
}
PHOTOGRAPHED = (
    *("labels", "classifier", "metrics", "model_version", "baselines", "portfolio", "evaluation", "report"),
    *WALK_FORWARD,
)

# Their bounds are those of hundreds of stocks: five with a dozen BUY calls exceed them by luck.
TOO_GOOD_BY_CHANCE = ("figures_are_plausible", "evaluated_figures_are_plausible")

# Storage is emptied as before every page that is loaded.
FOLLOW_LINK = """path => {
  localStorage.clear();
  history.pushState({}, '', path);
  dispatchEvent(new PopStateEvent('popstate', {state: history.state}));
}"""

ASSETS = """{ assetNodes {
  assetKey { path } groupName description opVersion kinds staleStatus staleCauses { reason } owners { __typename }
  assetChecksOrError { ... on AssetChecks { checks {
    name description blocking executionForLatestMaterialization { runId status evaluation { severity description } }
  } } }
  assetMaterializations(limit: 1) {
    runId tags { key value }
    metadataEntries { label ... on JsonMetadataEntry { jsonString } ... on MarkdownMetadataEntry { mdStr } }
  }
} }"""


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    # What sensors start would be in the way of what is looked at here: they look once, and then not for an hour.
    with running_product({**ONE_THREAD, "BOURSOMATIC_SENSOR_SECONDS": "3600"}) as running:
        yield running


@pytest.fixture(scope="module")
def window() -> Iterator[Window]:
    with open_window() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(window: Window) -> Page:
    return window.page


@dataclass(frozen=True)
class Screenshots:
    """Pictures of pages, taken only where a folder for them is named: each costs up to seconds to draw."""

    folder: Path | None

    def take(self, page: Page, name: str) -> None:
        if self.folder is not None:
            page.screenshot(path=self.folder / f"{name}.png")


@pytest.fixture(scope="module")
def screenshots() -> Screenshots:
    wanted = os.environ.get("BOURSOMATIC_SCREENSHOTS")
    return Screenshots(Path(wanted) if wanted else None)


def passed(check: dict[str, Any]) -> bool:
    return check["executionForLatestMaterialization"]["status"] == "SUCCEEDED"


@dataclass(frozen=True)
class Run:
    """A run that succeeded, and what was known of the assets when it had."""

    run_id: str
    assets: dict[str, dict[str, Any]]

    def materialized(self) -> dict[str, dict[str, Any]]:
        """Assets that were ever materialized."""
        return {name: asset for name, asset in self.assets.items() if asset["assetMaterializations"]}

    def data_versions(self) -> dict[str, str]:
        return {name: _tag(asset, "dagster/data_version") for name, asset in self.materialized().items()}

    def stale(self) -> dict[str, list[str]]:
        """Why materialized assets are not up to date, as the UI says."""
        return {
            name: [cause["reason"] for cause in asset["staleCauses"]]
            for name, asset in self.materialized().items()
            if asset["staleStatus"] != "FRESH"
        }

    def metadata(self, asset: str) -> dict[str, str]:
        """Entries by name; the content of those that are JSON or Markdown."""
        entries = self.assets[asset]["assetMaterializations"][0]["metadataEntries"]
        return {entry["label"]: entry.get("jsonString", entry.get("mdStr", "")) for entry in entries}


@pytest.fixture(scope="module")
def first_run(product: Product, page: Page) -> Run:
    return _materialize_all(product, page)


@pytest.fixture(scope="module")
def second_run(product: Product, page: Page, first_run: Run) -> Run:  # noqa: ARG001 (comes after it)
    return _materialize_all(product, page)


@pytest.fixture(scope="module")
def walked(product: Product, page: Page, second_run: Run, screenshots: Screenshots) -> Run:  # noqa: ARG001 (comes after it)
    """The walk-forward as a person makes it: two folds to try it, then the others, its summary, and the report."""
    page.set_viewport_size({"width": 1600, "height": 1200})
    _open_folds(product, page)
    page.get_by_text("Select a partition or create one").click()
    for fold in FOLDS[:2]:
        page.get_by_role("menuitem", name=fold).click()
    page.keyboard.press("Escape")
    screenshots.take(page, "walk_forward_chosen")
    _launch_folds(product, page, FOLDS[:2])
    page.goto(product.address("/assets/walk_forward?view=partitions"))
    expect(page.get_by_text("Materialized (2)", exact=True)).to_be_visible()
    expect(page.get_by_text("Missing (6)", exact=True)).to_be_visible()
    _open_folds(product, page)
    page.get_by_role("button", name="Missing", exact=True).click()
    _launch_folds(product, page, FOLDS[2:])
    for asset in ("walk_forward_summary", "report"):
        page.goto(product.address(f"/assets/{asset}"))
        last = _launched(product, page.get_by_role("button", name="Materialize").first)
    return last


def _open_folds(product: Product, page: Page) -> None:
    page.goto(product.address("/assets/walk_forward?view=partitions"))
    # What opens a dialog has three dots.
    page.get_by_role("button", name="Materialize\N{HORIZONTAL ELLIPSIS}").click()


def _launch_folds(product: Product, page: Page, folds: list[str]) -> None:
    """Launch the backfill that the dialog shows, and wait for the success of one run a fold."""
    expect(page.get_by_role("dialog").get_by_text(f"{len(folds)} partitions", exact=True)).to_be_visible()
    before = _runs_by_hand(product)
    page.get_by_role("button", name="Launch backfill").click()
    count = len(before) + len(folds)
    wait_until(lambda: len(_runs_by_hand(product)) == count, RUN_SECONDS, "runs of all folds")
    new = _runs_by_hand(product) - before
    _rest(page)
    for run_id in new:
        product.require_success(run_id)
    assert sorted(map(sorted, (_partitions(product, run_id) for run_id in new))) == [[fold] for fold in folds]


def _partitions(product: Product, run_id: str) -> set[str]:
    """Partitions that a run materialized: one, or the ends of a range."""
    query = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { tags { key value } } } }"
    tags = product.graphql(query, id=run_id)["runOrError"]["tags"]
    names = ("dagster/partition", ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG)
    return {tag["value"] for tag in tags if tag["key"] in names}


def _materialize_all(product: Product, page: Page) -> Run:
    page.set_viewport_size({"width": 2400, "height": 1200})
    page.goto(product.address(_job(product)))

    def click() -> None:
        page.get_by_role("button", name="Materialize all").click()
        # The report says itself that there is no walk-forward yet: Dagster only knows that it may be read.
        question = page.get_by_role("dialog")
        expect(question.get_by_role("listitem")).to_have_text(["walk_forward_summary"])
        question.get_by_role("button", name="Confirm").click()

    return _launched_by(product, page, click)


def _job(product: Product) -> str:
    """Address of the page of the job that materializes the whole graph."""
    location = product.graphql(
        "{ repositoriesOrError { ... on RepositoryConnection { nodes { location { name } } } } }"
    )
    (repository,) = location["repositoriesOrError"]["nodes"]
    return f"/locations/{repository['location']['name']}/jobs/whole_graph"


def _visit(product: Product, page: Page, asset: str, view: str) -> None:
    """Open a page of an asset as a link of the UI does: the UI itself is loaded once."""
    path = f"/assets/{asset}?view={view}"
    if page.url.startswith(product.address()):
        page.evaluate(FOLLOW_LINK, path)
    else:
        page.goto(product.address(path))
    expect(page).to_have_title(f"Assets | {asset}")


def _rest(page: Page) -> None:
    """Show nothing while a run is waited for: pages that follow it are drawn again and again."""
    page.goto("about:blank")


def _launched(product: Product, button: Locator) -> Run:
    """The run that a click starts, when it has succeeded."""
    return _launched_by(product, button.page, button.click)


def _launched_by(product: Product, page: Page, start: Callable[[], None]) -> Run:
    before = _runs_by_hand(product)
    start()
    new = wait_until(lambda: _runs_by_hand(product) - before, RUN_SECONDS, "new run")
    assert len(new) == 1
    (run_id,) = new
    _rest(page)
    product.require_success(run_id)
    nodes = product.graphql(ASSETS)["assetNodes"]
    return Run(run_id, {node["assetKey"]["path"][0]: node for node in nodes})


def _runs_by_hand(product: Product) -> set[str]:
    """Runs that somebody launched; sensors and schedules are at work meanwhile."""
    query = "{ runsOrError { ... on Runs { results { runId tags { key } } } } }"
    automatic = {"dagster/sensor_name", "dagster/schedule_name"}
    return {
        run["runId"]
        for run in product.graphql(query)["runsOrError"]["results"]
        if automatic.isdisjoint(tag["key"] for tag in run["tags"])
    }


def _tag(asset: dict[str, Any], key: str) -> str:
    return next(tag["value"] for tag in asset["assetMaterializations"][0]["tags"] if tag["key"] == key)


def _open_lineage(product: Product, page: Page) -> None:
    # A graph that has to be made smaller to fit shows only the names of its boxes.
    page.set_viewport_size({"width": 3600, "height": 2000})
    page.goto(product.address("/asset-groups"))
    expect(_drawn(page)).to_have_count(len(GROUPS))
    expect(page.get_by_text("fetching statuses")).to_have_count(0)


def _drawn(page: Page) -> Locator:
    # An expanded group has a frame too, without a text.
    return page.locator("foreignObject", has_text=re.compile(r"\S"))


def _boxes(page: Page) -> list[tuple[str, FloatRect]]:
    """Name and place of each box of the graph, group or asset."""
    drawn = []
    for box in _drawn(page).all():
        place = box.bounding_box()
        assert place is not None
        drawn.append((box.locator("div").first.inner_text().splitlines()[0], place))
    return drawn


def _edges() -> set[tuple[str, str]]:
    """Each asset after each that it is made from."""
    graph = defs.resolve_asset_graph()
    return {
        (parent.to_user_string(), key.to_user_string())
        for key in graph.get_all_asset_keys()
        for parent in graph.get(key).parent_keys
    }


def _assert_upstream_is_left(places: dict[str, FloatRect], edges: set[tuple[str, str]]) -> None:
    wrong = [
        (upstream, box)
        for upstream, box in sorted(edges)
        if places[upstream]["x"] + places[upstream]["width"] > places[box]["x"]
    ]
    assert wrong == []


def _assert_none_overlap(places: list[FloatRect]) -> None:
    for one, other in combinations(places, 2):
        beside = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
        above = one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]
        assert beside or above, (one, other)


@in_chromium
def test_every_group_lies_right_of_the_groups_that_it_is_made_from(
    product: Product, page: Page, screenshots: Screenshots
) -> None:
    _open_lineage(product, page)
    drawn = _boxes(page)
    places = dict(drawn)
    assert sorted(places) == sorted(GROUPS)
    graph = defs.resolve_asset_graph()
    groups = {key.to_user_string(): graph.get(key).group_name for key in graph.get_all_asset_keys()}
    edges = {(groups[upstream], groups[asset]) for upstream, asset in _edges()}
    _assert_upstream_is_left(places, {(upstream, group) for upstream, group in edges if upstream != group})
    _assert_none_overlap([place for _, place in drawn])
    screenshots.take(page, "lineage_before")


@in_chromium
def test_materialize_all_of_the_whole_graphs_job_succeeds_in_one_run(
    product: Product, page: Page, first_run: Run, screenshots: Screenshots
) -> None:
    made = first_run.materialized()
    assert set(made) == set(BOXES)
    assert {asset["assetMaterializations"][0]["runId"] for asset in made.values()} == {first_run.run_id}
    page.set_viewport_size({"width": 1600, "height": 1400})
    page.goto(product.address(f"/runs/{first_run.run_id}"))
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    expect(page.get_by_text("RUN_SUCCESS")).to_be_visible()
    screenshots.take(page, "run")


@in_chromium
@pytest.mark.usefixtures("first_run")
def test_the_expanded_graph_draws_every_asset(product: Product, page: Page, screenshots: Screenshots) -> None:
    _open_lineage(product, page)
    screenshots.take(page, "lineage")
    # Expanded, it fits into the width, and only what is in sight is drawn.
    page.set_viewport_size({"width": 4600, "height": 12000})
    # The navigation has a button with the same picture.
    page.locator("button:has([aria-label=settings])").last.click()
    page.locator(":visible", has_text="Expand all groups").last.click()
    expect(_drawn(page)).to_have_count(len(GROUPS) + len(BOXES | WALK_FORWARD))
    page.keyboard.press("Escape")
    drawn = _boxes(page)
    assert Counter(name for name, _ in drawn) == Counter([*GROUPS, *BOXES, *WALK_FORWARD])
    # A group may have an asset's name; it is the wider box.
    widest = {name: place for name, place in sorted(drawn, key=lambda box: box[1]["width"]) if name in GROUPS}
    assert set(widest) == set(GROUPS)
    assets = {name: place for name, place in drawn if place is not widest.get(name)}
    assert set(assets) == set(BOXES | WALK_FORWARD)
    _assert_upstream_is_left(assets, _edges())
    screenshots.take(page, "lineage_expanded")


@in_chromium
@pytest.mark.parametrize("asset", BOXES)
def test_every_box_has_a_description_metadata_plots_and_pictures(
    asset: str, product: Product, page: Page, first_run: Run, screenshots: Screenshots
) -> None:
    page.set_viewport_size({"width": 1600, "height": 3000})
    _visit(product, page, asset, "overview")
    _assert_page_is_complete(page, asset, first_run, screenshots)


def _assert_page_is_complete(page: Page, asset: str, run: Run, screenshots: Screenshots) -> None:
    box = (BOXES | WALK_FORWARD)[asset]
    _assert_definition_is_shown(page, box, run.assets[asset])
    if box.is_table:
        _assert_columns_are_described(page)
    recorded = run.metadata(asset)
    assert ("dagster/column_lineage" in recorded) == box.has_column_lineage
    _assert_metadata_is_shown(page, set(recorded))
    if asset in PHOTOGRAPHED:
        screenshots.take(page, asset)
    pictures = [name for name, content in recorded.items() if content.startswith("![")]
    assert len(pictures) == box.pictures
    for name in pictures:
        _assert_picture_is_shown(page, name, asset, screenshots)
    _assert_plots_are_drawn(page)
    if asset in PHOTOGRAPHED:
        screenshots.take(page, f"{asset}_plots")


def _assert_definition_is_shown(page: Page, box: Box, asset: dict[str, Any]) -> None:
    first_paragraph = asset["description"].partition("\n\n")[0]
    words = " ".join(first_paragraph.replace("`", "").split())
    expect(page.get_by_text(words, exact=True)).to_be_visible()
    assert asset["groupName"] == box.group
    assert asset["owners"]
    assert asset["kinds"]
    for heading in ("Group", "Owners", "Kinds", "Source code"):
        expect(page.get_by_text(heading, exact=True)).to_be_visible()
    # The group is named as its module.
    link = page.get_by_role("link", name=f"Open {box.group}.py")
    expect(link).to_have_attribute("href", re.compile(rf"/assets/{box.group}\.py:\d+$"))
    page.get_by_text("Compute details", exact=True).click()
    expect(page.get_by_text("Code version", exact=True)).to_be_visible()
    expect(page.get_by_title(asset["opVersion"])).to_be_visible()


def _table(page: Page, first_heading: str) -> Locator:
    heading = page.get_by_role("cell", name=first_heading, exact=True)
    return page.get_by_role("table").filter(has=heading)


def _row(page: Page, name: str) -> Locator:
    """The row of a metadata entry. A preview is a table, too, inside a row."""
    rows = _table(page, "Key").locator("> tbody > tr")
    return rows.filter(has=page.get_by_role("cell", name=name, exact=True)).first


def _assert_columns_are_described(page: Page) -> None:
    rows = _table(page, "Column name").locator("tbody tr")
    expect(rows.first).to_be_visible()
    for row in rows.all():
        name, kind, description = (cell.inner_text().strip() for cell in row.locator("td").all())
        assert name
        assert kind
        assert description, f"{name} has no description"


def _assert_metadata_is_shown(page: Page, recorded: set[str]) -> None:
    # What Dagster knows by a name of its own has its own place on the page.
    for name in sorted(name for name in recorded if not name.startswith("dagster/")):
        value = _row(page, name).locator("> td").nth(2)
        expect(value).to_have_text(re.compile(r"\S"))


def _assert_picture_is_shown(page: Page, name: str, asset: str, screenshots: Screenshots) -> None:
    # In the table itself the UI shows only short Markdown.
    _row(page, name).get_by_text("[Show Markdown]", exact=True).click()
    dialog = page.get_by_role("dialog")
    picture = dialog.locator("img")
    expect(picture).to_be_visible()
    expect(picture).to_have_attribute("src", re.compile("^data:image/png;base64,"))
    expect(picture).to_have_attribute("alt", re.compile(r"\S"))
    width, natural_width = picture.evaluate("image => [image.clientWidth, image.naturalWidth]")
    # Drawn in its own size: neither broken nor squeezed until its text cannot be read.
    assert width == natural_width > 0
    screenshots.take(page, f"{asset}_{name}")
    dialog.get_by_role("button", name="Close").click()
    expect(picture).to_be_hidden()


def _assert_plots_are_drawn(page: Page) -> None:
    page.get_by_role("button", name="Plots").click()
    expect(page.locator("canvas").first).to_be_visible()
    inked = (
        "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(byte => byte)"
    )
    wait_until(lambda: page.locator("canvas").first.evaluate(inked), PAGE_MILLISECONDS / 1000, "ink on the plot")


@in_chromium
def test_every_check_passed_or_warns_of_small_numbers_and_says_what_it_checks(first_run: Run) -> None:
    checks = [
        check for asset in first_run.materialized().values() for check in asset["assetChecksOrError"]["checks"]
    ]
    assert len(checks) > len(GROUPS)
    for check in checks:
        last = check["executionForLatestMaterialization"]
        assert last["runId"] == first_run.run_id, check["name"]
        assert check["description"], check["name"]
        if not passed(check):
            assert check["name"] in TOO_GOOD_BY_CHANCE, last
            assert not check["blocking"]
            assert last["evaluation"]["severity"] == "WARN"
    (evaluated,) = (check for check in checks if check["name"] == "evaluated_figures_are_plausible")
    assert "chance alone can do this" in evaluated["executionForLatestMaterialization"]["evaluation"]["description"]


@in_chromium
@pytest.mark.parametrize(
    "asset",
    [
        *("price_bars", "features", "labels", "train_set", "classifier", "regressor", "metrics", "model_version"),
        *("predictions", "threshold", "portfolio", "evaluation"),
    ],
)
def test_the_checks_tab_shows_what_passed_and_what_warns(
    asset: str, product: Product, page: Page, first_run: Run, screenshots: Screenshots
) -> None:
    page.set_viewport_size({"width": 1600, "height": 1000})
    _visit(product, page, asset, "checks")
    checks = first_run.assets[asset]["assetChecksOrError"]["checks"]
    # The whole name is there, invisible, also where a shortened one is shown.
    for check in checks:
        expect(page.get_by_text(check["name"], exact=True).first).to_be_attached()
    expect(page.get_by_text("Succeeded", exact=True)).to_have_count(sum(map(passed, checks)))
    # A warning is written "Failed" too, beside a sign of its own.
    expect(page.get_by_text("Passed" if all(map(passed, checks)) else "Failed", exact=True).first).to_be_visible()
    screenshots.take(page, f"{asset}_checks")


@in_chromium
@pytest.mark.parametrize("asset", ["price_bars", "features"])
def test_the_page_says_whether_new_prices_are_overdue(
    asset: str, product: Product, page: Page, first_run: Run
) -> None:
    assert asset in first_run.assets
    page.goto(product.address(f"/assets/{asset}?view=overview"))
    expect(page.get_by_text("Fails if more than 5 days since last materialization")).to_be_visible()
    # The daemon judges freshness every half minute or so.
    expect(page.get_by_text("Passing", exact=True).first).to_be_visible(timeout=600_000)


@in_chromium
def test_the_automation_page_lists_an_update_after_each_close(
    product: Product, page: Page, screenshots: Screenshots
) -> None:
    page.goto(product.address("/automation"))
    for name, moment in {"us_after_close": "04:35 PM", "euronext_after_close": "06:05 PM"}.items():
        expect(page.get_by_text(name, exact=True)).to_be_visible()
        expect(page.get_by_text(re.compile(f"At {moment} .*, Monday through Friday"))).to_be_visible()
    for sensor in defs.sensors or []:
        expect(page.get_by_text(sensor.name, exact=True)).to_be_visible()
    screenshots.take(page, "automation")


@in_chromium
def test_a_second_run_on_unchanged_inputs_changes_no_version_and_leaves_nothing_stale(
    first_run: Run, second_run: Run
) -> None:
    before, after = first_run.data_versions(), second_run.data_versions()
    # Each training is a version of its own, even of the same models; its report and recommendations name it.
    for asset in ("model_version", "report", "recommendations"):
        assert before.pop(asset) != after.pop(asset)
    assert before == after
    assert second_run.stale() == {}


@in_chromium
def test_folds_launched_as_backfills_reach_the_summary_and_the_report(
    product: Product, page: Page, walked: Run, screenshots: Screenshots
) -> None:
    page.set_viewport_size({"width": 1600, "height": 1200})
    page.goto(product.address("/assets/walk_forward?view=partitions"))
    expect(page.get_by_text(f"Materialized ({len(FOLDS)})", exact=True)).to_be_visible()
    expect(page.get_by_text("Missing (0)", exact=True)).to_be_visible()
    # Beside each name stands an invisible one, to measure its width.
    page.get_by_text(FOLDS[1], exact=True).first.click()
    expect(page.get_by_text("Materialized", exact=True)).to_be_visible()
    expect(page.get_by_text("train_last_label_end", exact=True)).to_be_visible()
    screenshots.take(page, "walk_forward_partitions")
    page.goto(product.address("/assets/walk_forward_summary?view=checks"))
    expect(page.get_by_text("Passed", exact=True)).to_be_visible()
    assert walked.stale() == {}


@in_chromium
@pytest.mark.parametrize("asset", WALK_FORWARD)
def test_the_pages_of_the_walk_forward_are_complete(
    asset: str, product: Product, page: Page, walked: Run, screenshots: Screenshots
) -> None:
    page.set_viewport_size({"width": 1600, "height": 3000})
    _visit(product, page, asset, "overview")
    _assert_page_is_complete(page, asset, walked, screenshots)


@in_chromium
def test_the_path_on_the_reports_page_opens_what_the_walk_forward_concludes(
    product: Product, page: Page, first_run: Run, walked: Run, screenshots: Screenshots
) -> None:
    assert "walk_forward" in first_run.metadata("report")
    assert "walk_forward" not in walked.metadata("report")
    page.set_viewport_size({"width": 1600, "height": 3000})
    page.goto(product.address("/assets/report?view=overview"))
    path = Path(_row(page, "path").locator("> td").nth(2).inner_text().strip())
    conclusion = _row(page, "conclusion").locator("> td").nth(2).inner_text().strip()
    screenshots.take(page, "report_walked")
    page.goto(path.as_uri())
    expect(page.get_by_text(conclusion).first).to_be_visible()
    screenshots.take(page, "report_opened")


@in_chromium
@pytest.mark.usefixtures("walked")
def test_a_horizon_changed_in_the_launchpad_reaches_the_model_version(
    product: Product, page: Page, second_run: Run, screenshots: Screenshots
) -> None:
    page.set_viewport_size({"width": 1600, "height": 1400})
    page.goto(product.address(f"{_job(product)}/playground"))
    # The Launchpad opens with every default written out.
    expect(page.get_by_text("horizon: 20")).to_be_visible()
    page.locator(".CodeMirror").evaluate(
        "({CodeMirror: editor}) => editor.setValue(editor.getValue().replace('horizon: 20', 'horizon: 10'))"
    )
    expect(page.get_by_text("No errors")).to_be_visible()
    screenshots.take(page, "launchpad")
    run = _launched(product, page.get_by_role("button", name="Launch Run"))
    assert json.loads(run.metadata("model_version")["experiment"])["horizon"] == 10
    # Of all that is there only the walk-forward is of the other horizon; of what has partitions nothing is said.
    assert set(run.stale()) == {"walk_forward_summary"}
    before, after = second_run.data_versions(), run.data_versions()
    unchanged = {name for name in BOXES if before[name] == after[name]}
    # Of outcomes there are none yet.
    assert unchanged == {"instruments", "price_bars", "features", "outcomes"}
    # One of the three versions is active: the newest, which is listed first.
    lines = product.command("models", "list").splitlines()
    rows = [line for line in lines if re.match(r"\W*\d{8}_\d{6}_[0-9a-f]{6}\b", line)]
    assert [bool(re.search(r"\byes\b", row)) for row in rows] == [True, False, False]


@in_chromium
def test_a_hostile_page_reads_nothing_and_changes_nothing(product: Product, window: Window) -> None:
    keys = "{ assetsOrError { ... on AssetConnection { nodes { key { path } } } } }"
    before = product.graphql(keys)
    assert window.page.context.browser is not None
    page = window.page.context.browser.new_page()
    with hostile_page(product.address("")) as address:
        page.goto(address)
        attempts = page.evaluate("attack()")
    page.close()
    # An answer without permission is opaque: nothing of it can be read.
    assert {name for name, answer in attempts.items() if answer not in {"refused", "read "}} == set()
    assert len(attempts) == 8
    assert product.graphql(keys) == before


@in_chromium
def test_the_pages_ask_nothing_outside_this_machine_and_none_breaks(product: Product, window: Window) -> None:
    # Last of the browser's tests, so that it judges what all the others opened.
    _open_lineage(product, window.page)
    asked = {urlsplit(address.removeprefix("blob:")) for address in window.addresses}
    # The report is a file: what it asks for is looked at where its own tests are.
    assert {address.hostname for address in asked if address.scheme not in {"about", "data", "file"}} == {HOST}
    assert window.errors == []
    _rest(window.page)


@pytest.mark.slow
def test_ctrl_c_during_a_run_leaves_no_process(product: Product) -> None:
    # The last test of all: it ends the product.
    run_id = product.launch("whole_graph")
    wait_until(lambda: product.run_status(run_id) == "STARTED", RUN_SECONDS, "start of the run")
    assert product.interrupt() == 0
    assert product.remaining() == []
