from __future__ import annotations

import dagster as dg
import pytest

from boursomatic_assets.commands.materialize import _selected
from boursomatic_assets.definitions import defs

GRAPH = defs.resolve_asset_graph()
ASSETS = sorted(key.to_user_string() for key in GRAPH.get_all_asset_keys())


def names(select: str | None, to: str | None) -> set[str]:
    keys = _selected(select, to)
    assert keys is not None
    return {key.to_user_string() for key in keys}


def read_by_checks_of(selected: set[str]) -> set[str]:
    """What the checks of some assets read, the assets themselves included."""
    return {
        key.to_user_string()
        for check in GRAPH.assets_defs
        if {key.asset_key.to_user_string() for key in check.check_keys} & selected
        for key in check.keys_by_input_name.values()
    }


@pytest.mark.parametrize("name", ASSETS)
def test_selected_up_to_an_asset_holds_all_that_its_checks_read(name: str) -> None:
    selected = names(None, name)
    assert read_by_checks_of(selected) <= selected
    upstream = dg.AssetSelection.assets(name).upstream().resolve(GRAPH)
    assert {key.to_user_string() for key in upstream} <= selected


def test_selected_adds_only_siblings_that_a_check_reads() -> None:
    # books_add_up of portfolio reads trades; no check reads positions. Checks of train_set read both other sets.
    assert names("portfolio", None) == {"portfolio", "trades"}
    assert names("trades", None) == {"trades"}
    assert names("train_set", None) == {"train_set", "validation_set", "test_set"}
    # predictions_are_out_of_sample reads labels, which another function makes: it is stored.
    assert names("predictions", None) == {"predictions"}
    assert "positions" not in names(None, "evaluation")
