"""Inversion: a new photo, rebuilt by the pretrained and by the personalized model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from my3dgen.studio import figures, tasks
from my3dgen.studio.page import Page
from my3dgen.studio.session import Model, Session
from my3dgen.studio.task_panel import Shown, Task, TaskPanel, side_by_side
from my3dgen.studio.tasks import Outcome

INTRO = (
    "Rebuilds a new photo with both models in under a minute: the personalized one should look more like you."
)
LIKENESS = "How much the rebuilt face looks like the person (identity similarity, 1 is the same)."


def build(page: Page, tab: gr.Tab) -> None:
    """Lay the tab out and connect it."""
    empty = Shown(
        {"Input": None, "Pretrained": None, "Personalized": None},
        figures.scores(None, None, LIKENESS),
        more=("",),
    )
    task = Task(
        key="inversion",
        job="invert",
        intro=INTRO,
        verb="Rebuild",
        run=tasks.invert,
        show=_show,
        empty=empty,
        options=_options,
        more=lambda: [gr.HTML("", apply_default_css=False, elem_id="inversion-views")],
    )
    TaskPanel(page, tab, task)


def _options() -> Sequence[Any]:
    steps = gr.Slider(0, 1000, 0, step=10, label="Projection steps", info="0: as many as suit the prior")
    tuning = gr.Slider(
        0, 500, 0, step=10, label="Tuning steps", info="0: projection only; more fits this one photo"
    )
    return [steps, tuning]


def _show(session: Session, model: Model, outcomes: list[Outcome], *_: Any) -> Shown:
    outcome = outcomes[-1]
    return side_by_side(outcome, {"Input": outcome.comparison.input}, LIKENESS)
