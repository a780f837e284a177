"""What the tabs share: who is calling, which step is unlocked, and how the page follows the session."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from my3dgen.studio import jobs, panels
from my3dgen.studio.guard import guarded
from my3dgen.studio.service import REGISTRY
from my3dgen.studio.session import Session

# Kinds of work: a fit may take minutes, reading photos, an export or new looks half a minute, and a render must never wait
# behind any of them.
FIT = {"concurrency_id": "fit", "concurrency_limit": 1}
EXPORT = {"concurrency_id": "export", "concurrency_limit": 1}
RENDER = {"concurrency_id": "render", "concurrency_limit": 3}
READ = {"concurrency_id": "read", "concurrency_limit": 2}
LIGHT = {"concurrency_id": "light", "concurrency_limit": 16}
PRIVATE = {"api_visibility": "private"}
QUIET = {"show_progress": "hidden", **PRIVATE}
# A button at the foot of a long tab opens a short one, which would be shown from its foot, too.
FROM_THE_TOP = """() => {
  const tabs = document.getElementById('tabs');
  if (tabs.getBoundingClientRect().top < 0) tabs.scrollIntoView();
}"""


def session_of(request: gr.Request) -> Session:
    """The caller's session."""
    return REGISTRY.get(request.session_hash)


def has_model(session: Session) -> bool:
    """Whether there is a face to work with."""
    return session.model() is not None


@dataclass(frozen=True)
class Job:
    """What a start button begins, a stop button ends early, and a panel reports."""

    name: str  # what the session calls it while it waits and runs
    place: str  # what it waits for, in words
    start: gr.Button
    stop: gr.Button
    panel: gr.HTML
    ready: Callable[[Session], bool] = has_model  # whether it could be started
    curve: str | None = ""  # as `panels.fit_panel` takes it
    # called with the handler's inputs before it waits for its turn: raises at once what would be said after the wait
    check: Callable[..., None] | None = None

    def startable(self, session: Session) -> Any:
        """The start button's state: nobody asks for what is under way, or waits for its turn."""
        return gr.update(interactive=self.ready(session) and not jobs.busy(session, self.name))

    def stoppable(self, session: Session) -> Any:
        """The stop button's state."""
        return gr.update(interactive=jobs.busy(session, self.name))

    def queued(self, session: Session, *values: Any) -> Any:
        """It was asked for, and can be stopped from now on: [panel, start, stop]. Raises what `check` does."""
        if self.check is not None:
            self.check(*values)
        jobs.wait(session, self.name)
        title = f"Waiting for a free place: {self.place}"
        return (
            panels.fit_panel(title, 0.0, "", "", self.curve),
            self.startable(session),
            self.stoppable(session),
        )

    def stopped(self, session: Session) -> Any:
        """It was asked to stop, and button and panel say that this was heard: [panel, stop]."""
        waits = session.waits(self.name) and self.name not in session.running
        if jobs.busy(session, self.name):  # it may just have ended
            jobs.stop(session, self.name)
        said = panels.fit_panel("Stopped: it ends as soon as its turn comes", 0.0, "", "", self.curve)
        return said if waits else gr.skip(), gr.update(interactive=False)

    def failed(self, session: Session) -> Any:
        """It is over, and perhaps never had its turn (too many waited): [start, stop]."""
        jobs.over(session, self.name)
        return self.startable(session), self.stoppable(session)


def numbered(slider: gr.Slider) -> Callable[[Session], Any]:
    """What a slider that chooses one of the model's photos follows: with another model it starts anew.

    The page's own value must not stay: it may be higher than there are photos now, which Gradio refuses.
    """
    start = slider.value

    def update(session: Session) -> Any:
        model = session.model()
        count, shown = len(model.adapter.anchors.ws) if model else 1, model.id if model else None
        same = shown is not None and session.numbered.get(slider.elem_id) == shown
        value = {} if same else {"value": start}
        session.numbered[slider.elem_id] = shown
        return gr.update(maximum=max(count, 2), interactive=count > 1, **value)

    return update


