"""An example person's ready results: what a task's tab shows before the visitor has made anything."""

from __future__ import annotations

import functools
from pathlib import Path

from my3dgen import layout
from my3dgen.studio import examples, panels
from my3dgen.studio.figures import SIDES
from my3dgen.studio.session import Session
from my3dgen.studio.tasks import Outcome

WHY = "Made beforehand from {of}. Results of your own take its place."


def outcomes(session: Session) -> dict[str, Outcome]:
    """The chosen model's ready results by task; empty where it has none."""
    model = session.model()
    if model is None or model.example is None:
        return {}
    person = examples.named(model.example)
    adapter = Path(person.adapter) if person.adapter else None
    if adapter is None:
        return {}
    written = adapter.parent / layout.READY / "ready.json"
    if not written.is_file():
        return {}
    return _read(str(adapter.parent), person.title, adapter.stat().st_mtime_ns, written.stat().st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _read(folder: str, title: str, *_: int) -> dict[str, Outcome]:
    """The results in a folder; the times of its files are arguments, so that newer ones are read."""
    from my3dgen.evaluation import ready

    made = {}
    for task, comparison in ready.read(Path(folder)).items():
        report = {side: getattr(comparison, side).figures | getattr(comparison, side).extra for side in SIDES}
        made[task] = Outcome(task, comparison, report, False, _note(title, comparison.photo))
    return made


def _note(title: str, photo: str | None) -> str:
    if photo is None:
        return panels.hint(WHY.format(of=f"{title}’s photos"))
    number = int("".join(filter(str.isdecimal, photo)) or 0) + 1
    return panels.hint(WHY.format(of=f"{title}’s held-out photo {number}"))
