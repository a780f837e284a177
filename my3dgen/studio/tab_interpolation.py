"""Interpolation: from one moment to another, through faces that should stay the same person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from my3dgen.errors import My3DGenError, whole
from my3dgen.studio import compute, figures, inputs, panels, tasks
from my3dgen.studio.flipbook import book, flipbook
from my3dgen.studio.page import LIGHT, QUIET, Page, numbered
from my3dgen.studio.session import Model, Session
from my3dgen.studio.task_panel import Shown, Task, TaskPanel
from my3dgen.studio.tasks import Event, Outcome

INTRO = (
    "Morphs one of your moments into another, in seconds for your own photos: every face on the way should "
    "still be you."
)
LIKENESS = "How much the faces on the way look like the person (identity similarity, mean, 1 is the same)."
OWN, NEW = "own", "new"
FRAMES_A_SECOND = 8
NO_FILM = gr.update(value=None, visible=False)


def build(page: Page, tab: gr.Tab) -> None:
    """Lay the tab out and connect it."""

    def controls(panel: TaskPanel) -> Sequence[Any]:
        source = gr.Radio(
            [("My photos", OWN), ("Two new photos", NEW)],
            value=OWN,
            label="Between",
            elem_id="interpolation-source",
        )
        with gr.Column(visible=True) as own:
            anchors = gr.HTML("", apply_default_css=False, elem_id="interpolation-anchors")
            with gr.Row():
                first, last = (
                    inputs.Slider(
                        0, 2, 0, step=1, label=label, interactive=False, elem_id=elem_id, min_width=140,
                        info="0: the one that differs most from the other end",
                    )
                    for label, elem_id in (("From photo", "interpolation-from"), ("To photo", "interpolation-to"))
                )  # fmt: skip
        with gr.Column(visible=False) as new:
            start = panel.photo_box(tab, "From this photo", "interpolation-first")
            end = panel.photo_box(tab, "To this photo", "interpolation-second", shared=False)
        steps = gr.Slider(4, 30, 12, step=1, label="Pictures on the way", elem_id="interpolation-steps")
        shown = [gr.update(visible=True), gr.update(visible=False)]
        source.change(
            lambda chosen: shown if chosen == OWN else shown[::-1], source, [own, new], **LIGHT, **QUIET
        )
        page.follow(anchors, _anchors)
        page.blank(anchors, "")
        for slider in (first, last):
            page.follow(slider, numbered(slider))
            page.blank(slider, gr.update(value=slider.value))
        return [source, first, last, start, end, steps]

    def more() -> Sequence[Any]:
        pages = flipbook("interpolation-book", "Way from the first to the last face")
        curve = gr.HTML("", apply_default_css=False, elem_id="interpolation-plot")
        strip = gr.HTML("", apply_default_css=False, elem_id="interpolation-strips")
        film = gr.Video(
            None, label="Pretrained and personalized side by side",
            show_label=False, interactive=False, buttons=["download"],
            loop=True, height=300, elem_id="interpolation-video", visible=False,
        )  # fmt: skip
        return [pages, curve, strip, film]

    task = Task(
        key="interpolation",
        job="interpolate",
        intro=INTRO,
        verb="Morph",
        run=_run,
        check=_check,
        show=_show,
        empty=Shown(figures=figures.scores(None, None, LIKENESS), more=(None, "", "", NO_FILM)),
        controls=controls,
        more=more,
        photo=None,
        pair="A face from the middle of the way.",
    )
    TaskPanel(page, tab, task)


def _anchors(session: Session) -> Any:
    model = session.model()
    shown, now = session.numbered.get("anchors", ""), model.id if model else None
    session.numbered["anchors"] = now
    return gr.skip() if shown == now else panels.anchors(model)


def _check(source: str, first: float, last: float, start: str | None, end: str | None, *_: Any) -> None:
    if source == NEW and not (start and end):
        raise My3DGenError("Two photos are needed: choose the one to start from and the one to end at.")


def _run(
    session: Session,
    model: Model,
    source: str,
    first: float,
    last: float,
    start: str | None,
    end: str | None,
    steps: float,
) -> Iterator[Event]:
    ends: list[Any]
    if source == NEW:
        ends = [start, end]
    else:
        # The page counts from 1. Where both are 0 the task chooses the two that differ most.
        ends = [int(value) - 1 if value else None for value in (first, last)]
        known = [end for end in ends if end is not None]
        if len(known) == 1:
            other = farthest_from(model, known[0])
            ends = [other if end is None else end for end in ends]
    yield from tasks.interpolate(session, model, *ends, steps)


def farthest_from(model: Model, anchor: int) -> int:
    """The anchor that differs most from another one of the model's."""
    ws = model.adapter.anchors.ws.flatten(1)
    return int((ws - ws[whole("photo", anchor + 1, 1, len(ws)) - 1]).norm(dim=1).argmax())


def _show(session: Session, model: Model, outcomes: list[Outcome], *_: Any) -> Shown:
    outcome = outcomes[-1]
    frames = {side: result.frames for side, result in outcome.sides.items()}
    extras = [result.extra for result in outcome.sides.values()]
    count = min(len(extra["t"]) for extra in extras)  # one of them may have been stopped early
    t = extras[0]["t"][:count]
    labels = [f"{round(100 * value)} % of the way" for value in t]
    lines = {figures.SIDES[side]: result.extra["id_sims"][:count] for side, result in outcome.sides.items()}
    curve = figures.plot(
        lines, t, "Identity similarity along the way:", "way from the first to the last face"
    )
    strips = figures.strips({figures.SIDES[side]: each for side, each in frames.items()})
    film = NO_FILM
    if not outcome.ready:  # a visitor who only opened the tab does not wait for a film
        path = session.new_path("my3dgen-interpolation.mp4")
        session.keep_newest("interpolation film", [path], most=2)
        compute.side_by_side(path, frames["pretrained"], frames["personalized"], FRAMES_A_SECOND)
        film = gr.update(value=path, visible=True)
    bars = figures.scores(**outcome.figure("id_sim"), caption=LIKENESS)
    half = {side: pictures[(len(pictures) - 1) // 2] for side, pictures in outcome.common_frames.items()}
    return Shown(
        figures=bars, pair=half, more=(book(labels, **frames), curve, strips, film), note=outcome.note
    )
