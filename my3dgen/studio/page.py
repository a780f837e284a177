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

# Kinds of work: a fit may take minutes, an export half a minute, and a render must never wait behind either.
FIT = {"concurrency_id": "fit", "concurrency_limit": 1}
EXPORT = {"concurrency_id": "export", "concurrency_limit": 1}
RENDER = {"concurrency_id": "render", "concurrency_limit": 3}
LIGHT = {"concurrency_id": "light", "concurrency_limit": 16}
PRIVATE = {"api_visibility": "private"}
QUIET = {"show_progress": "hidden", **PRIVATE}


def session_of(request: gr.Request) -> Session:
    """The caller's session."""
    return REGISTRY.get(request.session_hash)


def queuer(job: str, place: str, curve: str | None = "") -> Callable:
    """What a start button does before its job begins: [panel, start, stop]. From then on the job can be stopped.

    place: what is waited for, in words; curve: as `panels.fit_panel` takes it.
    """

    @guarded
    def queued(request: gr.Request) -> Any:
        jobs.wait(session_of(request), job)
        panel = panels.fit_panel(f"Waiting for a free place: {place}", 0.0, "", "", curve)
        return panel, gr.update(interactive=False), gr.update(interactive=True)

    return queued


def stopper(job: str) -> Callable:
    """What a stop button does: it asks its job to stop, and says once that it was heard."""

    @guarded
    def stop(request: gr.Request) -> Any:
        jobs.stop(session_of(request), job)
        return gr.update(interactive=False)

    return stop


def numbered(session: Session) -> Any:
    """What a slider that chooses one of the model's photos follows."""
    model = session.model()
    count = len(model.adapter.anchors.ws) if model else 1
    return gr.update(maximum=max(count, 2), interactive=count > 1)


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

    def go(self, button: gr.Button, tab: str) -> None:
        """Make a button open another tab."""
        button.click(
            lambda: gr.Tabs(selected=tab), None, self.tabs, queue=False, show_progress="hidden", **PRIVATE
        )

    def connect(self, load: Any, deleted: Any) -> None:
        """Once everything is laid out: connect changes to watchers, and the `deleted` event to blanks."""
        components = [component for component, _ in self.watchers]

        @guarded
        def refresh(request: gr.Request) -> list[Any]:
            session = session_of(request)
            return [update(session) for _, update in self.watchers]

        options = {"queue": False, **QUIET}
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
