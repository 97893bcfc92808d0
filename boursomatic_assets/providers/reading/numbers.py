"""Numbers as texts: evidence from the whole column decides its number format, never a single value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from polars._typing import EngineType

MISSING = ("", "-", "--", "\u2013", "\u2014", "n/a", "na", "#n/a", "null", "none", "nan", "nil", ".", "n.a.", "nd")
# Rows examined before the whole column: enough to see a decimal sign.
SAMPLE_ROWS = 1000
# Largest share of a column's values in the other format; these then count as invalid.
MOST_MISTAKES = 0.01
_SPACES = "  \u00a0\u202f\u2009"
_SIGNS = "$\u20ac\u00a3\u00a5"
_GROUPED_BY_SPACE = r"^\d{1,3}([ \u00a0\u202f\u2009'\u2019]\d{3})+([.,]\d*)?$"
# Shapes of numbers; a text matches at most one pattern.
_SHAPES = {
    "whole": r"^\d+$",
    # 12.5, 0.125, 1234.567, .5, 1e5
    "point": r"^(\d*\.(\d{0,2}|\d{4,})|0\d*\.\d{3}|\d{4,}\.\d{3}|\.\d{3}|\d+(\.\d*)?[eE][+-]?\d+)$",
    # 1.234, which is ambiguous: 1234, or 1.234
    "point or thousands": r"^[1-9]\d{0,2}\.\d{3}$",
    # 12,5
    "comma": r"^(\d*,(\d{0,2}|\d{4,})|0\d*,\d{3}|\d{4,},\d{3}|,\d{3})$",
    "comma or thousands": r"^[1-9]\d{0,2},\d{3}$",
    # 1,234.5 and 1,234,567
    "comma thousands": r"^\d{1,3}(,\d{3})+\.\d*$|^\d{1,3}(,\d{3}){2,}$",
    # 1.234,5 and 1.234.567
    "point thousands": r"^\d{1,3}(\.\d{3})+,\d*$|^\d{1,3}(\.\d{3}){2,}$",
}
_POINT = ("point", "comma thousands")
_COMMA = ("comma", "point thousands")
_READ_WITH = {
    ".": ("whole", "point", "point or thousands", "comma or thousands", "comma thousands"),
    ",": ("whole", "comma", "comma or thousands", "point or thousands", "point thousands"),
}
_LAWFUL = {decimal: "|".join(_SHAPES[shape] for shape in shapes) for decimal, shapes in _READ_WITH.items()}
_SCALE = {"k": 1e3, "m": 1e6, "b": 1e9}


@dataclass(frozen=True)
class NumberStyle:
    """Number format of a column: its decimal sign (`.` or `,`), and whether each text is a plain number."""

    decimal: str = "."
    is_plain: bool = False


@dataclass(frozen=True)
class _Evidence:
    shapes: Mapping[str, int]
    examples: Mapping[str, str]
    given: int
    is_plain: bool = False

    def count(self, shapes: Sequence[str]) -> int:
        return sum(self.shapes.get(shape, 0) for shape in shapes)

    def example(self, shapes: Sequence[str]) -> str:
        return next((self.examples[shape] for shape in shapes if self.shapes.get(shape)), "")


def number_styles(
    table: pl.LazyFrame, columns: Sequence[str], separator: str, engine: EngineType = "in-memory"
) -> tuple[dict[str, NumberStyle], list[str]]:
    """Number format of each text column, and the problems: ambiguous columns, each with an example.

    `volume` and `adj_volume` are counts, all other columns prices. If the cells' `separator` is a comma, a bare
    comma is not a decimal sign. `engine` is that of polars: `streaming` for a table larger than memory.
    """
    evidence = _gather(table, columns, separator, engine)
    sides = {name: _side(found) for name, found in evidence.items()}
    by_point = next((name for name, side in sides.items() if side == "."), None)
    by_comma = next((name for name, side in sides.items() if side == ","), None)
    if by_point and by_comma:
        # The sign that fewer columns use is the suspect one.
        points = sum(side == "." for side in sides.values())
        odd, usual, decimal = (
            (by_comma, by_point, ".")
            if points * 2 >= len([s for s in sides.values() if s])
            else (by_point, by_comma, ",")
        )
        value = evidence[odd].example(_COMMA if decimal == "." else _POINT)
        other = evidence[usual].example(_POINT if decimal == "." else _COMMA)
        return {}, [f"expected plain numbers such as 12.5 for {odd}; found {value!r}, where {usual} has {other!r}"]
    usual_side = "." if by_point else "," if by_comma else None
    problems: list[str] = []
    styles = {}
    for name, found in evidence.items():
        decimal = sides[name] or usual_side or ""
        if problem := _doubt(name, found, decimal, separator):
            problems.append(problem)
        styles[name] = NumberStyle(decimal or ".", found.is_plain and decimal != ",")
    problems = problems or _no_number(table, evidence, styles, engine)
    return styles, problems or _two_currencies(table, styles, engine)


def _side(found: _Evidence) -> str | None:
    """Decimal sign in a column's values; `?` if they contradict each other, None without evidence."""
    points, commas = found.count(_POINT), found.count(_COMMA)
    if min(points, commas) > MOST_MISTAKES * (points + commas):
        return "?"
    return "." if points > commas else "," if commas else None


