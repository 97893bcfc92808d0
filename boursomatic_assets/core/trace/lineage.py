"""Column lineage: which columns each column is made from, back to the bars.

Derived from what computes the columns (`FEATURES`, `DERIVED_INPUTS`, schemas, classes): a new feature needs no
entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from boursomatic_assets.core.dataset.features import DEFAULT_INPUTS, FEATURES, derived_among
from boursomatic_assets.core.market.bars import BAR_SCHEMA, INSTRUMENT_SCHEMA, PANEL_KEY
from boursomatic_assets.core.measures.classification import PROBABILITIES, VOLATILITY

if TYPE_CHECKING:
    from collections.abc import Sequence

# An asset and one of its columns.
Column = tuple[str, str]
Dependencies = dict[str, list[Column]]

SETS = ("train_set", "validation_set", "test_set")
# The sets that no model has learned from.
UNSEEN_SETS = SETS[1:]
# What the classifier and the regressor learn to predict.
CLASS_TARGET, RETURN_TARGET = "label", "forward_return"
# The feature that sets the distance of stop and target from the close.
PRICED_BY = "atr_14"
# Columns that a label panel adds, with the column of the bars they follow from.
OUTCOMES = {
    RETURN_TARGET: "close",
    "label_end": "session",
    CLASS_TARGET: "close",
    "realised_return": "close",
    "realised_on": "session",
}
# Outcome columns of a judged row, with the label column used where an instrument ended early.
JUDGED = {CLASS_TARGET: "realised_return", RETURN_TARGET: "realised_return", "label_end": "realised_on"}
EARLY = "ended_early"


def column_dependencies(asset: str, features: Sequence[str] = DEFAULT_INPUTS) -> Dependencies:
    """Columns of an asset, in its order, each with the (asset, column) pairs from which its values are computed.

    `features` are the experiment's inputs; the asset `features` always holds all of `FEATURES`. The columns of a
    model are its predictions. Empty for an asset without column lineage.

    Examples
    --------
    >>> column_dependencies("features")["volume_zscore"]
    [('price_bars', 'volume')]
    >>> column_dependencies("labels", ["natr_14"])["natr_14"]
    [('features', 'atr_14'), ('price_bars', 'close')]
    """
    return _graph(features).get(asset, {})


def _graph(features: Sequence[str]) -> dict[str, Dependencies]:
    labels = {
        **_copies("features", PANEL_KEY),
        **_copies("price_bars", ["close"]),
        **_inputs(features),
        **{name: [("price_bars", source)] for name, source in OUTCOMES.items()},
    }
    return {
        # A stored bar names its instrument by a key: the symbol is the instrument's.
        "price_bars": {name: [("instruments", name)] for name in BAR_SCHEMA if name in INSTRUMENT_SCHEMA},
        "features": {
            **_copies("price_bars", PANEL_KEY),
            **{feature.name: _columns("price_bars", feature.sources) for feature in FEATURES},
        },
        "labels": labels,
        **{name: _copies("labels", list(labels)) for name in SETS},
        "classifier": {name: _columns("train_set", [*features, CLASS_TARGET]) for name in PROBABILITIES},
        "regressor": {"predicted_return": _columns("train_set", [*features, RETURN_TARGET])},
        "predictions": _predictions(PROBABILITIES, features),
        "baselines": {
            **_of_every_row(PANEL_KEY),
            "set": [*_both("session"), ("labels", "session")],
            **_baseline_columns("train_set", [*UNSEEN_SETS, "labels"], PROBABILITIES, features),
        },
        "walk_forward": _walk_forward(PROBABILITIES, features),
        "recommendations": _recommendations(PROBABILITIES, features),
    }


def _predictions(probabilities: Sequence[str], features: Sequence[str]) -> Dependencies:
    """Keys and outcomes of both unseen sets, and the models' predictions."""
    return {
        **_of_every_row(PANEL_KEY),
        # The set of a row follows from its session.
        "set": [*_both("session"), ("labels", "session")],
        **{name: [*_both(name), ("labels", realised)] for name, realised in JUDGED.items()},
        **_copies("classifier", probabilities),
        "predicted_label": _columns("classifier", probabilities),
        **_copies("regressor", ["predicted_return"]),
        **_of_every_row([name for name in features if name == VOLATILITY]),
        EARLY: [*_both(CLASS_TARGET), ("labels", CLASS_TARGET)],
    }


