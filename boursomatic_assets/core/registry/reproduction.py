"""Whether a recorded version can be reproduced, and whether its bars are still the same."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.market.fingerprints import fingerprint
from boursomatic_assets.core.registry.bundle import build_bundle, sha256, strict_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boursomatic_assets.core.models.threshold import Threshold
    from boursomatic_assets.core.registry.bundle import Bundle
    from boursomatic_assets.core.registry.manifest import Manifest
    from boursomatic_assets.core.registry.retraining import Retrained

# Without the pickles, which hold the thread count of the machine that trained.
COMPARED_FILES = ("classifier.txt", "regressor.txt", "metrics.json", "feature_importance.csv")
GONE, NEW, CLOSE, FEATURES = CHANGES = ("gone", "new", "close", "features")
# Relative and absolute rounding differences of sums over windows.
SAME_VALUE, SAME_AT_ZERO = 1e-9, 1e-12
_SHOWN_LETTERS = 60


@dataclass(frozen=True)
class ComparedPart:
    """One part of a version, recorded and reproduced; `first_difference` says where two files differ."""

    name: str
    recorded: str
    found: str
    first_difference: str = ""

    @property
    def is_identical(self) -> bool:
        """Whether every byte is the same."""
        return self.recorded == self.found


def compare_parts(recorded: Bundle, retrained: Retrained) -> list[ComparedPart]:
    """Compare a bundle with what its snapshot gives today.

    The parts are the three sets, the decision rule of the manifest, and the bytes of `COMPARED_FILES`. A rule that
    an earlier version did not record is left out.
    """
    sets = [
        ComparedPart(name, str(recorded.manifest.training_data[name].content_sha256), fingerprint(panel))
        for name, panel in retrained.split.sets().items()
    ]
    again = build_bundle(
        retrained.classifier, retrained.regressor, retrained.metrics_json, retrained.importance, provenance={}
    )
    files = [_compared(name, recorded.files[name], again[name]) for name in COMPARED_FILES]
    return [*sets, *_compared_rule(recorded.manifest, retrained.threshold), *files]


def _compared_rule(manifest: Manifest, threshold: Threshold) -> list[ComparedPart]:
    """The threshold of BUY and the temperature, in what the manifest says of them."""
    said = manifest.threshold.model_dump(exclude_unset=True)
    again = {name: value for name, value in threshold.to_json().items() if name in said}
    return [_compared("threshold", strict_json(said), strict_json(again))] if said else []


def _compared(name: str, then: bytes, now: bytes) -> ComparedPart:
    return ComparedPart(name, sha256(then), sha256(now), first_difference(then.decode(), now.decode()))


def first_difference(then: str, now: str) -> str:
    r"""Name the first line in which two texts differ; empty where they are equal.

    Examples
    --------
    >>> first_difference("a=1\nb=2", "a=1\nb=3")
    "line 2: 'b=2' -> 'b=3'"
    """
    lines = zip_longest(then.splitlines(keepends=True), now.splitlines(keepends=True))
    for number, (before, after) in enumerate(lines, start=1):
        if before != after:
            return f"line {number}: {_shown(before)} -> {_shown(after)}"
    return ""


def _shown(line: str | None) -> str:
    if line is None:
        return "no such line"
    text = line.strip()
    return repr(text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}...")


@dataclass(frozen=True)
class EnvironmentChange:
    """A change in code or packages since a version was trained; None for absent."""

    kind: str
    name: str
    then: str | None
    now: str | None


def environment_changes(
    manifest: Manifest, code: Mapping[str, str | None], packages: Mapping[str, str]
) -> list[EnvironmentChange]:
    """Differences between the code and packages of a manifest and those in use."""
    return [
        EnvironmentChange(kind, name, then.get(name), now.get(name))
        for kind, then, now in (("code", manifest.code, code), ("packages", manifest.packages, packages))
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]


def compare_panels(then: pl.DataFrame, now: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Compare a snapshot with the panel that today's bars give, over the snapshot's sessions.

    Returns
    -------
    DataFrame
        A row per changed symbol and session: `change` is `gone`, `new`, `close` (another close) or `features` (same
        close, other features); `close_then`, `close_now`; `features` names those that differ.

    Notes ----- Labels are not compared: those of the snapshot's newest sessions became known later. Values are
    equal if they agree to `SAME_VALUE` of the larger, or to `SAME_AT_ZERO`.
    """
    values = ["close", *columns]
    spanned = now.filter(pl.col("session").is_between(then["session"].min(), then["session"].max()))
    both = then.select(*PANEL_KEY, *values, _then=True).join(
        spanned.select(*PANEL_KEY, *values, _now=True), on=PANEL_KEY, how="full", coalesce=True, suffix="_today"
    )
    found = both.with_columns(change=_change(columns)).filter(pl.col("change").is_not_null())
    in_both = pl.col("_then").is_not_null() & pl.col("_now").is_not_null()
    differing = [pl.when(in_both & ~_agrees(name)).then(pl.lit(name)) for name in columns]
    return found.select(
        *PANEL_KEY,
        pl.col("change").cast(pl.Enum(CHANGES)),
        close_then="close",
        close_now="close_today",
        features=pl.concat_list(differing).list.drop_nulls(),
    ).sort(PANEL_KEY)


def _change(columns: Sequence[str]) -> pl.Expr:
    return (
        pl.when(pl.col("_now").is_null())
        .then(pl.lit(GONE))
        .when(pl.col("_then").is_null())
        .then(pl.lit(NEW))
        .when(~_agrees("close"))
        .then(pl.lit(CLOSE))
        .when(~pl.all_horizontal(_agrees(name) for name in columns))
        .then(pl.lit(FEATURES))
    )


def _agrees(name: str) -> pl.Expr:
    then, now = pl.col(name), pl.col(f"{name}_today")
    room = pl.max_horizontal(SAME_VALUE * pl.max_horizontal(then.abs(), now.abs()), pl.lit(SAME_AT_ZERO))
    return then.eq_missing(now) | ((then - now).abs() <= room).fill_null(value=False)


def changes_by_symbol(changes: pl.DataFrame) -> pl.DataFrame:
    """Sum up the changes of `compare_panels` by symbol, the most affected first.

    `rows`, `first` and `last` session, rows of each kind of change, and the first changed close (null without one).
    """
    other_close = pl.col("change") == CLOSE
    counted = changes.group_by("symbol", maintain_order=True).agg(
        rows=pl.len(),
        first=pl.col("session").first(),
        last=pl.col("session").last(),
        **{name: (pl.col("change") == name).sum() for name in CHANGES},
        close_session=pl.col("session").filter(other_close).first(),
        close_then=pl.col("close_then").filter(other_close).first(),
        close_now=pl.col("close_now").filter(other_close).first(),
    )
    return counted.sort("rows", "symbol", descending=[True, False])
