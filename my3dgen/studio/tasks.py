"""The tasks: each on the pretrained and the personalized model, with what a client sent checked here."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from my3dgen.errors import MOST, My3DGenError, number, whole
from my3dgen.progress import Progress
from my3dgen.studio import compute, task_photo
from my3dgen.studio.figures import FULL, SIDES
from my3dgen.studio.jobs import digest, forget_stop, one_of, reports, running
from my3dgen.studio.pictures import png
from my3dgen.studio.service import MOST_STEPS
from my3dgen.studio.session import Model, Session

REGIONS = ("centre", "eyes", "nose", "mouth", "lower face")
ATTRIBUTES = ("smile", "age", "beard", "hair_dark")
POLICIES = ("project", "stop", "continue")
RULES = ("dirichlet", "three")
SMALLEST, LARGEST, REDUCED = 16, 256, 32  # sides super-resolution reduces a photo to, the last by itself
MOST_STRENGTH = 2.0
MOST_LOOKS = 16
FRAMES = (2, 60)  # pictures of an interpolation
STOPPED_HALFWAY = "The personalized model had not begun, so there is nothing to compare."


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a task made."""

    task: str  # as my3dgen.compare names it
    comparison: Any  # my3dgen's Comparison
    report: dict[str, Any]  # the JSON of the endpoint
    stopped: bool  # whether the visitor stopped it before its last step
    note: str = ""  # of a result made beforehand: HTML that says so

    @property
    def ready(self) -> bool:
        """Whether it was made beforehand."""
        return bool(self.note)

    @property
    def bytes(self) -> int:
        """How much memory its pictures take."""
        pictures = (chain(result.images.values(), result.frames) for result in self.sides.values())
        return sum(picture.nbytes for picture in chain.from_iterable(pictures))

    @property
    def sides(self) -> dict[str, Any]:
        """The TaskResults, pretrained first; a third one where full fine-tuning was asked for."""
        return _sides(self.comparison)

    @property
    def common_frames(self) -> dict[str, tuple[np.ndarray, ...]]:
        """Every side's frames, as many as all sides have: one may have been stopped early."""
        count = min(len(result.frames) for result in self.sides.values())
        return {side: result.frames[:count] for side, result in self.sides.items()}

    def figure(self, name: str) -> dict[str, float]:
        """One figure of every side."""
        return {side: float(result.figures[name]) for side, result in self.sides.items()}


def _sides(comparison: Any) -> dict[str, Any]:
    found = {side: getattr(comparison, side, None) for side in (*SIDES, *FULL)}
    return {side: result for side, result in found.items() if result is not None}


@dataclass(frozen=True)
class Missing:
    """A task that made nothing."""

    task: str  # as my3dgen.compare names it
    reason: str  # a sentence for the visitor
    stopped: bool  # whether the visitor stopped it; otherwise it failed


Event = Progress | Outcome | Missing  # what a task yields; one Outcome or Missing at last
Subject = tuple[Any, dict[str, Any]]  # what a task works on, and options that are too large to write down


def invert(
    session: Session,
    model: Model,
    photo: str | None,
    steps: float | None,
    tuning_steps: float | None,
    stop_file: str | None = None,
) -> Iterator[Event]:
    """A new photo rebuilt.

    stop_file: of the job that this is a part of; None, here and in the other tasks: it is a job of its own, named after the task.
    """
    options = {"steps": _steps(steps)}
    options["tuning_steps"] = whole("tuning steps", tuning_steps or 0, 0, MOST_STEPS)
    key = task_photo.digest(session, photo)
    yield from _compare(session, model, "invert", key, options, _face(session, model, photo), stop_file)


def inpaint(
    session: Session,
    model: Model,
    photo: str | None,
    mask: np.ndarray | str | None,
    region: str | None,
    steps: float | None,
    stop_file: str | None = None,
) -> Iterator[Event]:
    """Part of a photo painted anew. mask: one painted on the crop, or the path of a picture, which may as well
    have the photo's size; None: the region."""
    options: dict[str, Any] = {
        "steps": _steps(steps),
        "region": one_of("region", region or REGIONS[0], REGIONS),
    }
    key = task_photo.digest(session, photo)
    if isinstance(mask, str):
        key += task_photo.digest(session, mask)
    elif mask is not None:
        key += hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()

    def read() -> Subject:
        face = task_photo.face(session, photo, model.prior)
        return face, {"mask": task_photo.mask_on_crop(face, mask) if isinstance(mask, str) else mask}

    yield from _compare(session, model, "inpaint", key, options, read, stop_file)