@dataclass
class Page:
    """Components whose state follows the session, and the events that change the session."""

    tabs: gr.Tabs | None = None
    research: gr.HTML | None = None  # what Selfies says about the chosen prior's research data
    watchers: list[tuple[Any, Callable[[Session], Any]]] = field(default_factory=list)
    reactions: list[tuple[Callable, Any, Any, dict[str, Any]]] = field(default_factory=list)
    blanks: list[tuple[Any, Any]] = field(default_factory=list)
    changes: list[Any] = field(default_factory=list)
    loads: list[tuple[Callable, Any]] = field(default_factory=list)

    def follow(self, component: Any, update: Callable[[Session], Any]) -> None:
        """Give `component` the value or gr.update() that `update` returns whenever the session changed.

        A page starts with an empty session, so components are laid out as they should look for one.
        """
        self.watchers.append((component, update))

    def react(self, function: Callable, inputs: Any, outputs: Any, **options: Any) -> None:
        """Call an event handler whenever the session changed: for what takes inputs, or longer than `follow` may."""
        self.reactions.append((function, inputs, outputs, options))

    def blank(self, component: Any, value: Any = None) -> None:
        """Give `component` this value when the visitor deletes everything."""
        self.blanks.append((component, value))

    def changed_by(self, event: Any) -> Any:
        """Say that this event changes the session."""
        self.changes.append(event)
        return event

    def on_load(self, function: Callable, outputs: Any) -> None:
        """Call a function once, when the page opens."""
        self.loads.append((function, outputs))

    def runs(self, job: Job, handler: Callable, takes: Any, outputs: Any, **where: Any) -> Any:
        """Connect a job's buttons: its handler runs (in a `jobs.turn`) when its turn comes. Returns that event,
        which changes the session.

        where: how it is queued (FIT, EXPORT).
        """

        def with_session(function: Callable[..., Any]) -> Callable:
            @guarded
            def called(request: gr.Request, *values: Any) -> Any:
                return function(session_of(request), *values)

            return called

        buttons, at_once = [job.start, job.stop], {"queue": False, **QUIET}
        checked = None if job.check is None else takes  # or everything would be sent twice for nothing
        asked = job.start.click(with_session(job.queued), checked, [job.panel, *buttons], **LIGHT, **QUIET)
        running = asked.success(handler, takes, outputs, **where, **QUIET)
        running.failure(with_session(job.failed), None, buttons, **at_once)
        running.failure(lambda: panels.not_started(job.curve), None, job.panel, **at_once)
        job.stop.click(with_session(job.stopped), None, [job.panel, job.stop], **at_once)
        self.follow(job.start, job.startable)
        self.follow(job.stop, job.stoppable)
        return self.changed_by(running)

    def go(self, button: gr.Button, tab: str) -> None:
        """Make a button open another tab, from its top."""
        opened = button.click(lambda: gr.Tabs(selected=tab), None, self.tabs, queue=False, **QUIET)
        opened.success(None, js=FROM_THE_TOP, queue=False, **QUIET)

    def connect(self, load: Any, deleted: Any) -> None:
        """Once everything is laid out: connect changes to watchers, and the `deleted` event to blanks."""
        components = [component for component, _ in self.watchers]

        @guarded
        def refresh(request: gr.Request) -> list[Any]:
            session = session_of(request)
            states = [update(session) for _, update in self.watchers]
            # deleted meanwhile: these are states of before, and would undo what the page shows now
            return [gr.skip()] * len(states) if session.deleted else states

        # what comes while one is under way is asked for once that is answered
        options = {"queue": False, "trigger_mode": "always_last", **QUIET}
        for event in [*self.changes, deleted]:
            event.success(refresh, None, components, **options)
            event.failure(refresh, None, components, **options)
        for event in self.changes:
            for function, inputs, outputs, how in self.reactions:
                event.success(function, inputs, outputs, **how)
        # A copy for every call: Gradio takes the value out of the very update it is given.
        deleted.success(
            lambda: copy.deepcopy([value for _, value in self.blanks]),
            None,
            [component for component, _ in self.blanks],
            **options,
        )
        for function, outputs in self.loads:
            load(function, None, outputs, show_progress="hidden", **LIGHT, **PRIVATE)
