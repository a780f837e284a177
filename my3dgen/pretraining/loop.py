"""The loop of whatever is trained for so many minutes: at a decaying rate, with a log and checkpoints."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TextIO

import numpy as np
import torch
from torch import Tensor, nn

LOG_EVERY = 50  # steps
SAVE_EVERY = 120.0  # seconds


@dataclass
class Elapsed:
    """How far a training is: what its checkpoint keeps of the loop."""

    step: int = 0  # steps done
    seconds: float = 0.0  # of training, in all goes


def train_for(
    step: Callable[[float], Mapping[str, Tensor]],
    minutes: float,
    progress: Elapsed,
    save: Callable[[], None] | None = None,
    log: TextIO | None = None,
    **about: object,
) -> dict[str, float]:
    """Take steps until the minutes are used, those of earlier goes included.

    Args:
        step: takes one, given the share of the time that is used; returns its losses by name.
        progress: counted up in place.
        save: writes a checkpoint; called now and then, and at the end.
        log: a line of JSON goes there every 50 steps; standard output where there is none.
        about: what each line says besides.

    Returns:
        The mean losses of the last line; nothing where there was none.
    """
    means, totals, counted = {}, {}, 0
    last = saved = time.monotonic()
    while progress.seconds < 60 * minutes:
        for name, value in step(progress.seconds / (60 * minutes)).items():
            totals[name] = totals.get(name, 0.0) + float(value.detach())
        counted += 1
        now = time.monotonic()
        progress.step, progress.seconds, last = progress.step + 1, progress.seconds + now - last, now
        if progress.step % LOG_EVERY == 0:
            means = {name: round(total / counted, 4) for name, total in totals.items()}
            totals, counted = {}, 0
            line = {"step": progress.step, **about, "minutes": round(progress.seconds / 60, 2), **means}
            print(json.dumps(line), file=log or sys.stdout, flush=True)
        if save and now - saved > SAVE_EVERY:
            save()
            saved = now
    if save:
        save()
    return means


def decayed(share: float, step: int, warm_up: int, floor: float = 0.02) -> float:
    """Of a rate, what is in force after a share of the time: a cosine down to `floor`, rising over the first steps."""
    return float((floor + (1 - floor) * 0.5 * (1 + np.cos(np.pi * share))) * min(1, (step + 1) / warm_up))


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """A rate for all parameters, times their group's "scale" where it has one."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)


def descend(optimiser: torch.optim.Optimizer, loss: Tensor, clip: float = float("inf")) -> None:
    """One step down a loss; gradients that are longer than `clip` together are shortened to it."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], clip)
    optimiser.step()


@torch.no_grad()
def averaged(average: dict[str, Tensor], net: nn.Module, ema: float, step: int) -> None:
    """Move a running average of a network's weights towards the present ones, in place; the first steps count less."""
    decay = min(ema, (1 + step) / (10 + step))
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)
