"""The tab of a task: photo, options, start and stop on the left, what both models make on the right."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from my3dgen.errors import My3DGenError
from my3dgen.progress import Progress
from my3dgen.studio import figures, inputs, panels, ready, service, task_photo, tasks
from my3dgen.studio.guard import guarded
from my3dgen.studio.jobs import turn
from my3dgen.studio.page import EXPORT, FIT, LIGHT, QUIET, Job, Page, session_of
from my3dgen.studio.session import Model, Session
from my3dgen.studio.tasks import Event, Missing, Outcome

# A clear picture keeps the slider's place until there is something to compare.
NOTHING = (str(Path(__file__).parent / "static" / "empty.png"),) * 2
SHOW_RESULTS = (Path(__file__).parent / "static" / "results.js").read_text()
READY = "ready "  # begins what `Session.showing` says of results made beforehand
EVERYTHING = "compare"  # the job that shows the outcomes of all tasks


@dataclass(frozen=True)
class Shown:
    """What a tab shows of the outcomes so far; empty: how it looks before there are any."""

    shots: dict[str, np.ndarray | None] = field(default_factory=dict)  # pictures by caption; empty: no row
    figures: str = ""  # HTML
    pair: dict[str, np.ndarray] | None = None  # pictures of the before/after slider by side
    more: tuple[Any, ...] = ()  # values of the components that `Task.more` laid out
    note: str = ""  # HTML above it all: where it comes from, if not from the visitor


@dataclass(frozen=True)
class Task:
    """One task's tab."""

    key: str  # element ids begin with it
    job: str  # what the job is called in the session while it runs
    intro: str  # one line: what it does and what to expect
    verb: str  # on the start button
    run: Callable[..., Iterator[Event]]  # called with session, model, [photo,] *values
    show: Callable[
        ..., Shown
    ]  # called with session, model, outcomes, *values (ready outcomes: without values)
    empty: Shown  # before there is anything
    controls: Callable[[TaskPanel], Sequence[Any]] = lambda panel: ()  # lays out inputs; their values ...
    options: Callable[[], Sequence[Any]] | None = None  # ... and these, in a closed box, go to `run`
    more: Callable[[], Sequence[Any]] = lambda: ()  # lays out further results
    photo: str | None = "A photo the model has not seen"  # label; None: the task needs no photo
    # called with what `run` is, without session and model, before it waits for its turn: raises what is missing. None: it
    # needs its photo, where it takes one
    check: Callable[..., None] | None = None
    fits: bool = True  # whether something is fitted; else it only draws, and waits for no fit
    pair: str = ""  # what the before/after slider shows, where that does not go without saying
    stays: bool = (
        True  # own results stay, with a note, where another model is chosen; else the tab clears them
    )


