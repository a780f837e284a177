"""Super-resolution: a tiny photo, sharpened by both models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from my3dgen.studio import figures, panels, tasks
from my3dgen.studio.page import Page
from my3dgen.studio.session import Model, Session
from my3dgen.studio.task_panel import Shown, Task, TaskPanel, side_by_side
from my3dgen.studio.tasks import Outcome

INTRO = (
    "Sharpens a tiny photo, or reduces a large one first to show it, in under a minute; Lanczos is plain "
    "enlargement."
)
LIKENESS = "How much the face looks like the person (identity similarity, 1 is the same)."
SIZES = {"Automatic": 0, "16 px": 16, "32 px": 32, "64 px": 64, "128 px": 128}


def build(page: Page, tab: gr.Tab) -> None:
    """Lay the tab out and connect it."""

    def controls(panel: TaskPanel) -> Sequence[Any]:
        size = gr.Radio(
            list(SIZES.items()),
            value=0,
            label="Reduce the face first to",
            info=f"Automatic: a face of up to {tasks.LARGEST} px stays as it is, larger ones become {tasks.REDUCED} px",
            elem_id="upscale-size",
        )
        return [size]

    empty = Shown(
        {"Input": None, "Lanczos": None, "Pretrained": None, "Personalized": None},
        figures.scores(None, None, LIKENESS, others={"Lanczos": None}),
        more=("", ""),
    )
    task = Task(
        key="upscale",
        job="upscale",
        intro=INTRO,
        verb="Sharpen",
        run=tasks.upscale,
        show=_show,
        empty=empty,
        controls=controls,
        options=lambda: [gr.Slider(0, 1000, 0, step=10, label="Steps", info="0: as many as suit the prior")],
        more=lambda: [
            gr.HTML("", elem_id="upscale-note"),
            gr.HTML("", apply_default_css=False, elem_id="upscale-views"),
        ],
        photo="A small photo, or any photo",
    )
    TaskPanel(page, tab, task)


def _show(session: Session, model: Model, outcomes: list[Outcome], *_: Any) -> Shown:
    outcome = outcomes[-1]
    before = outcome.sides["pretrained"]
    seen = {
        f"Input, {before.figures['side']:.0f} px": before.images["input"],
        "Lanczos": before.images["lanczos"],
    }
    shown = side_by_side(outcome, seen, LIKENESS)
    # Without a sharp photo of the person there is nothing to compare the enlargement with.
    others = {"Lanczos": before.figures.get("lanczos_id_sim")}
    bars = figures.scores(**outcome.figure("id_sim"), caption=LIKENESS, others=others)
    note = before.extra.get("note")
    return replace(shown, figures=bars, more=(panels.hint(note) if note else "", *shown.more))
