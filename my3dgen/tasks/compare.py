"""The same task on the pretrained and on the personalized prior."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np

from my3dgen.errors import My3DGenError
from my3dgen.faces import Face
from my3dgen.faces.regions import painted_mask
from my3dgen.tasks.edit import edit
from my3dgen.tasks.inpaint import inpaint
from my3dgen.tasks.interpolate import interpolate
from my3dgen.tasks.invert import invert
from my3dgen.tasks.result import TaskResult, one_face
from my3dgen.tasks.synthesize import synthesize
from my3dgen.tasks.upscale import upscale

TASKS = {
    "invert": invert,
    "inpaint": inpaint,
    "upscale": upscale,
    "interpolate": interpolate,
    "synthesize": synthesize,
    "edit": edit,
}
NEEDS_PHOTO = ("invert", "inpaint", "upscale", "edit")
# tasks that may start from the person's anchors, which the pretrained prior is then given as well
FROM_ANCHORS = ("interpolate", "synthesize", "edit")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Pretrained against personalized."""

    input: np.ndarray | None  # uint8 [512, 512, 3], the photo's crop as the task saw it; None without a photo
    pretrained: TaskResult
    personalized: TaskResult | None  # None where no adapter was given
    full: TaskResult | None = None  # with every weight tuned; None where no such prior was given


def compare(task: str, prior, me, photo=None, progress=None, full=None, **options) -> Comparison:
    """Run a task on both priors with the same options.

    Args:
        task: one of `TASKS`.
        prior, me: the pretrained prior and its personalized view (or None).
        photo: as the task takes it; for "edit" it may be an anchor's number. None for "interpolate" (which takes `start`
            and `end`) and "synthesize".
        progress: called with stages "pretrained: ..." and "personalized: ..."; False stops, keeping what there is.
        full: a third prior, with every weight tuned to the person (`my3dgen.full_fine_tuning`); its stages are
            "full fine-tuning: ...".

    Raises:
        My3DGenError: for an unknown task, where the photo cannot be used, or is missing, or one too many.
    """
    if task not in TASKS:
        raise My3DGenError(f"no task {task!r}; the tasks are {', '.join(TASKS)}")
    if photo is None and task in NEEDS_PHOTO:
        raise My3DGenError(f"{task} needs a photo; got none")
    if photo is not None and task not in NEEDS_PHOTO:
        instead = "start=... and end=..." if task == "interpolate" else "no photo"
        raise My3DGenError(
            f"{task} works on the person's anchors; give it {instead}, not {type(photo).__name__!r}"
        )
    if task in ("invert", "inpaint") or (task == "edit" and not isinstance(photo, Integral)):
        source, photo = photo, one_face(photo, prior.kind)  # found once for both
        if options.get("mask") is not None:
            options["mask"] = painted_mask(options["mask"], photo, isinstance(source, Face))
    if task in FROM_ANCHORS and me is not None:
        options.setdefault("anchors", me.anchors)
    given = () if task not in NEEDS_PHOTO else (photo,)
    results: list[TaskResult | None] = []
    for who, model in (("pretrained", prior), ("personalized", me), ("full fine-tuning", full)):
        report = named(progress, who)
        results.append(None if model is None else TASKS[task](model, *given, progress=report, **options))
    return Comparison(_input(photo, results[0]), *results)


def _input(photo, result: TaskResult) -> np.ndarray | None:
    if "input" in result.images:  # what was left of the photo
        return result.images["input"]
    return getattr(photo, "image", None)


def named(progress, who: str):
    """A progress callback that says which of the two models is at work."""
    if progress is None:
        return None
    return lambda report: progress(replace(report, stage=f"{who}: {report.stage}"))
