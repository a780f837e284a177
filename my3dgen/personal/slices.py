"""Fits in slices: interrupted between two steps when a time budget is used, gone on with in another call.

A borrowed GPU is lent for a minute a call, and a fit may take longer. `work_for` runs any work for about so many
seconds. Where that is not enough it returns a `Saved`, plain CPU data that may cross to another process, and the next
`work_for` goes on from it. The work is called anew for every slice: fits that were finished before give at once
what they had found, the interrupted one takes up its variables, its optimiser's and its random numbers' state, and so
the result is exactly that of one go. What lies between the fits is done again, so it should be quick.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from my3dgen.errors import My3DGenError
from my3dgen.progress import ProgressCallback, Ticker

Result = TypeVar("Result")
PREVIEW_EVERY = 10  # steps between two previews


@dataclass(frozen=True, eq=False)
class FitState:
    """Where one fit is. Plain data only: numbers, words and numpy arrays."""

    stage: str  # what its reports call it
    variables: dict[str, np.ndarray]  # what the fit is looking for, by name
    optimiser: Any  # the optimiser's state; None once the fit is finished, and where there is no optimiser
    random: Any  # the random numbers' state; None once the fit is finished
    step: int  # steps done
    loss: float  # of the last step; nan where there was none
    seconds: float  # how long the steps took, in all slices so far
    finished: bool  # whether there are no more to do (a fit that was stopped has finished, too)


@dataclass(frozen=True, eq=False)
class Saved:
    """How far some work is: its fits in the order they ran, all finished but perhaps the last."""

    fits: tuple[FitState, ...] = ()


class Descent(ABC):
    """Variables that an optimiser moves step by step; the fits of this package derive from it."""

    optimiser: torch.optim.Optimizer | None = None  # None: a step takes no gradient
    rng: torch.Generator  # where every random number of the steps comes from

    @abstractmethod
    def variables(self) -> Mapping[str, Tensor]:
        """What the fit is looking for, by names that are the same in every process."""

    @abstractmethod
    def step(self, step: int) -> float:
        """Take one step, 0-based; returns the loss, nan where there is none."""

    @abstractmethod
    def preview(self) -> np.ndarray | None:
        """uint8 [S, S, 3]: a picture of the last step; None where there is nothing to show."""

    def anneal(self, step: int, steps: int, down: float, up: float = 0.0) -> None:
        """Set the rates of a step: each group's "scale", which rises over a share `up` of the steps and falls as a
        cosine over the last share `down` (StyleGAN2's projector)."""
        t = step / max(steps, 1)
        rate = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / max(down, 1e-6)))
        rate *= min(1.0, (t + 0.5 / max(steps, 1)) / max(up, 1e-6))
        for group in self.optimiser.param_groups:
            group["lr"] = group["scale"] * rate

    def random_state(self) -> Any:
        """The random numbers' state as plain data."""
        return self.rng.get_state().numpy().copy()

    def set_random_state(self, state: Any) -> None:
        """Take up what `random_state` gave."""
        self.rng.set_state(torch.tensor(state))


class _Paused(BaseException):
    """The budget is used. Raised in a fit, caught by `work_for`; no `except Exception` between them may keep it."""

    def __init__(self, saved: Saved):
        super().__init__("the time budget is used")
        self.saved = saved


class _Work:
    """One slice of some work."""

    def __init__(self, seconds: float, saved: Saved):
        self.deadline = time.monotonic() + seconds
        self.earlier = list(saved.fits)  # not taken up yet
        self.done: list[FitState] = []
        self.moved = False  # whether this slice took a step; each takes one, or there would be no end
        self.regained = 0.0  # seconds of the steps that earlier slices took for what was taken up

    def take_up(self, stage: str) -> FitState | None:
        """What earlier slices left of the fit that begins now.

        What is left of other stages before it is dropped: somebody else may meanwhile have found and kept what that
        was about (editing directions). Where nothing is left of this one, it begins, and the others wait for theirs.
        """
        for i, state in enumerate(self.earlier):
            if state.stage == stage:
                self.regained += sum(each.seconds for each in self.earlier[: i + 1])
                del self.earlier[: i + 1]
                return state
        return None