class TaskPanel:
    """The components of a task's tab, laid out and connected."""

    def __init__(self, page: Page, tab: gr.Tab, task: Task):
        self.page, self.task = page, task
        self.photo = None
        gr.HTML(panels.intro(task.intro))
        need = gr.HTML(panels.hint(service.NO_MODEL), elem_id=f"{task.key}-status")
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300):
                self._lay_out_left(tab)
            with gr.Column(scale=3, min_width=300, elem_id=f"{task.key}-results"):
                self._lay_out_right()
        self._connect(need)
        tab.select(self._opened(), None, [*self.results, self.download], **LIGHT, **QUIET)

    def _lay_out_left(self, tab: gr.Tab) -> None:
        task = self.task
        if task.photo:
            self.photo = self.photo_box(tab, task.photo, f"{task.key}-photo")
        values = list(task.controls(self))
        if task.options:
            with gr.Accordion("Options", open=False):
                values += task.options()
        self.values = values
        with gr.Row():
            self.start = gr.Button(
                task.verb, variant="primary", interactive=False, elem_id=f"{task.key}-start", scale=3
            )
            self.stop = gr.Button(
                "Stop", variant="stop", interactive=False, elem_id=f"{task.key}-stop", scale=1, min_width=90
            )
        self.panel = gr.HTML(
            panels.not_started(),
            apply_default_css=False,
            elem_id=f"{task.key}-panel",
            elem_classes="m3-task-panel",
        )

    def photo_box(self, tab: gr.Tab, label: str, elem_id: str, shared: bool = True) -> Any:
        """A box for a photo with the example person's held-out photos under it.

        shared: it is the photo that all tasks' tabs offer; otherwise this task's alone.
        """
        photo = _photo(label, elem_id)
        held_out = gr.HTML(
            "", js_on_load=panels.PRESSES, apply_default_css=False, elem_id=f"{elem_id}-held-out"
        )
        photo.upload(_choose if shared else _own, photo, None, **LIGHT, **QUIET)
        held_out.pick(_pick if shared else _pick_own, None, photo, **LIGHT, **QUIET)
        if shared:
            photo.clear(_clear, None, None, **LIGHT, **QUIET)
        tab.select(_offer if shared else _keep, photo, photo, **LIGHT, **QUIET)
        self.page.follow(held_out, lambda session: panels.held_out(task_photo.held_out(session)))
        self.page.blank(photo)
        return photo

    def _lay_out_right(self) -> None:
        task, empty = self.task, self.task.empty
        self.note = gr.HTML("", elem_id=f"{task.key}-ready")
        self.shots = self.figures = None
        if empty.shots:
            self.shots = gr.HTML(
                figures.shots(empty.shots), apply_default_css=False, elem_id=f"{task.key}-shots"
            )
        if empty.figures:
            self.figures = gr.HTML(empty.figures, apply_default_css=False, elem_id=f"{task.key}-figures")
        drag = f"{task.pair} Drag the line: pretrained on its left, personalized on its right".strip()
        gr.HTML(f'<p class="m3-label">{drag}</p>')
        self.pair = gr.ImageSlider(
            NOTHING,
            label="Pretrained and personalized",
            show_label=False,
            format="png",
            type="filepath",
            interactive=False,
            buttons=["fullscreen"],
            max_height=512,
            elem_id=f"{task.key}-slider",
        )
        self.more = list(task.more())
        self.download = gr.DownloadButton(
            "Download everything (ZIP)", interactive=False, elem_id=f"{task.key}-zip"
        )

    @property
    def results(self) -> list[Any]:
        """The components that show outcomes, in the order of `updates`."""
        fixed = [component for component in (self.shots, self.figures) if component is not None]
        return [self.note, *fixed, self.pair, *self.more]

    def updates(self, session: Session | None, shown: Shown) -> list[Any]:
        """Values for `results`; without a session, for the empty tab."""
        values: list[Any] = [shown.note]
        if self.shots is not None:
            values.append(figures.shots(shown.shots))
        if self.figures is not None:
            values.append(shown.figures)
        values.append(self._pair(session, shown))
        # Copies: Gradio takes the value out of the very update it is given.
        return values + [copy.copy(value) for value in shown.more]

    def _pair(self, session: Session | None, shown: Shown) -> Any:
        if session is None:
            return NOTHING
        if shown.pair is None:
            return gr.skip()
        pair = ((side, shown.pair[side]) for side in figures.SIDES)
        # several: Compare may make them faster than the page fetches them
        return tuple(session.save_newest(f"{self.task.key} pair", pair, most=8))

    def _connect(self, need: gr.HTML) -> None:
        page, task = self.page, self.task
        takes = [*([self.photo] if self.photo is not None else []), *self.values]
        outputs = [self.panel, *self.results, self.download]
        place, where = ("one fit runs at a time", FIT) if task.fits else ("another is being drawn", EXPORT)
        check = task.check or (photo_there if task.photo else None)
        job = Job(task.job, place, self.start, self.stop, self.panel, check=check)
        running = page.runs(job, self._handler(), takes, outputs, **where)
        running.success(None, js=SHOW_RESULTS.replace("KEY", task.key), queue=False, **QUIET)
        page.follow(need, lambda session: _need(session, task))
        page.follow(self.note, self._whose)
        page.blank(self.panel, panels.not_started())
        for component, value in zip(self.results, self.updates(None, task.empty), strict=True):
            page.blank(component, value)
        page.blank(self.download, no_file())

    def _handler(self) -> Callable:
        """Runs the task; results stay until the next ones are there."""
        takes_photo = self.photo is not None

        @guarded
        def run(request: gr.Request, *values: Any) -> Iterator[Any]:
            session = session_of(request)
            with turn(session, self.task.job):
                yield from reported(session, values)

        def reported(session: Session, values: tuple[Any, ...]) -> Iterator[Any]:
            model, state = service.model_asked(session, self.task.job), panels.Running()
            outcomes: list[Outcome] = []
            missing: list[Missing] = []
            asked = values[1:] if takes_photo else values
            nothing = [gr.skip()] * len(self.results)
            yield state.html(), *nothing, gr.skip()  # the prior may have to be loaded first
            for item in self.task.run(session, model, *values):
                if isinstance(item, Progress):
                    state.add(item)
                    yield state.html(), *nothing, gr.skip()
                elif isinstance(item, Missing):
                    missing.append(item)
                else:
                    outcomes.append(item)
                    session.showing[self.task.key] = model.id
                    shown = self.task.show(session, model, outcomes, *asked)
                    yield gr.skip(), *self.updates(session, shown), gr.skip()
            path = self.archive(session, model, outcomes)
            # What an earlier run made stays on the page, and so does its ZIP, where this one made nothing.
            offer = gr.update(value=path, interactive=True) if path else gr.skip()
            yield _done(state, outcomes, missing), *nothing, offer

        return run

    def _opened(self) -> Callable:
        """Shows what was made beforehand for the example person, unless the model's own results are here."""
        task = self.task

        @guarded
        def opened(request: gr.Request) -> list[Any]:
            session = session_of(request)
            model, shown, found = session.model(), session.showing.get(task.key), ready.outcomes(session)
            wanted = f"{READY}{model.id}" if found and model else None
            own = shown is not None and not shown.startswith(READY)
            if wanted == shown or (own and (wanted is None or shown == model.id)):
                return [gr.skip()] * (len(self.results) + 1)
            if wanted is not None:
                outcomes = [each for each in found.values() if task.job in (each.task, EVERYTHING)]
                session.showing[task.key] = wanted
                return [*self.updates(session, task.show(session, model, outcomes)), no_file()]
            del session.showing[task.key]
            return [*self.updates(None, task.empty), no_file()]

        return opened

    def _whose(self, session: Session) -> Any:
        """The note over a model's own results: whose they are, where another model was chosen since."""
        shown = session.showing.get(self.task.key)
        if not self.task.stays or shown is None or shown.startswith(READY):
            return gr.skip()
        if shown == session.current:
            return ""
        model = session.models.get(shown)
        maker = f"the model “{model.label}”" if model else "a model that is gone"
        return panels.hint(f"Made with {maker}: press {self.task.verb} for the chosen one.")

    def archive(self, session: Session, model: Model, outcomes: list[Outcome], **more: Any) -> str | None:
        """The ZIP of the outcomes, or None where there are none."""
        return tasks.archive(session, outcomes, self.task.key, **more) if outcomes else None


