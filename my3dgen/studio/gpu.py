"""Where the heavy work runs: on ZeroGPU's borrowed GPUs on a Space that has them, here anywhere else."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from my3dgen.errors import My3DGenError
from my3dgen.progress import Progress, ProgressCallback
from my3dgen.studio import stream

Function = TypeVar("Function", bound=Callable)
CALL_SECONDS = 60  # ZeroGPU lends a GPU for so long a call
# of these, what fits may take; the rest is for starting, loading the prior and the figures at the end
FIT_SECONDS = 35.0


@dataclass(frozen=True)
class _Refusal:
    """A My3DGenError on its way between processes: ZeroGPU drops the text of exceptions."""

    sentence: str


def borrowed() -> bool:
    """Whether GPUs are lent by the call (ZeroGPU)."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def fit_seconds() -> float | None:
    """How long fits may take before they pause for the next call; None: as long as they need."""
    return FIT_SECONDS if borrowed() else None


def on_gpu(seconds: int = CALL_SECONDS) -> Callable[[Function], Function]:
    """Mark a function (or generator function) that needs the GPU for at most `seconds` a call.

    On ZeroGPU it runs in another process: arguments and results must be plain CPU data, and nothing it
    changes in memory comes back. A My3DGenError does come back as it is.
    """

    def decorate(function: Function) -> Function:
        if not borrowed():
            return function
        import spaces

        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def there(*args, **kwargs):
                try:
                    yield from function(*args, **kwargs)
                except My3DGenError as error:
                    yield _Refusal(str(error))

            @functools.wraps(function)
            def here(*args, **kwargs):
                refusal = None
                for item in lent(*args, **kwargs):
                    if isinstance(item, _Refusal):
                        refusal = item  # the last item; the call is to end before anything else happens
                    else:
                        yield item
                if refusal is not None:
                    raise My3DGenError(refusal.sentence)

        else:

            @functools.wraps(function)
            def there(*args, **kwargs):
                try:
                    return function(*args, **kwargs)
                except My3DGenError as error:
                    return _Refusal(str(error))

            @functools.wraps(function)
            def here(*args, **kwargs):
                result = lent(*args, **kwargs)
                if isinstance(result, _Refusal):
                    raise My3DGenError(result.sentence)
                return result

        lent = spaces.GPU(there, duration=seconds)
        return here

    return decorate


def in_slices(work: Callable[..., Any], *arguments: Any, stop_file: str | None) -> Iterator[Progress | Any]:
    """Run `work(*arguments, progress)`; yields its reports and at last its result.

    work: a function of a module, so that another process finds it by name; see `my3dgen.personal.slices` for what
        it may do. Where GPUs are lent by the call it gets as many calls as it needs: what it has so far waits here
        between them.
    stop_file: work is asked to stop as soon as this path exists.
    """
    from my3dgen.personal.slices import Saved

    saved = None
    while True:
        result = None
        for item in _slice(work, arguments, stop_file, saved):  # to its end: then the GPU is given back
            if isinstance(item, Progress):
                yield item
            else:
                result = item
        if not isinstance(result, Saved):
            yield result
            return
        saved = result


@on_gpu()
def _slice(
    work: Callable[..., Any], arguments: tuple[Any, ...], stop_file: str | None, saved: Any
) -> Iterator[Progress | Any]:
    """One call of `in_slices`; the last item is the work's result, or a Saved to go on from."""
    from my3dgen.personal.slices import work_for

    def some(progress: ProgressCallback) -> Any:
        return work_for(fit_seconds(), lambda: work(*arguments, progress), saved)

    yield from stream.run(some, stop_file)
