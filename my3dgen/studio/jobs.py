"""Small things every job of a session needs: being stopped, being checked, being reported."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from my3dgen.errors import My3DGenError
from my3dgen.progress import Progress
from my3dgen.studio.session import GONE, Session


@contextmanager
def running(session: Session, kind: str) -> Iterator[str]:
    """Mark a job of a session, so that the visitor can stop it; gives the path whose existence stops it."""
    path = session.new_path("stop")
    with session.lock:
        session.running[kind] = path
        early = kind in session.stop_early
        session.stop_early.discard(kind)
    if early:
        Path(path).touch()
    try:
        yield path
    finally:
        if session.running.get(kind) == path:
            del session.running[kind]
        shutil.rmtree(Path(path).parent, ignore_errors=True)


def wait(session: Session, kind: str) -> None:
    """Say that a job was asked for and will begin: only from now on `stop` can stop it early. `turn` ends that.

    The model that is chosen now is the one that is meant, whatever is chosen until its turn comes.
    """
    forget_stop(session, kind)
    session.queued[kind] = time.monotonic()
    session.asked[kind] = session.current


@contextmanager
def turn(session: Session, kind: str) -> Iterator[None]:
    """The turn of a job that was asked for: once it is over, however it went, it is no longer busy."""
    try:
        yield
    finally:
        over(session, kind)


def over(session: Session, kind: str) -> None:
    """A job that was asked for has ended, or will not begin."""
    session.queued.pop(kind, None)
    session.asked.pop(kind, None)


def forget_stop(session: Session, kind: str) -> None:
    """What was stopped before is over: nothing that begins later is meant."""
    session.stop_early.discard(kind)


def busy(session: Session, kind: str) -> bool:
    """Whether a job was asked for and has not ended."""
    return kind in session.running or session.waits(kind)


def stop(session: Session, job: str) -> None:
    """Ask one job of this session to stop and keep what there is; the others go on.

    One that was asked for and has not begun yet (one fit runs at a time) stops as soon as it begins.
    """
    with session.lock:
        path = session.running.get(job)
        if path is None:
            session.stop_early.add(job)
    if path is not None:
        with suppress(OSError):  # it has just ended
            Path(path).touch()


def reports(session: Session, stream: Iterator[Any]) -> Generator[Progress, None, Any]:
    """Pass reports on and return the result; keeps the session alive and stops when it is deleted."""
    for report in stream:
        if session.deleted:
            raise My3DGenError(GONE)
        session.touch()
        if not isinstance(report, Progress):
            return report
        yield report
    raise RuntimeError("a job ended without a result")


def digest(*parts: Any) -> str:
    """One name for the same things."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def one_of(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """A word a client sent, checked."""
    if value not in choices:
        raise My3DGenError(f"{name} is {str(value)[:40]!r}; choose one of: {', '.join(choices)}.")
    return value