def side_by_side(outcome: Outcome, before: dict[str, np.ndarray | None], caption: str) -> Shown:
    """Both models' picture beside what they saw (`before`, by caption), their likeness, and their novel views."""
    pair = {side: result.images["image"] for side, result in outcome.sides.items()}
    shots = before | {figures.SIDES[side]: picture for side, picture in pair.items()}
    bars = figures.scores(**outcome.figure("id_sim"), caption=caption)
    return Shown(shots, bars, pair, (views(outcome),), outcome.note)


def views(outcome: Outcome) -> str:
    """The novel views of both models as strips."""
    rows = {
        f"{figures.SIDES[side]}, from other sides": [
            picture for name, picture in result.images.items() if name.startswith("view_")
        ]
        for side, result in outcome.sides.items()
    }
    return figures.strips(rows)


def photo_there(photo: str | None, *_: Any) -> None:
    """Raises My3DGenError where there is no photo."""
    if not photo:
        raise My3DGenError(task_photo.NO_PHOTO)


def _photo(label: str, elem_id: str) -> Any:
    return inputs.Image(
        label=label,
        sources=["upload", "clipboard"],  # a phone's chooser offers its camera too
        type="filepath",
        format="png",
        buttons=[],
        height=260,
        elem_id=elem_id,
        elem_classes="m3-photo",
    )


def _done(state: panels.Running, outcomes: list[Outcome], missing: list[Missing]) -> str:
    """How a run ended, with a sentence for everything that is missing."""
    if any(each.stopped for each in (*outcomes, *missing)):
        title = (
            "Stopped early: this is what there is"
            if outcomes
            else "Stopped before there was anything to show"
        )
    else:
        title = "Done, but not everything worked" if missing else "Done"
    reasons = " ".join(each.reason for each in missing)
    return panels.fit_panel(title, float(bool(outcomes)), reasons, state.preview, state.curve())


def _need(session: Session, task: Task) -> str:
    model = session.model()
    if model is None:
        return panels.hint(service.NO_MODEL)
    what = f"Choose a photo, then press {task.verb}." if task.photo else f"Press {task.verb}."
    return panels.hint(f"Model: {model.label}. {what}", "good")


def no_file() -> Any:
    """What empties a download button; anew for every use, since Gradio takes the value out of it."""
    return gr.update(value=None, interactive=False)


@guarded
def _choose(photo: str | None, request: gr.Request) -> None:
    """A photo for all tasks was uploaded."""
    task_photo.choose(session_of(request), photo)


@guarded
def _own(photo: str | None, request: gr.Request) -> None:
    """A photo for one task was uploaded: it goes when the session goes."""
    if photo:
        service.REGISTRY.owns_uploads(session_of(request), [photo])


@guarded
def _clear(request: gr.Request) -> None:
    """The photo for all tasks was taken away."""
    task_photo.choose(session_of(request), None)


@guarded
def _offer(shown: str | None, request: gr.Request) -> Any:
    """The tab was opened: the photo chosen in another one is here too, and one of another example person goes."""
    session = session_of(request)
    photo = task_photo.offered(session)
    if photo is None:
        return None if shown and session.holds(shown) else gr.skip()
    return gr.skip() if photo == shown else photo


@guarded
def _pick(event: gr.EventData, request: gr.Request) -> Any:
    """A held-out photo of the example person, for all tasks."""
    session = session_of(request)
    photo = task_photo.held_out_file(session, event._data.get("id"))
    if photo:
        task_photo.choose(session, photo)
    return photo


@guarded
def _pick_own(event: gr.EventData, request: gr.Request) -> Any:
    """A held-out photo of the example person, for one task."""
    session = session_of(request)
    session.second = task_photo.held_out_file(session, event._data.get("id"))
    return session.second


@guarded
def _keep(shown: str | None, request: gr.Request) -> Any:
    """The tab was opened: a held-out photo of an example person who was chosen before goes."""
    session = session_of(request)
    return None if shown and session.holds(shown) and shown != session.second else gr.skip()
