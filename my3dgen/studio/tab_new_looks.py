"""New looks: pictures of the person that no photo shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from my3dgen.studio import figures, tasks
from my3dgen.studio.page import Page
from my3dgen.studio.pictures import tiled
from my3dgen.studio.session import Model, Session
from my3dgen.studio.task_panel import Shown, Task, TaskPanel
from my3dgen.studio.tasks import Outcome

INTRO = "Mixes your photos' latents into looks and views no photo shows, in seconds: new pictures, the same person."
LIKENESS = "How much the new pictures look like the person (identity similarity, mean, 1 is the same)."
DIVERSITY = "How different the pictures are from each other (mean perceptual distance; 0 is all the same)."
RULES = {"All photos share (Dirichlet)": "dirichlet", "Three photos each (published)": "three"}


def build(page: Page, tab: gr.Tab) -> None:
    """Lay the tab out and connect it."""
    nothing = {name: () for name in figures.SIDES.values()}
    empty = Shown(figures=_bars(None, None), more=(figures.grids(nothing), ""))
    task = Task(
        key="looks",
        job="synthesize",
        intro=INTRO,
        verb="Make new looks",
        run=tasks.synthesize,
        check=tasks.look_options,
        show=_show,
        empty=empty,
        controls=_controls,
        more=lambda: [
            gr.HTML(value, apply_default_css=False, elem_id=f"looks-{name}")
            for name, value in zip(("grids", "photos"), empty.more, strict=True)
        ],
        photo=None,
        fits=False,
    )
    TaskPanel(page, tab, task)


def _controls(panel: TaskPanel) -> Sequence[Any]:
    count = gr.Slider(2, tasks.MOST_LOOKS, 6, step=1, label="How many", elem_id="looks-count")
    seed = gr.Number(0, precision=0, minimum=0, label="Seed", info="Another number, other looks")
    rule = gr.Radio(
        list(RULES.items()), value="dirichlet", label="How photos are mixed", elem_id="looks-rule"
    )
    strength = gr.Slider(
        0,
        1,
        1,
        step=0.05,
        label="Strength",
        info="0: always the mean of your photos, 1: each as it was drawn",
    )
    return [count, seed, rule, strength]


def _bars(likeness: dict[str, float] | None, diversity: dict[str, float] | None) -> str:
    rows = {title: diversity[side] if diversity else None for side, title in figures.SIDES.items()}
    scores = likeness or dict.fromkeys(figures.SIDES)
    most = figures.scale(value for value in rows.values() if value is not None)
    caption = f"{DIVERSITY} A full bar is {most:g}." if diversity else DIVERSITY
    return figures.scores(**scores, caption=LIKENESS) + figures.bars(rows, caption, most)


def _show(session: Session, model: Model, outcomes: list[Outcome], *_: Any) -> Shown:
    outcome = outcomes[-1]
    pair = {side: tiled(frames) for side, frames in outcome.common_frames.items()}
    pictures = {figures.SIDES[side]: result.frames for side, result in outcome.sides.items()}
    photos = figures.strips({"Your photos": [face.image for face in model.faces]})
    bars = _bars(outcome.figure("id_sim"), outcome.figure("diversity"))
    return Shown(figures=bars, pair=pair, more=(figures.grids(pictures), photos), note=outcome.note)
