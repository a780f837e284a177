"""How long work reports where it is, and how its caller stops it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Progress:
    """One report of a running fit."""

    stage: str  # "prepare", "project", "personalize", ...
    step: int  # steps done so far, 1-based
    steps: int  # steps in all
    seconds_left: float | None  # estimate for this stage; None until the first step is timed
    loss: float | None = None  # the value being minimised
    preview: np.ndarray | None = None  # uint8 [H, W, 3] picture of the current state, now and then


# Returning False means: stop here and keep what there is.
ProgressCallback = Callable[[Progress], bool | None]


class Ticker:
    """Counts the steps of one stage and passes them to a callback (which may be None)."""

    def __init__(self, stage: str, steps: int, callback: ProgressCallback | None, done: int = 0):
        self.stage, self.steps, self.callback = stage, steps, callback
        self.done = done  # steps that were taken before, in some other call
        self.start = time.monotonic()

    def tick(self, step: int, loss: float | None = None, preview: np.ndarray | None = None) -> bool:
        """Report that `step` (1-based) is done. Returns False where the caller asked to stop."""
        if self.callback is None:
            return True
        left = (time.monotonic() - self.start) / (step - self.done) * (self.steps - step)
        return self.callback(Progress(self.stage, step, self.steps, left, loss, preview)) is not False
