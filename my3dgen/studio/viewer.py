"""A viewer of our own: two faces that turn together by dragging, from views rendered beforehand."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

STATIC = Path(__file__).parent / "static"

# Nothing in here depends on the value, so Gradio never rebuilds it: viewer.js does all the drawing.
TEMPLATE = """
<div class="m3-viewer">
  <div class="m3-stage3d" tabindex="0" role="slider" aria-label="Turn the face: drag, or use the arrow keys"
       aria-valuemin="-29" aria-valuemax="29" aria-valuenow="0" aria-disabled="true">
    <figure class="m3-face" data-side="pretrained">
      <div><img alt="Pretrained model" draggable="false"></div><figcaption>Pretrained</figcaption></figure>
    <figure class="m3-face" data-side="personalized">
      <div><img alt="Personalized model" draggable="false"></div>
      <figcaption>Personalized</figcaption></figure>
  </div>
  <div class="m3-state">
    <span class="m3-badge" hidden>Extrapolated: more than ±20°</span></div>
  <div class="m3-loading"><div class="m3-fill"></div></div>
  <p class="m3-help">
    <span>Drag to turn, or focus and use the arrow keys; Home or a double click faces you.</span>
    <span class="m3-angle" aria-live="off"></span></p>
</div>
"""


def viewer(elem_id: str) -> gr.HTML:
    """The component; its value is what `looking.views` yields, or None."""
    return gr.HTML(
        value=None,
        html_template=TEMPLATE,
        js_on_load=(STATIC / "viewer.js").read_text(),
        apply_default_css=False,
        elem_id=elem_id,
        label="3D view",
    )