_current: ContextVar[_Work | None] = ContextVar("work in slices", default=None)


def work_for(seconds: float | None, work: Callable[[], Result], saved: Saved | None = None) -> Result | Saved:
    """Call `work` for about so many seconds.

    seconds: counted from this call; None: as long as it takes, in one go. A slice takes at least one step.
    work: does the same fits in the same order every time, one after the other; it may leave out one whose result it
        meanwhile has from elsewhere.
    saved: from the slice before; None: the first.
    Returns the work's result, or a `Saved` where time ran out: call again with that.
    """
    if seconds is None:
        return work()
    token = _current.set(_Work(seconds, saved or Saved()))
    try:
        return work()
    except _Paused as pause:
        return pause.saved
    finally:
        _current.reset(token)


def clock() -> float:
    """Seconds whose differences say how long something took, counting the steps of earlier slices."""
    work = _current.get()
    return time.monotonic() + (work.regained if work else 0.0)


def drive(fit: Descent, stage: str, steps: int, progress: ProgressCallback | None) -> float:
    """Take the steps of a fit that are left, and report each.

    stage: what reports call it. progress: returning False stops the fit, which keeps what it has.
    Returns the loss of the last step; nan where there was none.
    """
    work = _current.get()
    state = work.take_up(stage) if work else None
    first, loss, before = 0, float("nan"), 0.0
    if state is not None:
        _restore(fit, state)
        first, loss, before = state.step, state.loss, state.seconds
        if state.finished:
            work.done.append(state)
            return loss
    ticker = Ticker(stage, steps, progress, first)
    began, longest = time.monotonic(), 0.0
    step = first
    for step in range(first, steps):
        start = time.monotonic()
        if work and work.moved and start + longest > work.deadline:
            raise _Paused(Saved((*work.done, _state(fit, stage, step, loss, before + start - began))))
        loss = fit.step(step)
        if work:
            work.moved, longest = True, max(longest, time.monotonic() - start)
        show = progress is not None and (step % PREVIEW_EVERY == 0 or step + 1 == steps)
        if not ticker.tick(step + 1, None if math.isnan(loss) else loss, fit.preview() if show else None):
            break
    if work:
        end = _state(fit, stage, step, loss, before + time.monotonic() - began)
        work.done.append(replace(end, optimiser=None, random=None, finished=True))
    return loss


def _state(fit: Descent, stage: str, step: int, loss: float, seconds: float) -> FitState:
    variables = {name: _plain(value) for name, value in fit.variables().items()}
    optimiser = _plain(fit.optimiser.state_dict()) if fit.optimiser else None
    return FitState(stage, variables, optimiser, fit.random_state(), step, loss, seconds, False)


def _restore(fit: Descent, state: FitState) -> None:
    variables = fit.variables()
    known = {name: tuple(value.shape) for name, value in variables.items()}
    if known != {name: value.shape for name, value in state.variables.items()}:
        raise My3DGenError("What was saved belongs to other work than this; start it from the beginning.")
    with torch.no_grad():
        for name, value in variables.items():
            value.copy_(torch.from_numpy(state.variables[name]))
    if not state.finished:
        if fit.optimiser:
            fit.optimiser.load_state_dict(_tensors(state.optimiser))
        fit.set_random_state(state.random)


def _plain(value: Any) -> Any:
    """Copies of all tensors in nested containers, as numpy arrays."""
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy().copy()
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _tensors(value: Any) -> Any:
    """The other way round, copies again: an optimiser changes its state in place."""
    if isinstance(value, np.ndarray):
        return torch.tensor(value)
    if isinstance(value, dict):
        return {key: _tensors(each) for key, each in value.items()}
    return [_tensors(each) for each in value] if isinstance(value, list) else value
