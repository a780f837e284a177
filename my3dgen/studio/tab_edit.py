"""Smile & age: a photo, rebuilt once and then changed with a slider."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
import numpy as np

from my3dgen.progress import Progress
from my3dgen.studio import figures, tasks
from my3dgen.studio.guard import guarded
from my3dgen.studio.page import RENDER, Page, session_of
from my3dgen.studio.pictures import png
from my3dgen.studio.session import Model, Session
from my3dgen.studio.task_panel import QUIET, Shown, Task, TaskPanel
from my3dgen.studio.tasks import Outcome

INTRO = "Rebuilds a photo once, under a minute; then the slider changes smile or age at once: you should stay you."
LIKENESS = "How much the edited face looks like the person (identity similarity, 1 is the same)."
ATTRIBUTES = {"Smile": "smile", "Age": "age", "Beard": "beard", "Dark hair": "hair_dark"}
POLICIES = {
    "Nearest face of yours": "project",
    "Stop there": "stop",
    "Go on": "continue",
}


def build(page: Page, tab: gr.Tab) -> None:
    """Lay the tab out and connect it."""
    empty = Shown(
        {"Input": None, "Pretrained": None, "Personalized": None},
        figures.scores(None, None, LIKENESS),
        more=("", ""),
    )
    task = Task(
        key="edit",
        job="edit",
        intro=INTRO,
        verb="Rebuild and edit",
        run=_run,
        show=_show,
        empty=empty,
        controls=_controls,
        options=_options,
        more=lambda: [
            gr.HTML("", apply_default_css=False, elem_id="edit-plot"),
            gr.HTML("", apply_default_css=False, elem_id="edit-strips"),
        ],
    )
    panel = TaskPanel(page, tab, task)
    attribute, strength, policy, _ = panel.values

    @guarded
    def preview(request: gr.Request, *values: Any) -> Any:
        """The two faces at the slider's place, from the fit that is there."""
        shown = _moved(session_of(request), *values)
        return gr.skip() if shown is None else figures.shots(shown.shots)

    @guarded
    def settle(request: gr.Request, *values: Any) -> Any:
        """The slider was let go: the rest of the tab follows."""
        session = session_of(request)
        shown = _moved(session, *values)
        if shown is None:
            return [gr.skip()] * 3
        model, outcome = session.editing
        more = {
            f"{side}/{values[0]}_{values[1]:+.1f}.png": png(picture) for side, picture in shown.pair.items()
        }
        path = panel.archive(session, model, [outcome], more=more)
        return (
            shown.figures,
            tuple(session.save_image(shown.pair[side], side) for side in figures.SIDES),
            path,
        )

    takes = [attribute, strength, policy]
    moving = {"trigger_mode": "always_last", **RENDER, **QUIET}
    strength.input(preview, takes, panel.shots, **moving)
    strength.release(settle, takes, [panel.figures, panel.pair, panel.download], **moving)
    for choice in (attribute, policy):
        changed = choice.input(preview, takes, panel.shots, **moving)
        changed.then(settle, takes, [panel.figures, panel.pair, panel.download], **moving)


def _controls(panel: TaskPanel) -> Sequence[Any]:
    attribute = gr.Radio(list(ATTRIBUTES.items()), value="smile", label="Change", elem_id="edit-attribute")
    most = tasks.MOST_STRENGTH
    strength = gr.Slider(
        -most, most, 1.0, step=0.1, label="How much", info="Below 0: less. Moves the faces at once, once rebuilt",
        elem_id="edit-strength",
    )  # fmt: skip
    return [attribute, strength]


def _options() -> Sequence[Any]:
    policy = gr.Radio(
        list(POLICIES.items()),
        value="project",
        label="Where your photos' range ends",
        info="What the personalized model does when the slider asks for more than your photos show",
        elem_id="edit-policy",
    )
    return [policy, gr.Slider(0, 1000, 0, step=10, label="Steps", info="0: as many as suit the prior")]


def _run(
    session: Session,
    model: Model,
    photo: str | None,
    attribute: str,
    strength: float,
    policy: str,
    steps: float,
) -> Iterator[Progress | Outcome]:
    # Rebuilt with strength 0: its latents are the photo's own, which every place of the slider starts from.
    for item in tasks.edit(session, model, photo, attribute, 0.0, policy, steps):
        if not isinstance(item, Progress):
            session.editing = (model, item)
        yield item


def _show(
    session: Session,
    model: Model,
    outcomes: list[Outcome],
    attribute: str,
    strength: float,
    policy: str,
    steps: float,
) -> Shown:
    outcome = outcomes[-1]
    shown = _edited(model, outcome, attribute, strength, policy)
    extras = {figures.SIDES[side]: result.extra for side, result in outcome.sides.items()}
    title = _title(attribute)
    curve = figures.plot(
        {name: extra["id_sims"] for name, extra in extras.items()},
        next(iter(extras.values()))["strengths"],
        f"Identity similarity along {title.lower()}:",
        title.lower(),
    )
    strips = figures.strips(
        {
            f"{figures.SIDES[side]}, {title.lower()} from -2 to 2": r.frames
            for side, r in outcome.sides.items()
        }
    )
    return Shown(shown.shots, shown.figures, shown.pair, (curve, strips))


def _moved(session: Session, attribute: str, strength: float, policy: str) -> Shown | None:
    """What the slider shows, or None before anything was rebuilt."""
    if session.editing is None:
        return None
    return _edited(*session.editing, attribute, strength, policy)


def _edited(model: Model, outcome: Outcome, attribute: str, strength: float, policy: str) -> Shown:
    pictures = tasks.edited(model, outcome, attribute, strength, policy)
    shots = {"Input": outcome.comparison.input}
    shots |= {
        f"{figures.SIDES[side]}, {_title(attribute).lower()} {strength:+.1f}": pictures[side]
        for side in pictures
    }
    return Shown(shots, _bars(outcome, attribute, strength), pictures)


def _bars(outcome: Outcome, attribute: str, strength: float) -> str:
    """Identity at the slider's place, read off the curve; another attribute's curve is not known."""
    extras = {side: result.extra for side, result in outcome.sides.items()}
    if any(extra["attribute"] != attribute for extra in extras.values()):
        return figures.scores(None, None, f"Press Rebuild and edit to measure {_title(attribute).lower()}.")
    found = {
        side: float(np.interp(strength, extra["strengths"], extra["id_sims"]))
        for side, extra in extras.items()
    }
    return figures.scores(**found, caption=LIKENESS)


def _title(attribute: str) -> str:
    return next(title for title, name in ATTRIBUTES.items() if name == attribute)