def _doubt(name: str, found: _Evidence, decimal: str, separator: str) -> str | None:
    """Why a column is ambiguous; None if it is not."""
    if decimal == "?":
        values = f"{found.example(_POINT)!r} and {found.example(_COMMA)!r}"
        return f"expected plain numbers such as 12.5 for {name}; found {values}, with two decimal signs"
    doubtful = [shape for shape in ("point or thousands", "comma or thousands") if found.shapes.get(shape)]
    value = found.example(doubtful)
    if doubtful and name.endswith("volume"):
        # Read as decimals, all volumes would have exactly three decimals.
        shape = {".": "point", ",": "comma"}.get(decimal)
        if shape and (f"{shape} or thousands" not in doubtful or found.count((shape,))):
            return None
        return (
            f"expected whole numbers for {name}; found {value!r}: three decimals, or thousands? Write it as 21220"
        )
    if not doubtful or decimal or (separator == "," and doubtful == ["point or thousands"]):
        return None
    return f"expected plain numbers such as 12.5 for {name}; found {value!r}, which can be read two ways"


def _gather(
    table: pl.LazyFrame, columns: Sequence[str], separator: str, engine: EngineType
) -> dict[str, _Evidence]:
    first = _shapes_of(table.select(columns).head(SAMPLE_ROWS).collect().lazy(), columns, "in-memory")
    number = {name: pl.col(name).cast(pl.Float64, strict=False) for name in columns}
    # In a comma-separated file, a point in a price is a decimal sign; in a volume it may mark thousands.
    told_by_fractions = [name for name in columns if name.endswith("volume") or separator != ","]
    counts = table.select(
        *((number[name].null_count() - pl.col(name).null_count()).alias(f"{name} bad") for name in columns),
        *((number[name] % 1 != 0).sum().alias(f"{name} fractions") for name in told_by_fractions),
    ).collect(engine=engine)
    evidence = {}
    for name, seen in first.items():
        settled = name not in told_by_fractions
        if not settled:
            whole = not counts[f"{name} fractions"].item() and seen.count(("point or thousands",)) == 0
            settled = whole or (not name.endswith("volume") and bool(seen.count(_POINT)))
        if counts[f"{name} bad"].item() == 0 and settled:
            evidence[name] = replace(seen, is_plain=True)
    others = [name for name in columns if name not in evidence]
    found = evidence | (_shapes_of(table, others, engine) if others else {})
    return {name: found[name] for name in columns}


def _shapes_of(table: pl.LazyFrame, columns: Sequence[str], engine: EngineType) -> dict[str, _Evidence]:
    """Count the texts of each shape in each column, with the first example."""
    cores = table.select(
        *(pl.col(name) for name in columns),
        *(_core(_cleaned(pl.col(name))).alias(f"{name} core") for name in columns),
    )
    is_a = {
        (name, shape): pl.col(f"{name} core").str.contains(pattern)
        for name in columns
        for shape, pattern in _SHAPES.items()
    }
    found = cores.select(
        *(held.sum().alias(f"{name} {shape}") for (name, shape), held in is_a.items()),
        *(pl.col(name).filter(held).first().alias(f"{name} {shape} text") for (name, shape), held in is_a.items()),
        *(pl.col(f"{name} core").count().alias(f"{name} given") for name in columns),
    ).collect(engine=engine)
    return {
        name: _Evidence(
            {shape: int(found[f"{name} {shape}"].item() or 0) for shape in _SHAPES},
            {shape: str(found[f"{name} {shape} text"].item()) for shape in _SHAPES},
            given=int(found[f"{name} given"].item()),
        )
        for name in columns
    }


