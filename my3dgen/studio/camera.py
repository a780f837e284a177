"""Taking photos on the page, one press each."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

import gradio as gr

from my3dgen.errors import My3DGenError

STATIC = Path(__file__).parent / "static"
HEAD = "data:image/jpeg;base64,"
MOST_CHARACTERS = 8_000_000  # about 6 MB of JPEG; the page sends at most 1600 pixels a side

TEMPLATE = """
<div class="m3-camera-box">
  <video muted playsinline aria-label="Camera picture"></video>
  <div class="m3-camera-row">
    <button type="button" class="m3-button m3-camera-start">Start camera</button>
    <button type="button" class="m3-button m3-camera-snap" disabled>Take photo</button>
  </div>
  <p class="m3-camera-said" role="status">Nothing is recorded until you press Take photo.</p>
</div>
"""


def camera(elem_id: str) -> gr.HTML:
    """The component; its event `snap` carries one photo (see `taken`)."""
    return gr.HTML(
        value=None,
        html_template=TEMPLATE,
        js_on_load=(STATIC / "camera.js").read_text(),
        apply_default_css=False,
        elem_id=elem_id,
        label="Camera",
    )


def taken(event: gr.EventData) -> bytes:
    """The JPEG file of a `snap` event."""
    image: Any = event._data.get("image") if isinstance(event._data, dict) else None
    if not isinstance(image, str) or not image.startswith(HEAD) or len(image) > MOST_CHARACTERS:
        raise My3DGenError("The camera's photo did not arrive as a JPEG of at most 6 MB; take it again.")
    try:
        return base64.b64decode(image[len(HEAD) :], validate=True)
    except binascii.Error:
        raise My3DGenError("The camera's photo arrived damaged; take it again.") from None
