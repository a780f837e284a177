"""Pictures as the page wants them."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont


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


def tiled(pictures: Sequence[np.ndarray], side: int = 256) -> np.ndarray:
    """Pictures uint8 [H, W, 3] as squares of `side` in a grid about as wide as high; white where its last row ends."""
    across = math.ceil(len(pictures) ** 0.5)
    grid = Image.new("RGB", (across * side, math.ceil(len(pictures) / across) * side), "white")
    for place, picture in enumerate(pictures):
        down, along = divmod(place, across)
        tile = Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS)
        grid.paste(tile, (along * side, down * side))
    return np.asarray(grid)


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[tuple[Sequence[np.ndarray], str]]]], columns: Sequence[str]
) -> np.ndarray:
    """Rows of cells with a title each: uint8 [H, W, 3].

    A cell is (pictures uint8 [H, W, 3], caption); up to four pictures share it. The first column is named
    by columns[0] and so on.
    """
    side, gap, line = 320, 12, 30
    width = len(columns) * (side + gap) + gap
    sheet = Image.new("RGB", (width, (line + gap) + len(rows) * (side + 2 * line + gap)), "white")
    draw, ink = ImageDraw.Draw(sheet), (20, 30, 40)
    large, small = ImageFont.load_default(20), ImageFont.load_default(17)
    for column, name in enumerate(columns):
        draw.text((gap + column * (side + gap), gap), name, ink, small)
    for row, (title, cells) in enumerate(rows):
        top = line + gap + row * (side + 2 * line + gap)
        draw.text((gap, top), title, ink, large)
        for column, (pictures, caption) in enumerate(cells):
            left = gap + column * (side + gap)
            if pictures:
                cell = tiled(pictures[:4], side if len(pictures) == 1 else side // 2)
                sheet.paste(Image.fromarray(cell), (left, top + line))
            draw.text((left, top + line + side + 2), caption, ink, small)
    return np.asarray(sheet)