def _no_number(
    table: pl.LazyFrame, evidence: Mapping[str, _Evidence], styles: Mapping[str, NumberStyle], engine: EngineType
) -> list[str]:
    """Problems of columns that have values but no number."""
    empty = [
        name
        for name, style in styles.items()
        if not style.is_plain and evidence[name].given and not evidence[name].count(_READ_WITH[style.decimal])
    ]
    if not empty:
        return []
    texts = table.select(pl.col(name).filter(_cleaned(pl.col(name)).is_not_null()).first() for name in empty)
    first = texts.collect(engine=engine).row(0, named=True)
    return [
        f"expected plain numbers such as 12.5 for {name}; found {first[name]!r}, and no value that can be read"
        for name in empty
    ]


def _two_currencies(table: pl.LazyFrame, styles: Mapping[str, NumberStyle], engine: EngineType) -> list[str]:
    """Problem of prices with different currency signs."""
    priced = [name for name, style in styles.items() if not style.is_plain and not name.endswith("volume")]
    if not priced:
        return []
    signs = table.select(
        pl.col(name).str.extract(f"([{_SIGNS}])").unique().drop_nulls().implode() for name in priced
    )
    found = sorted({sign for cell in signs.collect(engine=engine).row(0) for sign in cell})
    if len(found) <= 1:
        return []
    return [f"expected prices in one currency; found the signs {' and '.join(found)}"]


def _cleaned(text: pl.Expr) -> pl.Expr:
    """Text without surrounding spaces and currency signs; null if it marks a missing value."""
    stripped = text.str.strip_chars(_SPACES + _SIGNS + "\t")
    return pl.when(~stripped.str.to_lowercase().is_in(MISSING)).then(stripped)


def _core(text: pl.Expr) -> pl.Expr:
    """Digits and separators: without sign, K, M or B, and without spaces or apostrophes between thousands."""
    unsigned = text.str.replace(r"^[+-]", "").str.replace(r"[KkMmBb]$", "").str.strip_chars(_SPACES)
    grouped = unsigned.str.contains(_GROUPED_BY_SPACE)
    return pl.when(grouped).then(unsigned.str.replace_all(r"[ \u00a0\u202f\u2009'\u2019]", "")).otherwise(unsigned)


def as_number(name: str, style: NumberStyle) -> pl.Expr:
    """Column as Float64; null for a missing value, and for a text outside the column's number format."""
    if style.is_plain:
        return pl.col(name).cast(pl.Float64, strict=False)
    text = _cleaned(pl.col(name))
    core = _core(text)
    lawful = core.str.contains(_LAWFUL[style.decimal])
    thousands = "," if style.decimal == "." else "."
    plain = core.str.replace_all(thousands, "", literal=True).str.replace(",", ".", literal=True)
    value = pl.when(lawful).then(plain).cast(pl.Float64, strict=False)
    sign = pl.when(text.str.starts_with("-")).then(-1.0).otherwise(1.0)
    if not name.endswith("volume"):
        abbreviated = text.str.contains(r"[KkMmBb]$")
        return pl.when(~abbreviated).then(value * sign).alias(name)
    letter = text.str.extract(r"([KkMmBb])$").str.to_lowercase()
    scale = letter.replace_strict(_SCALE, default=1.0, return_dtype=pl.Float64)
    # 45.23M is a whole number of shares: rounding removes the error of the product.
    scaled = pl.when(letter.is_not_null()).then((value * scale).round(0)).otherwise(value)
    return (scaled * sign).alias(name)


def not_a_number(name: str, read: str) -> pl.Expr:
    """Text of a cell with a value that is not a number; null for other cells.

    `name` is the column of texts, `read` the column with the result of `as_number`.
    """
    return pl.when(pl.col(read).is_null() & _cleaned(pl.col(name)).is_not_null()).then(pl.col(name))
