"""PNG pictures read back, and what holds of each of them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def coloured(png: bytes, colour: str) -> np.ndarray:
    """Which pixels have about this colour; the palette is small."""
    wanted = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)])
    return np.asarray(np.abs(pixels(png) - wanted).max(axis=2) <= 12)


def check_picture(draw: Callable[[], bytes], size: tuple[int, int] | int, most_bytes: int) -> None:
    """A small PNG of this width, and height if given: the same bytes each time, not blank, nothing cut off."""
    png = draw()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(png) <= most_bytes
    assert draw() == png
    shown = pixels(png)
    if isinstance(size, tuple):
        assert shown.shape[1::-1] == size
    else:
        assert shown.shape[1] == size
        assert shown.shape[0] >= 150
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 8
    assert (np.concatenate([shown[0], shown[-1], shown[:, 0], shown[:, -1]]) == 255).all()
