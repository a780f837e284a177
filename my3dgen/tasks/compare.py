"""The same task on the pretrained and on the personalized prior."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from my3dgen.errors import My3DGenError
from my3dgen.tasks.invert import invert
from my3dgen.tasks.result import TaskResult, one_face

TASKS = {"invert": invert}


@dataclass(frozen=True, eq=False)
class Comparison:
    """Pretrained against personalized."""

    input: np.ndarray  # uint8 [512, 512, 3], the photo's crop
    pretrained: TaskResult
    personalized: TaskResult | None  # None where no adapter was given


def compare(task: str, prior, me, photo, progress=None, **options) -> Comparison:
    """Run a task on both priors with the same options.

    Args:
        task: one of `TASKS`.
        prior, me: the pretrained prior and its personalized view (or None).
        photo: as the task takes it.
        progress: called with stages "pretrained: ..." and "personalized: ...".

    Raises:
        My3DGenError: for an unknown task, or where the photo cannot be used.
    """
    if task not in TASKS:
        raise My3DGenError(f"no task {task!r}; the tasks are {', '.join(TASKS)}")
    face = one_face(photo)
    results = []
    for who, model in (("pretrained", prior), ("personalized", me)):
        if model is None:
            results.append(None)
            continue
        results.append(TASKS[task](model, face, progress=named(progress, who), **options))
    return Comparison(face.image, *results)


def named(progress, who: str):
    """A progress callback that says which of the two models is at work."""
    if progress is None:
        return None
    return lambda report: progress(replace(report, stage=f"{who}: {report.stage}"))
