"""Painting a mask on a photo's crop.

Of our own, because gr.ImageEditor keeps what it was sent in the server's memory and in files outside of the
session's folder, where "Delete my data" does not reach; and because a finger should be able to paint.
"""

from __future__ import annotations

import base64
import binascii
import io
import secrets
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from my3dgen.errors import My3DGenError
from my3dgen.studio.pictures import data_uri

STATIC = Path(__file__).parent / "static"
SIDE = 512  # pixels of crop and mask
QUALITY = 92  # of the JPEG to paint on
HEAD = "data:image/png;base64,"
MOST_CHARACTERS = 2_000_000
BAD_MASK = "The painted mask did not arrive as a picture of 512 x 512 pixels; paint it again."

TEMPLATE = f"""
<div class="m3-painter" data-parts="PARTS">
  <div class="m3-canvas">
    <img alt="Crop of the photo" draggable="false"><canvas width="{SIDE}" height="{SIDE}" role="img"
      aria-label="Mask: paint over what is to be painted anew, or choose a part of the face above"></canvas>
    <p>The crop appears here once a photo is chosen.</p>
  </div>
  <div class="m3-tools">
    <button type="button" class="m3-button" data-tool="paint" aria-pressed="true" disabled>Paint</button>
    <button type="button" class="m3-button" data-tool="erase" aria-pressed="false" disabled>Erase</button>
    <button type="button" class="m3-button m3-clear" disabled>Clear</button>
    <label>Brush <input type="range" min="8" max="120" value="48" aria-label="Brush size" disabled></label>
  </div>
</div>
"""


def painter(elem_id: str, parts: str) -> gr.HTML:
    """The component; its value is what `canvas` makes, with the mask as the visitor left it. Its event `clear`
    says that the visitor wiped everything off; a part of the face that was still being drawn then does not come back.

    parts: elem_id of the component in which parts of the face are chosen.
    """
    return gr.HTML(
        value=None,
        html_template=TEMPLATE.replace("PARTS", parts),
        js_on_load=(STATIC / "painter.js").read_text(),
        apply_default_css=False,
        elem_id=elem_id,
        label="Mask",
    )


def canvas(crop: np.ndarray, mask: np.ndarray, part: str | None = None) -> dict[str, str | None]:
    """A value to paint on. crop: uint8 [512, 512, 3]; mask: bool [512, 512], what is painted already; part: which part
    of the face that is."""
    white = np.zeros((*mask.shape, 4), np.uint8)
    white[mask] = 255
    buffer = io.BytesIO()
    Image.fromarray(white).save(buffer, "PNG")
    uri = HEAD + base64.b64encode(buffer.getvalue()).decode()
    return {"key": secrets.token_hex(8), "crop": data_uri(crop, quality=QUALITY), "mask": uri, "part": part}


def belongs(value: Any, crop: np.ndarray) -> bool:
    """Whether a value that came back was painted on this crop, uint8 [512, 512, 3]."""
    return isinstance(value, dict) and value.get("crop") == data_uri(crop, quality=QUALITY)


def painted(value: Any) -> np.ndarray | None:
    """The mask in a value that came back: bool [512, 512], all False where nothing is painted; None where there
    is nothing to paint on yet."""
    uri = value.get("mask") if isinstance(value, dict) else None
    if uri is None:
        return None
    if not isinstance(uri, str) or not uri.startswith(HEAD) or len(uri) > MOST_CHARACTERS:
        raise My3DGenError(BAD_MASK)
    try:
        with Image.open(
            io.BytesIO(base64.b64decode(uri[len(HEAD) :], validate=True)), formats=["PNG"]
        ) as picture:
            if picture.size != (SIDE, SIDE):
                raise My3DGenError(BAD_MASK)
            mask = np.asarray(picture.convert("RGBA"))[..., 3] > 127
    except (binascii.Error, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise My3DGenError(BAD_MASK) from None
    return mask
