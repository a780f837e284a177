"""Taking the face away: mesh, turntable film, picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import gradio as gr

from my3dgen.progress import Progress
from my3dgen.studio import figures, looking, panels, service
from my3dgen.studio.guard import guarded
from my3dgen.studio.jobs import turn
from my3dgen.studio.mesh_viewer import mesh_file, mesh_viewer
from my3dgen.studio.page import EXPORT, LIGHT, QUIET, Job, Page, session_of

MESH, FILM, PICTURE = "mesh", "film", "picture"
KINDS = {MESH: ["glb", "ply"], FILM: ["mp4"], PICTURE: ["png"]}
CHOICES = {"Mesh (GLB, PLY)": MESH, "Turntable (MP4)": FILM, "Picture (PNG)": PICTURE}
ABOUT = "Writes a file to keep: a mesh takes some ten seconds, a film half a minute, a picture a moment."
HEIGHT = 380


def build(page: Page, anchor: gr.Slider) -> None:
    """Lay the group out and connect it. anchor: the slider that says which photo is looked at."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            gr.HTML(f'<p class="m3-note">{ABOUT}</p>')
            what = gr.Radio(list(CHOICES.items()), value=MESH, label="What", elem_id="export-what")
            sides = [(title, side) for side, title in figures.SIDES.items()]
            side = gr.Radio(sides, value="personalized", label="Of which model", elem_id="export-side")
            with gr.Accordion("Options", open=False):
                resolution = gr.Slider(
                    32, 256, 128, step=16, label="Mesh: samples a side", info="More is finer"
                )
                frames = gr.Slider(12, 120, 60, step=12, label="Turntable: frames", info="At 30 a second")
                yaw = gr.Slider(
                    -29, 29, 0, step=1, label="Picture: turn, degrees", info="Above 0: more of its left cheek"
                )
                pitch = gr.Slider(
                    -17, 17, 0, step=1, label="Picture: height, degrees", info="Above 0: seen from above"
                )
            with gr.Row():
                start = gr.Button(
                    "Make the file", variant="primary", interactive=False, elem_id="export-start", scale=3
                )
                stop = gr.Button(
                    "Stop", variant="stop", interactive=False, elem_id="export-stop", scale=1, min_width=90
                )
            panel = gr.HTML(
                panels.not_started(None),
                apply_default_css=False,
                elem_id="export-panel",
                elem_classes="m3-task-panel",
            )
        with gr.Column(scale=3, min_width=300):
            shape = mesh_viewer("export-mesh")
            film = gr.Video(
                None, label="Turntable", interactive=False, height=HEIGHT, loop=True, visible=False,
                elem_id="export-film",
            )  # fmt: skip
            picture = gr.Image(
                None, label="Picture", interactive=False, height=HEIGHT, format="png", visible=False, buttons=[],
                elem_id="export-picture",
            )  # fmt: skip
            files = gr.File(
                None,
                label="Files to download",
                file_count="multiple",
                interactive=False,
                visible=False,
                elem_id="export-files",
            )
            made = gr.State([])  # what has been made: an empty player or frame is not shown

    viewers = {MESH: shape, FILM: film, PICTURE: picture}
    what.change(
        lambda chosen, made: [
            gr.update(visible=kind == chosen and kind in (MESH, *made)) for kind in viewers
        ],
        [what, made],
        list(viewers.values()),
        **LIGHT,
        **QUIET,
    )
    job = Job("export", "one file is made at a time", start, stop, panel, curve=None)
    takes = [what, side, anchor, resolution, frames, yaw, pitch, made]
    page.runs(job, _export, takes, [panel, *viewers.values(), files, made, what], **EXPORT)
    for component, value in [(panel, panels.not_started(None)), (shape, None), (made, [])]:
        page.blank(component, value)
    for component in (film, picture, files):
        page.blank(component, gr.update(value=None, visible=False))


@guarded
def _export(
    what: str,
    side: str,
    anchor: float,
    resolution: float,
    frames: float,
    yaw: float,  # degrees, and so is pitch
    pitch: float,
    made: list[str],
    request: gr.Request,
) -> Iterator[Any]:
    """Make the files and show them."""
    session = session_of(request)
    with turn(session, "export"):
        model, state = service.model_asked(session, "export"), panels.Running(curves=False)
        which = min(int(anchor), len(model.adapter.anchors.ws)) - 1
        kinds = KINDS.get(what, [])
        arguments = (kinds, which, resolution, frames, math.radians(yaw), math.radians(pitch), side)
        yield state.html(), *[gr.skip()] * 6  # the prior may have to be loaded first
        for report in looking.export(session, model, *arguments):
            if isinstance(report, Progress):
                state.add(report)
                yield state.html(), *[gr.skip()] * 6
            else:
                files = report.files
                shape = mesh_file(files["glb"]) if "glb" in files else gr.skip()
                shown = [shape, *(_shown(files.get(kind)) for kind in ("mp4", "png"))]
                done = f"Done: {model.label}, {side}"
                if report.stopped:
                    done = (
                        "Stopped early: this is what there is" if files else "Stopped: nothing was finished"
                    )
                made = sorted({*made, what}) if files else made
                yield (
                    panels.fit_panel(done, float(bool(files)), "", "", None),
                    *shown,
                    _shown(list(files.values())),
                    made,
                    what if files else gr.skip(),  # its viewer is shown, whatever was chosen meanwhile
                )


def _shown(value: str | list[str] | None) -> Any:
    """An update that shows what was made; nothing changes where nothing was."""
    return gr.update(value=value, visible=True) if value else gr.skip()
