"""Long work as a generator: the work runs in a thread, its reports come out one by one."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from my3dgen.progress import Progress, ProgressCallback

REPORT_SECONDS = 0.25  # at most so often; a page cannot show more anyway
FORGOTTEN_SECONDS = 120.0  # nobody came for the next report for so long: stop working


def run(work: Callable[[ProgressCallback], Any], stop_file: str | None = None) -> Iterator[Progress | Any]:
    """Yield `work`'s reports while it runs, then its result (the last thing yielded).

    work: called with a progress callback. That callback returns False, which asks the work to stop and to
        keep what there is, as soon as `stop_file` exists (a path, because it reaches another process too)
        or the generator is closed or forgotten.
    Raises what the work raises.
    """
    reports: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    reported, stage = 0.0, ""
    given: float | None = None  # when the caller took a report; None while it waits for the next
    closed = False

    def progress(report: Progress) -> bool:
        nonlocal reported, stage
        now = time.monotonic()
        due = now - reported >= REPORT_SECONDS or report.stage != stage
        if due or report.preview is not None or report.step == report.steps:
            reported, stage = now, report.stage
            reports.put(("report", report))
        stopped = stop_file is not None and Path(stop_file).exists()
        forgotten = given is not None and now - given > FORGOTTEN_SECONDS
        return not (stopped or closed or forgotten)

    def target() -> None:
        try:
            reports.put(("result", work(progress)))
        except BaseException as error:
            reports.put(("error", error))

    threading.Thread(target=target, daemon=True).start()
    try:
        while True:
            given = None
            kind, value = reports.get()
            given = time.monotonic()
            if kind == "error":
                raise value
            yield value
            if kind == "result":
                return
    finally:
        closed = True
