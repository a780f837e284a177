"""Inpainting: part of a photo, painted anew by both models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
import numpy as np

from my3dgen.errors import My3DGenError
from my3dgen.studio import figures, painter, task_photo, tasks
from my3dgen.studio.guard import guarded
from my3dgen.studio.page import LIGHT, PRIVATE, QUIET, RENDER, Page, session_of
from my3dgen.studio.session import Model, Session
from my3dgen.studio.task_panel import Shown, Task, TaskPanel, photo_there, side_by_side
from my3dgen.studio.tasks import Event, Outcome

INTRO = (
    "Hides part of a photo and paints it anew: the pretrained model invents somebody, yours should know you."
)
NOTHING_PAINTED = (
    "Nothing is marked, so there is nothing to paint anew: paint over a part of the crop, or choose a part of the "
    "face above it."
)
LIKENESS = "How much the face looks like the person (identity similarity, 1 is the same)."
OTHER_CROP = (
    "The mask was painted on another crop than this photo's: choose a part of the face, or the photo, again."
)
REGIONS = {
    "Centre": "centre",
    "Eyes": "eyes",
    "Nose": "nose",
    "Mouth": "mouth",
    "Lower face": "lower face",
}


def build(page: Page, tab: gr.Tab) -> None:
    """Lay the tab out and connect it."""

    def controls(panel: TaskPanel) -> Sequence[Any]:
        region = gr.Radio(
            list(REGIONS.items()),
            value="centre",
            label="What to paint anew",
            info="A part of the face; then add to it or erase with the brush",
            elem_id="inpainting-region",
        )
        mask = painter.painter("inpainting-mask", parts="inpainting-region")
        options = {"trigger_mode": "always_last", **RENDER, **QUIET}
        for event in (panel.photo.change, region.input):
            event(_canvas, [panel.photo, region], mask, **options)
        # Whoever wiped the mask off starts from nothing: the part that was chosen counts no longer.
        mask.clear(lambda: None, None, region, show_progress="hidden", **LIGHT, **PRIVATE)
        page.blank(mask)
        page.blank(region, "centre")
        return [mask, region]

    empty = Shown(
        {"Hidden from the models": None, "Pretrained": None, "Personalized": None},
        figures.scores(None, None, LIKENESS),
        more=("",),
    )
    task = Task(
        key="inpainting",
        job="inpaint",
        intro=INTRO,
        verb="Paint anew",
        run=_run,
        check=_check,
        show=_show,
        empty=empty,
        controls=controls,
        options=lambda: [gr.Slider(0, 1000, 0, step=10, label="Steps", info="0: as many as suit the prior")],
        more=lambda: [gr.HTML("", apply_default_css=False, elem_id="inpainting-views")],
    )
    TaskPanel(page, tab, task)


@guarded
def _canvas(photo: str | None, region: str | None, request: gr.Request) -> Any:
    """The crop with a part of the face painted, to paint on."""
    if not photo:
        return None
    session = session_of(request)
    if region is None:
        crop = task_photo.face(session, photo).image
        hidden = np.zeros(crop.shape[:2], bool)
    else:
        crop, hidden = task_photo.region_mask(session, photo, region)
    return gr.skip() if session.deleted else painter.canvas(crop, hidden, region)


def _check(photo: str | None, canvas: Any, region: str | None, *_: Any) -> None:
    photo_there(photo)
    mask = painter.painted(canvas)
    if region is None if mask is None else not mask.any():
        raise My3DGenError(NOTHING_PAINTED)


def _run(
    session: Session, model: Model, photo: str | None, canvas: Any, region: str | None, steps: float
) -> Iterator[Event]:
    mask = painter.painted(canvas)
    if mask is not None and not painter.belongs(canvas, task_photo.face(session, photo, model.prior).image):
        raise My3DGenError(OTHER_CROP)
    yield from tasks.inpaint(session, model, photo, mask, region, steps)


def _show(session: Session, model: Model, outcomes: list[Outcome], *_: Any) -> Shown:
    outcome = outcomes[-1]
    return side_by_side(
        outcome, {"Hidden from the models": outcome.sides["pretrained"].images["masked"]}, LIKENESS
    )
