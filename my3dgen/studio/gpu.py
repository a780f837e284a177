"""Where the heavy work runs: ZeroGPU's decorator on a Space that has it, nothing anywhere else."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

Function = TypeVar("Function", bound=Callable)


def on_gpu(seconds: int = 60) -> Callable[[Function], Function]:
    """Mark a function (or generator function) that needs the GPU for at most `seconds` a call.

    On ZeroGPU it runs in another process: arguments and results must be plain CPU data, and nothing it
    changes in memory comes back.
    """

    def decorate(function: Function) -> Function:
        if os.environ.get("SPACES_ZERO_GPU", "").lower() not in ("1", "t", "true"):
            return function
        import spaces

        return spaces.GPU(function, duration=seconds)

    return decorate
