"""Looking at an exported mesh.

Of our own, because gr.Model3D's engine tries WebGPU first, whose shader compiler it may fetch from another site,
and writes an error to the console where there is none.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import gradio as gr

STATIC = Path(__file__).parent / "static"

TEMPLATE = """
<div class="m3-mesh">
  <canvas tabindex="0" role="img" aria-label="Mesh: drag, or use the arrow keys to turn it"></canvas>
  <p role="status">The mesh appears here; drag or use the arrow keys to turn it.</p>
</div>
"""


def mesh_viewer(elem_id: str) -> gr.HTML:
    """The component; its value is what `mesh_file` makes, or None."""
    return gr.HTML(
        value=None,
        html_template=TEMPLATE,
        js_on_load=(STATIC / "mesh.js").read_text(),
        apply_default_css=False,
        elem_id=elem_id,
        label="Mesh",
    )


def mesh_file(path: str) -> dict[str, str]:
    """A value that shows a .glb, a file of the visitor's session."""
    return {"key": secrets.token_hex(8), "path": path}
