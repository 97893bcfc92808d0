"""Dates as texts: evidence from the whole column decides the order of day, month and year.

Years have four digits. An ambiguous column is refused, with an example.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

import polars as pl

# Largest share of invalid values, which are set aside row by row; above it, the column is refused.
MOST_MISTAKES = 0.01
DAY = 86_400_000_000
READ_SCHEMA: dict[str, pl.DataType] = {"text": pl.String(), "date": pl.Date(), "moment": pl.Datetime("us")}
_EXPECTED = "expected dates such as 2024-01-31"
_NUMERIC = r"^(\d{1,4})[-/.](\d{1,2})[-/.](\d{1,4})(?:$|[T ,]\s*(\S.*)$)"
_COMPACT = r"^((?:1[5-9]|2[0-9])\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?:$|[T ](\d.*)$|(\d{4}(?:\d\d)?)$)"
_EPOCH = r"^-?\d{9,10}(\.\d+)?$|^-?\d{12,13}(\.0*)?$|^-?\d{15,16}$|^-?\d{18,19}$"
_NAMED = (
    re.compile(
        r"(?:[^\W\d]+\.?,? +)?([^\W\d]{3,9})\.?[ -]+(\d{1,2})(?:st|nd|rd|th)?,?[ -]+(\d{2,4})(?:,? +(\S.*))?"
    ),
    re.compile(
        r"(?:[^\W\d]+\.?,? +)?(\d{1,2})(?:st|nd|rd|th|er|\.)?[ -]+([^\W\d]{3,9})\.?,?[ -]+(\d{2,4})(?:,? +(\S.*))?"
    ),
)
_TIME = (
    r"^(\d{1,2})(?::?(\d{2}))?(?::?(\d{2})(?:[.,]\d+)?)?\s*([AaPp][Mm])?\s*"
    r"(?:(Z|UTC|GMT|EST|EDT|CET|CEST|BST)|([+-]\d{2}):?(\d{2})?)?(?:\s*\[.*\])?$"
)
_HOURS_OF_ZONE = {"Z": 0, "UTC": 0, "GMT": 0, "EST": -5, "EDT": -4, "CET": 1, "CEST": 2, "BST": 1}
# By their distinctive first letters, in English, French and German.
_MONTHS = {
    "jan": 1, "feb": 2, "fev": 2, "fév": 2, "mar": 3, "mär": 3, "mrz": 3, "apr": 4, "avr": 4, "may": 5, "mai": 5,
    "jun": 6, "juin": 6, "jul": 7, "juil": 7, "aug": 8, "aou": 8, "aoû": 8, "sep": 9, "oct": 10, "okt": 10,
    "nov": 11, "dec": 12, "déc": 12, "dez": 12,
}  # fmt: skip


@dataclass(frozen=True)
class ReadDates:
    """Dates of a column: all as 2024-01-31 (`is_iso`), or `known` by text, or a `problem`.

    `known`, of `READ_SCHEMA`, has one row per text: its `date`, or the `moment` in UTC if the date depends on the
    exchange's time zone. Both are null for a text that is not a date. `problem` says with an example why the column
    cannot be read.
    """

    is_iso: bool = False
    known: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=READ_SCHEMA))
    problem: str | None = None


def read_dates(texts: pl.Series) -> ReadDates:
    """Decide how a column writes its dates, and read its distinct texts; nulls and blanks are ignored.

    A moment at midnight in its own zone, UTC included, keeps its date. Any other moment with a zone is converted to
    the exchange's time zone before its date is taken.
    """
    given = texts.drop_nulls().alias("text")
    if _are_iso(given):
        return ReadDates(is_iso=True)
    frame = given.to_frame().with_columns(t=pl.col("text").str.strip_chars(" \u00a0\t")).filter(pl.col("t") != "")
    parts = _parts(frame)
    if problem := _two_ways(parts):
        return ReadDates(problem=problem)
    known = _assembled(parts)
    unread = known.filter(pl.col("date").is_null() & pl.col("moment").is_null())
    if unread.height == known.height and known.height:
        return ReadDates(problem=f"{_EXPECTED}; found {unread['text'][0]}, and no value that can be read")
    return ReadDates(known=known)


def _are_iso(given: pl.Series) -> bool:
    if given.str.len_bytes().n_unique() != 1 or given.str.len_bytes()[0] != len("2024-01-31"):
        return False
    # The parser alone may accept other shapes.
    shaped = given.str.contains(r"^\d{4}-\d{2}-\d{2}$").all()
    return bool(shaped and given.str.to_date("%Y-%m-%d", strict=False).null_count() == 0)


def _parts(frame: pl.DataFrame) -> pl.DataFrame:
    """Components of each text: the numbers of its date and the time after them, or a mark that it is an epoch."""
    numeric = frame["t"].str.extract_groups(_NUMERIC).struct.unnest()
    numeric.columns = ["a", "b", "c", "time"]
    compact = frame["t"].str.extract_groups(_COMPACT).struct.unnest()
    compact.columns = ["y", "m", "d", "clock", "digits"]
    blank: tuple[str | None, ...] = (None,) * 4
    has_names = frame["t"].str.contains(r"[^\W\d]{3}").to_list()
    rows = [_named(text) if has_name else blank for text, has_name in zip(frame["t"], has_names, strict=True)]
    named = pl.DataFrame(rows, schema=dict.fromkeys(("y2", "m2", "d2", "t2"), pl.String), orient="row")
    return pl.concat([frame, numeric, compact, named], how="horizontal").with_columns(
        epoch=pl.col("t").str.contains(_EPOCH) & pl.col("y").is_null()
    )


@lru_cache(maxsize=4096)
def _named(text: str) -> tuple[str | None, str | None, str | None, str | None]:
    """Year, month, day and time of a date with a month name, such as Jan 31, 2024."""
    first, second = (pattern.fullmatch(text) for pattern in _NAMED)
    if first and (month := _month(first[1])):
        return first[3], str(month), first[2], first[4]
    if second and (month := _month(second[2])):
        return second[3], str(month), second[1], second[4]
    return None, None, None, None


def _month(name: str) -> int | None:
    lowered = name.lower()
    return _MONTHS.get(lowered[:4]) or _MONTHS.get(lowered[:3])


def _two_ways(parts: pl.DataFrame) -> str | None:
    """Why a column is ambiguous, with the first such value; None if it is not."""
    lengths = {name: pl.col(name).str.len_bytes() for name in ("a", "c", "y2")}
    short = parts.filter(((lengths["a"] <= 2) & (lengths["c"] <= 2)) | (lengths["y2"] == 2))  # noqa: PLR2004
    if short.height > MOST_MISTAKES * parts.height:
        return f"{_EXPECTED}; found {short['text'][0]}: a year of two digits can be read two ways"
    number = {name: pl.col(name).cast(pl.Int32, strict=False) for name in ("a", "b", "c")}
    year_first = parts.filter(lengths["a"] == 4)  # noqa: PLR2004
    swapped = year_first.filter((number["b"] > 12) & (number["c"].is_between(1, 12)))  # noqa: PLR2004
    if swapped.height > MOST_MISTAKES * year_first.height:
        return f"{_EXPECTED}; found {swapped['text'][0]}: the month is not the second"
    year_last = parts.filter(lengths["c"] == 4)  # noqa: PLR2004
    day_first, month_first = (year_last.filter(number[name] > 12) for name in ("a", "b"))  # noqa: PLR2004
    fewer, more = sorted((day_first, month_first), key=lambda found: found.height)
    if fewer.height > MOST_MISTAKES * (fewer.height + more.height):
        return f"{_EXPECTED}; found {day_first['text'][0]} and {month_first['text'][0]}, in two orders"
    open_ones = year_last.filter(number["a"] != number["b"])
    if more.is_empty() and open_ones.height:
        return f"{_EXPECTED}; found {open_ones['text'][0]}, which can be read as two days"
    ambiguous_epoch = parts.filter(pl.col("y").is_not_null() & pl.col("t").str.contains(r"^\d{12}$"))
    if ambiguous_epoch.height:
        return f"{_EXPECTED}; found {ambiguous_epoch['text'][0]}: a date with a time, or milliseconds?"
    return None


def _assembled(parts: pl.DataFrame) -> pl.DataFrame:
    a, b, c = (pl.col(name) for name in ("a", "b", "c"))
    four = {name: pl.col(name).str.len_bytes() == 4 for name in ("a", "c", "y2")}  # noqa: PLR2004
    number = {name: pl.col(name).cast(pl.Int32, strict=False) for name in ("a", "b")}
    year_last = parts.filter(four["c"])
    is_day_first = year_last.filter(number["a"] > 12).height > year_last.filter(number["b"] > 12).height  # noqa: PLR2004
    month, day = (b, a) if is_day_first else (a, b)
    year_is_first, year_is_last, is_named = (
        four["a"].fill_null(value=False),
        four["c"].fill_null(value=False),
        four["y2"],
    )
    # Four digits on both sides are not a date.
    year_is_last = year_is_last & ~year_is_first
    date = (
        pl.when(year_is_first & ~four["c"])
        .then(_date(a, b, c))
        .when(year_is_last)
        .then(_date(c, month, day))
        .when(pl.col("y").is_not_null())
        .then(_date(pl.col("y"), pl.col("m"), pl.col("d")))
        .when(is_named)
        .then(_date(pl.col("y2"), pl.col("m2"), pl.col("d2")))
    )
    clock = pl.coalesce("time", "clock", "digits", "t2")
    dated = parts.with_columns(date=date, clock=clock, of_day=clock.str.extract_groups(_TIME))
    with_clock = dated.with_columns(seconds=_seconds(), offset=_offset())
    unread_clock = pl.col("clock").is_not_null() & pl.col("seconds").is_null()
    is_label = (pl.col("seconds").fill_null(0) == 0) | pl.col("offset").is_null()
    wall = pl.col("date").cast(pl.Datetime("us")) + pl.duration(seconds=pl.col("seconds") - pl.col("offset"))
    epoch = _epoch(parts)
    return with_clock.with_columns(epoch_moment=epoch).select(
        "text",
        date=pl.when(pl.col("epoch") & (pl.col("epoch_moment").dt.timestamp("us") % DAY == 0))
        .then(pl.col("epoch_moment").dt.date())
        .when(~unread_clock & is_label)
        .then("date"),
        moment=pl.when(pl.col("epoch") & (pl.col("epoch_moment").dt.timestamp("us") % DAY != 0))
        .then("epoch_moment")
        .when(~unread_clock & ~is_label)
        .then(wall),
    )


def _date(year: pl.Expr, month: pl.Expr, day: pl.Expr) -> pl.Expr:
    return pl.concat_str(year, month.str.zfill(2), day.str.zfill(2), separator="-").str.to_date(
        "%Y-%m-%d", strict=False
    )


def _seconds() -> pl.Expr:
    """Second of the day; null for an invalid time."""
    groups = pl.col("of_day").struct
    hour, minute, second = (groups.field(name).cast(pl.Int32, strict=False) for name in ("1", "2", "3"))
    half = groups.field("4").str.to_lowercase()
    lawful = (hour < 24) & (minute.fill_null(0) < 60) & (second.fill_null(0) < 60)  # noqa: PLR2004
    of_day = pl.when(half == "pm").then(hour % 12 + 12).when(half == "am").then(hour % 12).otherwise(hour)
    return pl.when(lawful).then(of_day * 3600 + minute.fill_null(0) * 60 + second.fill_null(0))


def _offset() -> pl.Expr:
    """UTC offset of the written time in seconds; null without a zone."""
    groups = pl.col("of_day").struct
    named = groups.field("5").replace_strict(_HOURS_OF_ZONE, default=None, return_dtype=pl.Int32) * 3600
    hours = groups.field("6").cast(pl.Int32, strict=False)
    minutes = groups.field("7").cast(pl.Int32, strict=False).fill_null(0)
    sign = pl.when(groups.field("6").str.starts_with("-")).then(-1).otherwise(1)
    return pl.coalesce(named, hours * 3600 + sign * minutes * 60)


def _epoch(parts: pl.DataFrame) -> pl.Series:
    """Moments of epoch numbers, all in the unit of the largest."""
    number = parts.select(pl.when("epoch").then(pl.col("t").cast(pl.Float64, strict=False))).to_series()
    return epoch_moments(number)


def epoch_moments(number: pl.Series) -> pl.Series:
    """Moments in UTC of s, ms, us or ns since 1970; the size of the largest number decides the unit."""
    largest = float(number.abs().max() or 0)  # type: ignore[arg-type]
    microseconds = 1e6 if largest < 1e11 else 1e3 if largest < 1e14 else 1.0 if largest < 1e17 else 1e-3  # noqa: PLR2004
    return (number.cast(pl.Float64) * microseconds).round(0).cast(pl.Int64, strict=False).cast(pl.Datetime("us"))