def _walk_forward(probabilities: Sequence[str], features: Sequence[str]) -> Dependencies:
    """The same of a fold, which trains its own models and baselines on earlier rows of the labels."""
    learned = _columns("labels", [*features, CLASS_TARGET])
    return {
        **_copies("labels", PANEL_KEY),
        # The fold of a row follows from its session.
        "fold": [("labels", "session")],
        **{name: _columns("labels", [name, realised]) for name, realised in JUDGED.items()},
        **dict.fromkeys([*probabilities, "predicted_label"], learned),
        "predicted_return": _columns("labels", [*features, RETURN_TARGET]),
        **_copies("labels", [name for name in features if name == VOLATILITY]),
        EARLY: [("labels", CLASS_TARGET)],
        **_baseline_columns("labels", ["labels"], probabilities, features),
    }


def _recommendations(probabilities: Sequence[str], features: Sequence[str]) -> Dependencies:
    """Predictions of the active models for the newest features, and prices that follow from the close."""
    read = list(dict.fromkeys(column for columns in _inputs(features).values() for column in columns))
    row = [*read, *_columns("classifier", probabilities)]
    called = list(dict.fromkeys([*row, ("features", VOLATILITY)]))
    priced = list(dict.fromkeys([*called, ("features", PRICED_BY), ("price_bars", "close")]))
    forecast = [*read, ("regressor", "predicted_return")]
    return {
        "symbol": [("instruments", "symbol")],
        "session": [("features", "session")],
        # Profile and horizon come from the experiment.
        "label": called,
        "confidence": row,
        "expected_return_pct": forecast,
        "stop_loss": priced,
        "take_profit": priced,
        "held_back": called,
        "justification": list(dict.fromkeys([*called, *forecast, ("price_bars", "close")])),
    }


def _baseline_columns(
    learned: str, rows: Sequence[str], probabilities: Sequence[str], features: Sequence[str]
) -> Dependencies:
    """Columns of the baselines; without its one feature the volatility-only classifier has none."""
    volatility = dict.fromkeys(
        [(learned, VOLATILITY), (learned, CLASS_TARGET), *[(row, VOLATILITY) for row in rows]]
    )
    by_volatility = {f"volatility_{name}": list(volatility) for name in probabilities}
    return {
        **(by_volatility if VOLATILITY in features else {}),
        "momentum_12_1": [("price_bars", "close")],
        **{f"prior_{name}": [(learned, CLASS_TARGET)] for name in probabilities},
        "prior_return": [(learned, RETURN_TARGET)],
    }


def _inputs(names: Sequence[str]) -> Dependencies:
    """Model inputs: columns of the features, or what follows from them and the close of the same row."""
    derived = {
        each.name: [*_columns("features", each.sources), *_columns("price_bars", ["close"])]
        for each in derived_among(names)
    }
    return {name: derived.get(name, [("features", name)]) for name in names}


def _both(name: str) -> list[Column]:
    return [(unseen, name) for unseen in UNSEEN_SETS]


def _of_every_row(names: Sequence[str]) -> Dependencies:
    """Columns of both sets, and of the labels for rows whose instrument ended too early for a set."""
    return {name: [*_both(name), ("labels", name)] for name in names}


def upstream_columns(asset: str, column: str, features: Sequence[str] = DEFAULT_INPUTS) -> list[list[Column]]:
    """Every ancestor of a column, layer by layer, from the nearest to the bars and instruments.

    An ancestor that is reached by several ways is listed once, in the farthest of its layers.

    Examples
    --------
    >>> for layer in upstream_columns("train_set", "rsi_14"):
    ...     print(layer)
    [('labels', 'rsi_14')]
    [('features', 'rsi_14')]
    [('price_bars', 'close')]
    """
    layers: list[list[Column]] = []
    reached = _parents((asset, column), features)
    while reached:
        layers.append(reached)
        # Dictionaries keep the order and drop what is reached twice.
        reached = list(dict.fromkeys(parent for child in reached for parent in _parents(child, features)))
    farthest = {child: depth for depth, layer in enumerate(layers) for child in layer}
    return [[child for child in layer if farthest[child] == depth] for depth, layer in enumerate(layers)]


def lineage_edges(assets: Sequence[str], features: Sequence[str] = DEFAULT_INPUTS) -> list[tuple[Column, Column]]:
    """Distinct (upstream column, column) pairs on all ways to the columns of some assets."""
    ends = [(asset, column) for asset in assets for column in column_dependencies(asset, features)]
    ancestors = [node for end in ends for layer in upstream_columns(*end, features) for node in layer]
    nodes = dict.fromkeys([*ends, *ancestors])
    return [(parent, node) for node in nodes for parent in _parents(node, features)]


def _parents(child: Column, features: Sequence[str]) -> list[Column]:
    asset, column = child
    return column_dependencies(asset, features).get(column, [])


def _columns(asset: str, names: Sequence[str]) -> list[Column]:
    return [(asset, name) for name in names]


def _copies(asset: str, names: Sequence[str]) -> Dependencies:
    return {name: [(asset, name)] for name in names}