def upscale(
    session: Session,
    model: Model,
    photo: str | None,
    size: float | None,
    steps: float | None,
    stop_file: str | None = None,
) -> Iterator[Event]:
    """A small photo sharpened. size: reduce the photo's crop to so many pixels first; 0: where it is not small itself."""
    options: dict[str, Any] = {"steps": _steps(steps), "size": None}
    if size:
        options["size"] = whole("size", size, SMALLEST, LARGEST)
    key = task_photo.digest(session, photo)
    # What is small itself is read by the task: it may be too small to find a face in.
    read = _face(session, model, photo) if size else lambda: (photo, {})
    yield from _compare(session, model, "upscale", key, options, read, stop_file)


def interpolate(
    session: Session,
    model: Model,
    start: str | int | None,
    end: str | int | None,
    steps: float,
    stop_file: str | None = None,
) -> Iterator[Event]:
    """From one face to another. start and end: photos, or anchors by number; None for both: the two anchors
    that are farthest apart."""
    if (start is None) != (end is None):
        raise My3DGenError("Only one end of the way was given; choose both, or none.")
    options = {"steps": whole("steps", steps, *FRAMES)}
    keys = [_end_key(session, model, value) for value in (start, end)]

    def read() -> Subject:
        ends = [
            task_photo.face(session, value, model.prior)
            if isinstance(value, str)
            else (None if value is None else int(value))
            for value in (start, end)
        ]
        return None, {"start": ends[0], "end": ends[1]}

    yield from _compare(session, model, "interpolate", keys, options, read, stop_file)


def _end_key(session: Session, model: Model, value: str | int | None) -> str:
    """A name for an end of the way: a photo, or an anchor by number."""
    if value is None:
        return ""
    if isinstance(value, str):
        return task_photo.digest(session, value)
    return f"anchor {whole('anchor', value, 0, len(model.adapter.anchors.ws) - 1)}"


def synthesize(
    session: Session,
    model: Model,
    count: float,
    seed: float,
    rule: str | None,
    strength: float,
    stop_file: str | None = None,
) -> Iterator[Event]:
    """New looks of the person."""
    options = look_options(count, seed, rule, strength)
    yield from _compare(session, model, "synthesize", "", options, lambda: (None, {}), stop_file)


def look_options(count: float, seed: float, rule: str | None, strength: float) -> dict[str, Any]:
    """Check what was asked of `synthesize`."""
    return {
        "count": whole("count", count, 1, MOST_LOOKS),
        "seed": whole("seed", seed, 0, MOST),
        "rule": one_of("rule", rule or RULES[0], RULES),
        "strength": number("strength", strength, 0.0, 1.0),
    }


def edit(
    session: Session,
    model: Model,
    photo: str | None,
    attribute: str | None,
    strength: float,
    policy: str | None,
    steps: float | None,
    stop_file: str | None = None,
) -> Iterator[Event]:
    """A photo rebuilt and changed along an attribute."""
    options = {
        "attribute": one_of("attribute", attribute or ATTRIBUTES[0], ATTRIBUTES),
        "strength": number("strength", strength, -MOST_STRENGTH, MOST_STRENGTH),
        "policy": one_of("policy", policy or POLICIES[0], POLICIES),
        "steps": _steps(steps),
    }
    key = task_photo.digest(session, photo)
    yield from _compare(session, model, "edit", key, options, _face(session, model, photo), stop_file)


def edited(
    model: Model, outcome: Outcome, attribute: str, strength: float, policy: str
) -> dict[str, np.ndarray]:
    """The pictures of another strength or attribute, without a new fit: uint8 [H, W, 3] by side.

    outcome: of `edit` with strength 0, so that its latents are the photo's own.
    """
    latents = {side: (result.ws, result.camera) for side, result in outcome.sides.items()}
    return compute.edited(
        model.prior,
        model.adapter,
        latents,
        one_of("attribute", attribute, ATTRIBUTES),
        number("strength", strength, -MOST_STRENGTH, MOST_STRENGTH),
        one_of("policy", policy, POLICIES),
    )


