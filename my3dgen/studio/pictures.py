"""Pictures as the page wants them."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image


def data_uri(image: np.ndarray, quality: int = 88, side: int | None = None) -> str:
    """image: uint8 [H, W, 3] -> JPEG data URI, shrunk to `side` pixels where that is given."""
    picture = Image.fromarray(image)
    if side is not None and max(picture.size) > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def png(image: np.ndarray) -> bytes:
    """image: uint8 [H, W, 3] -> PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
