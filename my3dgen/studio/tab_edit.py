"""Smile & age: a photo, rebuilt once and then changed with a slider."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from my3dgen.studio import figures, task_photo, tasks
from my3dgen.studio.guard import guarded
from my3dgen.studio.page import QUIET, RENDER, Page, session_of
from my3dgen.studio.pictures import png
from my3dgen.studio.session import Model, Session
from my3dgen.studio.task_panel import Shown, Task, TaskPanel, no_file
from my3dgen.studio.tasks import Event, Outcome

INTRO = "Rebuilds a photo once, under a minute; then the slider changes smile or age at once: you should stay you."
LIKENESS = "How much the edited face looks like the person (identity similarity, 1 is the same)."
OTHER_MODEL = "Another model was chosen since: press Rebuild and edit to fit again."
OTHER_PHOTO = "Another photo was chosen since: press Rebuild and edit to fit again."
ATTRIBUTES = {"Smile": "smile", "Age": "age", "Beard": "beard", "Dark hair": "hair_dark"}
REST_SECONDS = 0.4  # a slider that is still moving asks again within this time
POLICIES = {
    "Nearest face of yours": "project",
    "Your faces up to the edge": "stop",
    "Go beyond them": "continue",
}
EMPTY = Shown(
    {"Input": None, "Pretrained": None, "Personalized": None},
    figures.scores(None, None, LIKENESS),
    more=("", ""),
)


@dataclass(frozen=True)
class Editing:
    """The fit that the slider moves."""

    model: Model
    outcome: Outcome  # of `tasks.edit` with strength 0: its latents are the photo's own
    photo: str | None  # digest of the photo; None: the fit was made beforehand and says of which photo it is

    def stale(self, session: Session, photo: str | None = None) -> str:
        """Why this is no longer the fit to move, in a sentence; empty where it is. photo: the one chosen now."""
        if session.model() is not self.model:
            return OTHER_MODEL
        if photo and self.photo and task_photo.digest(session, photo) != self.photo:
            return OTHER_PHOTO
        return ""


def build(page: Page, tab: gr.Tab) -> None:
    """Lay the tab out and connect it."""
    task = Task(
        key="edit",
        job="edit",
        intro=INTRO,
        verb="Rebuild and edit",
        run=_run,
        show=_show,
        empty=EMPTY,
        controls=_controls,
        options=_options,
        stays=False,
        more=lambda: [
            gr.HTML("", apply_default_css=False, elem_id="edit-plot"),
            gr.HTML("", apply_default_css=False, elem_id="edit-strips"),
        ],
    )
    panel = TaskPanel(page, tab, task)
    attribute, strength, policy, _ = panel.values
    everything = [*panel.results, panel.download]

    def cleared(reason: str) -> list[Any]:
        empty = Shown(EMPTY.shots, figures.scores(None, None, reason), more=EMPTY.more)
        return [*panel.updates(None, empty), no_file()]

    @guarded
    def preview(request: gr.Request, photo: str | None, *values: Any) -> Any:
        """The two faces at the slider's place, from the fit that is there."""
        session = session_of(request)
        editing = session.editing
        if editing is None or editing.stale(session, photo):
            return gr.skip()
        session.edit_moved = object()
        shown = _edited(editing, *values)
        return gr.skip() if session.deleted else figures.shots(shown.shots)

    @guarded
    def settle(request: gr.Request, photo: str | None, *values: Any) -> Any:
        """The slider was let go: the rest of the tab follows."""
        session = session_of(request)
        session.edit_moved = object()
        return whole(session, photo, *values)

    @guarded
    def rest(request: gr.Request, photo: str | None, *values: Any) -> Any:
        """The slider may rest, as nothing says where it is moved by keys: the same as where it was let go."""
        session = session_of(request)
        moved = session.edit_moved
        time.sleep(REST_SECONDS)
        if moved is None or session.edit_moved is not moved:
            return [gr.skip()] * len(everything)
        return whole(session, photo, *values)

    @guarded
    def belongs(request: gr.Request, photo: str | None, *values: Any) -> Any:
        """The model or the photo is another one: the faces go, and come back with what they were made from. They also
        follow what was changed while they were being made."""
        session = session_of(request)
        editing = session.editing
        if editing is None:
            return [gr.skip()] * len(everything)
        # what was made beforehand stays as it is, whatever had been chosen before it came
        same = editing.outcome.ready or values == session.edit_shown
        if same and editing.stale(session, photo) == session.edit_hidden:
            return [gr.skip()] * len(everything)
        return whole(session, photo, *values)

    def whole(session: Session, photo: str | None, *values: Any) -> list[Any]:
        editing = session.editing
        if editing is None:
            return [gr.skip()] * len(everything)
        session.edit_hidden, session.edit_shown = editing.stale(session, photo), values
        if session.edit_hidden:
            return cleared(session.edit_hidden)
        shown = _edited(editing, *values)
        more = {
            f"{side}/{values[0]}_{values[1]:+.1f}.png": png(picture) for side, picture in shown.pair.items()
        }
        path = panel.archive(session, editing.model, [editing.outcome], more=more)
        return [*panel.updates(session, shown), gr.update(value=path, interactive=True)]

    takes = [panel.photo, attribute, strength, policy]
    moving = {"trigger_mode": "always_last", **RENDER, **QUIET}
    strength.input(preview, takes, panel.shots, **moving).then(rest, takes, everything, **moving)
    strength.release(settle, takes, everything, **moving)
    for choice in (attribute, policy):
        choice.input(preview, takes, panel.shots, **moving).then(settle, takes, everything, **moving)
    panel.photo.change(belongs, takes, everything, **moving)
    page.react(belongs, takes, everything, **moving)


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
        info="How much of the change is made of your own moments; the rest comes from the pretrained model",
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
) -> Iterator[Event]:
    # Rebuilt with strength 0: its latents are the photo's own, which every place of the slider starts from.
    for item in tasks.edit(session, model, photo, attribute, 0.0, policy, steps):
        if isinstance(item, Outcome):
            session.editing = Editing(model, item, task_photo.digest(session, photo))
            session.edit_hidden = ""
        yield item