def tune_fully(session: Session, model: Model, job: str) -> Generator[Progress, None, Any]:
    """Every weight tuned to the model's photos, once a session; yields reports and returns a prior, or None where the
    visitor stopped it.

    job: what a stop button would stop.
    """
    if not model.faces:
        raise My3DGenError(
            "Full fine-tuning needs the photos that the model was made from, and this one came as a file; leave it out."
        )
    if (kept := session.full.get(model.id)) is None:
        with running(session, job) as stop_file:
            arguments = (model.prior, model.adapter, list(model.faces))
            kept = yield from reports(session, compute.full_fine_tuning(*arguments, stop_file))
        if kept is not None:
            session.remember_full(model.id, kept)
    return kept


def _face(session: Session, model: Model, photo: str | None) -> Callable[[], Subject]:
    """What `_compare` reads where a task needs one photo's face and nothing else."""
    return lambda: (task_photo.face(session, photo, model.prior), {})


def _steps(value: float | None) -> int | None:
    return whole("steps", value or 0, 0, MOST_STEPS) or None


def _compare(
    session: Session,
    model: Model,
    task: str,
    subject_key: Any,
    options: dict[str, Any],
    read: Callable[[], Subject],
    stop_file: str | None,
) -> Iterator[Event]:
    """Run a task in both models, unless this session has asked the same before.

    stop_file: of the job that this is a part of; None: it is one itself.
    subject_key: a name for what `read` returns. `read` is called once the visitor can stop it: finding the face in
        a photo takes its time.
    """
    key = digest(task, model.id, subject_key, options, model.full is not None)
    if (kept := session.results.get(key)) is not None:
        if stop_file is None:
            forget_stop(session, task)  # nothing is left that it could be meant for
        yield kept
        return
    job = running(session, task) if stop_file is None else nullcontext(stop_file)
    with job as stop_file:
        photo, heavy = read()
        comparison = None
        if not Path(stop_file).exists():
            third = {} if model.full is None else {"full": model.full}
            arguments = (model.prior, model.adapter, photo, list(model.faces), options | heavy | third)
            comparison = yield from reports(session, compute.compare(task, *arguments, stop_file))
        stopped = Path(stop_file).exists()
    if comparison is None:
        yield Missing(task, STOPPED_HALFWAY, True)
        return
    outcome = Outcome(task, comparison, _report(comparison, model.prior), stopped)
    if not stopped:
        session.remember_result(key, outcome)
    yield outcome


def _report(comparison: Any, prior: str) -> dict[str, Any]:
    """The JSON of a task: figures of both models, and lists such as the scores along a slider."""
    report: dict[str, Any] = {"prior": prior, "networks": comparison.pretrained.networks}
    for side, result in _sides(comparison).items():
        report[side] = {name: _plain(value) for name, value in (result.figures | result.extra).items()}
    return report


def _plain(value: Any) -> Any:
    """A value as JSON takes it, with four digits."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(each) for each in value]
    if isinstance(value, (float, np.floating)):
        return round(float(value), 4) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def archive(
    session: Session, outcomes: list[Outcome], name: str, more: Mapping[str, bytes] | None = None
) -> str:
    """A ZIP of everything the tasks made (input, pictures and frames of both models, figures, `more` files by
    name); returns its path. It takes the place of the task's last one: a slider would fill the disk."""
    path = session.new_path(f"my3dgen-{name}.zip")
    with zipfile.ZipFile(path, "w") as file:
        for outcome in outcomes:
            folder = f"{outcome.task}/" if len(outcomes) > 1 else ""
            if outcome.comparison.input is not None:
                file.writestr(f"{folder}input.png", png(outcome.comparison.input))
            for side, result in outcome.sides.items():
                pictures = result.images | {f"frame_{i:02d}": each for i, each in enumerate(result.frames)}
                for picture, pixels in pictures.items():
                    file.writestr(f"{folder}{side}/{picture}.png", png(pixels))
            file.writestr(f"{folder}figures.json", json.dumps(outcome.report, indent=2))
        for entry, content in (more or {}).items():
            file.writestr(entry, content)
    session.keep_newest(f"{name} archive", [path], most=2)  # somebody may still be fetching the one before
    return path
