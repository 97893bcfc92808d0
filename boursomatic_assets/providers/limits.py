"""Limits on one answer of a source: its bytes, packed or not, its parts, and the time it may take."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from boursomatic_assets.errors import SourceFailedError

if TYPE_CHECKING:
    from collections.abc import Iterable

# For the next bytes, and for a whole answer.
SECONDS_TO_ANSWER = 20.0
SECONDS_IN_ALL = 60.0
# A century of daily bars has 3 MB of Yahoo's JSON, and 10 MB of Tiingo's.
MOST_BYTES = 1 << 25
# Lines, objects and lists: each takes many times more memory than its text.
MOST_PARTS = 500_000

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


class TooMuchError(SourceFailedError):
    """An answer that is larger than any answer with bars."""


def joined(chunks: Iterable[bytes]) -> bytes:
    """The chunks as one; raises TooMuchError if they are larger than `MOST_BYTES`, before the next is read."""
    kept, size = [], 0
    for chunk in chunks:
        size += len(chunk)
        require_size(size)
        kept.append(chunk)
    return b"".join(kept)


def unpacked(chunks: Iterable[bytes], encoding: str) -> bytes:
    """The body of an answer in its `Content-Encoding`; raises TooMuchError as `joined`, else SourceFailedError."""
    match encoding.strip().lower():
        case "" | "identity":
            return joined(chunks)
        case "gzip" | "x-gzip" | "deflate":
            return joined(_inflated(chunks))
    message = f"packed its answer as {encoding[:40]!r}, expected gzip"
    raise SourceFailedError(message)


def _inflated(chunks: Iterable[bytes]) -> Iterable[bytes]:
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    packed = 0
    try:
        for chunk in chunks:
            packed += len(chunk)
            require_size(packed)
            rest = chunk
            while rest and not unpacker.eof:
                yield unpacker.decompress(rest, MOST_BYTES)
                rest = unpacker.unconsumed_tail
    except zlib.error as error:
        message = f"sent a packed answer that cannot be unpacked: {error}"
        raise SourceFailedError(message) from error


def require_size(size: int) -> None:
    """Raise TooMuchError for more bytes than an answer may have."""
    if size > MOST_BYTES:
        message = f"answers with more than {MOST_BYTES >> 20} MiB, which cannot be the bars of one symbol"
        raise TooMuchError(message)


def require_few_parts(text: str) -> None:
    """Raise TooMuchError for more lines, objects or lists than an answer may have."""
    if max(map(text.count, "\n{[")) > MOST_PARTS:
        message = f"answers with more than {MOST_PARTS:,} rows, which cannot be the bars of one symbol"
        raise TooMuchError(message)
