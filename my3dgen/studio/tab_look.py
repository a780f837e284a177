"""Look around: turn the personalized face and the pretrained one together."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from my3dgen.studio import export_panel, inputs, looking, panels, service
from my3dgen.studio.guard import guarded
from my3dgen.studio.page import QUIET, RENDER, Page, has_model, numbered, session_of
from my3dgen.studio.pictures import data_uri
from my3dgen.studio.session import Session
from my3dgen.studio.viewer import viewer

INTRO = (
    "Turn your face in 3D beside the pretrained model's: the front is there at once, the other sides follow."
)

# The depth box's value, or null where the viewer is out of sight: then `_follow` does nothing.
DEPTH_IF_SEEN = (
    """(depth, shown) => [document.getElementById('viewer')?.offsetParent ? depth : null, shown]"""
)
SETTLE_SECONDS = 0.15  # a slider that is still moving asks again within this time


def build(page: Page, tab: gr.Tab) -> None:
    """Lay the tab out and connect it."""
    gr.HTML(panels.intro(INTRO))
    need = gr.HTML(panels.hint(service.NO_MODEL), elem_id="look-status")
    shown = gr.State(None)  # which model and photo the viewer holds
    faces = viewer("viewer")
    anchor = inputs.Slider(
        1,
        2,
        1,
        step=1,
        label="Photo",
        info="Which of the photos to look at",
        interactive=False,
        elem_id="anchor",
    )
    depth = gr.Checkbox(
        label="Show depth",
        info="How near each part is: near in yellow, far in violet; a few views, from left to right",
        elem_id="depth",
    )
    with gr.Accordion("Export: mesh, turntable film, picture", open=False, elem_id="export"):
        export_panel.build(page, anchor)
    onwards = gr.Button("Next: try a new photo", variant="primary", interactive=False, elem_id="to-inversion")

    # "multiple": another photo does not wait until the views of the one before are complete.
    options = {"trigger_mode": "multiple", **RENDER, **QUIET}
    for event in (tab.select, anchor.input, depth.input):
        event(_show, [anchor, depth, shown], [faces, shown], **options)
    page.react(_follow, [depth, shown], [faces, shown], js=DEPTH_IF_SEEN, **options)
    page.go(onwards, "inversion")
    page.follow(need, _need)
    page.follow(anchor, numbered(anchor))
    page.blank(anchor, gr.update(value=anchor.value))
    page.blank(faces)
    page.blank(shown)
    page.follow(onwards, lambda session: gr.update(interactive=has_model(session)))


def _need(session: Session) -> str:
    model = session.model()
    return panels.hint(service.NO_MODEL) if model is None else panels.hint(f"Model: {model.label}.", "good")


@guarded
def _show(anchor: float, depth: bool, shown: str | None, request: gr.Request) -> Iterator[Any]:
    """The visitor looks: at another photo or at depth, or the tab was opened."""
    yield from _filled(session_of(request), anchor, depth, shown)


@guarded
def _follow(depth: bool | None, shown: str | None, request: gr.Request) -> Iterator[Any]:
    """The session changed: another model takes the viewer, from its first photo on, if somebody sees it."""
    session = session_of(request)
    model = session.model()
    if depth is None or model is None or session.looked_at == model.id:
        yield gr.skip(), gr.skip()
        return
    yield from _filled(session, 1, depth, shown)


def _filled(session: Session, anchor: float, depth: bool, shown: str | None) -> Iterator[Any]:
    """Fill the viewer for the chosen model and photo, unless it holds them already."""
    session.looking = newest = object()
    session.looked_at = session.current or ""
    time.sleep(SETTLE_SECONDS)
    model = session.model()
    if model is None or session.looking is not newest:
        yield gr.skip(), gr.skip()
        return
    photo = min(int(anchor), len(model.adapter.anchors.ws)) - 1
    wanted = f"{model.id}/{photo}/{depth}"
    if wanted == shown:
        yield gr.skip(), gr.skip()
        return
    yield gr.skip(), None  # until it is complete the viewer holds nothing for certain
    for value in looking.views(session, model, photo, data_uri, depth is True):
        if session.looking is not newest:
            return
        yield value, gr.skip()
    yield gr.skip(), wanted