def _show(
    session: Session,
    model: Model,
    outcomes: list[Outcome],
    attribute: str = "smile",
    strength: float = 1.0,
    policy: str = "project",
    steps: float = 0,
) -> Shown:
    outcome = outcomes[-1]
    session.edit_shown = (attribute, strength, policy)
    if outcome.ready:  # its picture is of these very values
        session.editing, session.edit_hidden = Editing(model, outcome, None), ""
        pictures = {side: result.images["image"] for side, result in outcome.sides.items()}
        return _shown(outcome, pictures, attribute, strength, policy)
    return _edited(session.editing, attribute, strength, policy)


def _edited(editing: Editing, attribute: str, strength: float, policy: str) -> Shown:
    pictures = tasks.edited(editing.model, editing.outcome, attribute, strength, policy)
    return _shown(editing.outcome, pictures, attribute, strength, policy)


def _shown(
    outcome: Outcome, pictures: dict[str, np.ndarray], attribute: str, strength: float, policy: str
) -> Shown:
    """The tab with these pictures. What was measured along the slider is shown for the very choices it was
    measured with; nothing is known of others."""
    title = _title(attribute)
    shots = {"Input": outcome.comparison.input}
    shots |= {
        f"{figures.SIDES[side]}, {title.lower()} {strength:+.1f}": picture
        for side, picture in pictures.items()
    }
    extras = {side: result.extra for side, result in outcome.sides.items()}
    if any((extra["attribute"], extra["policy"]) != (attribute, policy) for extra in extras.values()):
        missing = f"{title} at “{_policy(policy)}” is not measured yet: press Rebuild and edit again."
        bars = figures.scores(None, None, missing)
        return Shown(shots, bars, pictures, ("", ""), outcome.note)
    found = {
        side: float(np.interp(strength, extra["strengths"], extra["id_sims"]))
        for side, extra in extras.items()
    }
    curve = figures.plot(
        {figures.SIDES[side]: extra["id_sims"] for side, extra in extras.items()},
        next(iter(extras.values()))["strengths"],
        f"Identity similarity along {title.lower()}:",
        title.lower(),
    )
    strips = figures.strips(
        {
            f"{figures.SIDES[side]}, {title.lower()} from -2 to 2": result.frames
            for side, result in outcome.sides.items()
        }
    )
    bars = figures.scores(**found, caption=LIKENESS)
    return Shown(shots, bars, pictures, (curve, strips), outcome.note)


def _title(attribute: str) -> str:
    return next(title for title, name in ATTRIBUTES.items() if name == attribute)


def _policy(policy: str) -> str:
    return next(title for title, name in POLICIES.items() if name == policy)
