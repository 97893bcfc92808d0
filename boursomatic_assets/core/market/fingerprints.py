"""Fingerprint of a frame's content."""

from __future__ import annotations

import hashlib

import polars as pl


def fingerprint(panel: pl.DataFrame) -> str:
    """SHA-256, as 64 hexadecimal digits, of column names, types, order and values; memory layout does not count."""
    digest = hashlib.sha256()
    for column in panel.get_columns():
        digest.update(f"{len(column.name)}:{column.name}:{column.dtype}:{column.len()};".encode())
        digest.update(column.is_null().cast(pl.UInt8).to_numpy().tobytes())
        digest.update(_value_bytes(column))
    return digest.hexdigest()


def _value_bytes(column: pl.Series) -> bytes:
    if column.dtype.is_numeric():
        return column.fill_null(0).to_numpy().tobytes()
    if column.dtype == pl.Date:
        return column.to_physical().fill_null(0).to_numpy().tobytes()
    # With the lengths, no text can imitate a border between two.
    texts = column.cast(pl.String).fill_null("")
    return texts.str.len_bytes().to_numpy().tobytes() + "".join(texts.to_list()).encode()
