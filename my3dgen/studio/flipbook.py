"""A flip book: pretrained and personalized frames side by side under one slider."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from my3dgen.studio.pictures import data_uri

STATIC = Path(__file__).parent / "static"

TEMPLATE = """
<div class="m3-flipbook">
  <div class="m3-pair">
    <figure class="m3-face" data-side="pretrained">
      <div><img alt="Pretrained model"></div><figcaption>Pretrained</figcaption></figure>
    <figure class="m3-face" data-side="personalized">
      <div><img alt="Personalized model"></div><figcaption>Personalized</figcaption></figure>
  </div>
  <div class="m3-tools">
    <button type="button" class="m3-button" disabled>Play</button>
    <input type="range" min="0" max="1" value="0" step="1" aria-label="@label@" disabled>
    <span class="m3-angle" aria-live="off"></span>
  </div>
</div>
"""


def flipbook(elem_id: str, label: str) -> gr.HTML:
    """The component; its value is what `book` makes, or None."""
    return gr.HTML(
        value=None,
        html_template=TEMPLATE.replace("@label@", label),
        js_on_load=(STATIC / "flipbook.js").read_text(),
        apply_default_css=False,
        elem_id=elem_id,
        label=label,
    )


def book(
    labels: Sequence[str],
    pretrained: Sequence[np.ndarray],
    personalized: Sequence[np.ndarray],
    start: int = 0,
) -> dict[str, Any]:
    """A value: as many labels as frames, uint8 [H, W, 3] each; `start` is shown first."""
    count = min(len(labels), len(pretrained), len(personalized))
    return {
        "key": secrets.token_hex(8),
        "start": start,
        "labels": list(labels)[:count],
        "pretrained": [data_uri(frame, quality=90) for frame in pretrained[:count]],
        "personalized": [data_uri(frame, quality=90) for frame in personalized[:count]],
    }
