"""The heavy work as functions of plain CPU data, so that each of them may run on a borrowed GPU.

my3dgen is imported where it is used: the page answers before torch is loaded.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from my3dgen.progress import Progress, ProgressCallback
from my3dgen.studio import priors, stream
from my3dgen.studio.gpu import borrowed, in_slices, on_gpu

KEPT_MODELS = 8  # personalized priors kept ready in this process
_priors: dict[str, Any] = {}
_models: OrderedDict[int, tuple[Any, Any]] = OrderedDict()  # id(adapter) -> (adapter, personalized prior)
_lock = threading.RLock()  # of the tables; held for moments only
_loading: dict[str, threading.Lock] = {}  # one for each prior, held while it is loaded


@dataclass(frozen=True)
class FitOptions:
    """What a visitor can choose about a personalization."""

    prior: str  # name of an offered prior
    rank: int = 1  # rank of the low-rank pairs
    steps: int | None = None  # tuning steps; None = the prior's own default
    seed: int = 0  # of everything random in tuning
    symmetry: bool = False  # also ask the mirrored face to look like the face


@dataclass(frozen=True)
class Fit:
    """What comes out of one."""

    anchors: Any  # my3dgen's Anchors
    adapter: Any | None  # my3dgen's Adapter; None where it was stopped before tuning began
    seconds: dict[str, float]  # "project" and "personalize"
    identity: dict[str, float]  # "pretrained", "personalized", "photos"
    stopped: bool  # whether a visitor stopped it before its last step


class _StoppedHalfway(BaseException):  # no error: a visitor's wish on its way out of a task
    """A comparison was stopped before its second model began."""


class _Watch:
    """A progress callback that remembers whether the visitor has stopped the work."""

    def __init__(self, progress: ProgressCallback):
        self.progress, self.stopped = progress, False

    def __call__(self, report: Progress) -> bool:
        self.stopped = self.progress(report) is False or self.stopped
        return not self.stopped


def prior(name: str, progress: ProgressCallback | None = None) -> Any:
    """The prior of this name, loaded once; `progress` hears of a download. Loading one keeps nobody waiting who uses
    another."""
    with _lock:
        if name in _priors:
            return _priors[name]
        loading = _loading.setdefault(name, threading.Lock())
    with loading:
        if name not in _priors:
            import my3dgen

            _priors[name] = my3dgen.load_prior(priors.source(name), progress=progress)
        return _priors[name]


def personalized(name: str, adapter: Any) -> Any:
    """The prior of this name with an adapter, a light view that is kept for the next call.

    In a process that borrows a GPU nothing is kept: the next call brings another copy of the adapter, and whoever deletes
    their data cannot reach this one.
    """
    base = prior(name)
    if borrowed():
        return base.personalized(adapter)
    with _lock:
        kept = _models.pop(id(adapter), None)
        if kept is None:
            kept = (adapter, base.personalized(adapter))
        _models[id(adapter)] = kept
        while len(_models) > KEPT_MODELS:
            _models.popitem(last=False)
        return kept[1]


def forget(adapters: Sequence[int]) -> None:
    """Let go of somebody's adapters, given by their `id`."""
    with _lock:
        for adapter in adapters:
            _models.pop(adapter, None)


def prepare(
    photos: Sequence[str | bytes], progress: ProgressCallback | None = None, kind: str = "person"
) -> list[Any]:
    """Photos -> my3dgen Faces (needs no GPU). kind: "person" or "cat", as `kind_of` says of a prior."""
    import my3dgen

    return my3dgen.prepare(list(photos), progress=progress, kind=kind)


def terms(prior: str) -> str:
    """What using an offered prior means, a sentence to show before its first use; "" for our own."""
    from my3dgen.priors import releases

    return releases.terms(prior) if prior in releases.RELEASES else ""


def download(prior: str) -> str:
    """What has to be downloaded before an offered prior can be used, a sentence; "" where it is here."""
    from my3dgen.priors import releases

    if priors.installed(prior):
        return ""
    size = releases.release(prior).bytes
    words = f"{size / 1e6:.0f} MB" if size else "some hundred MB; its exact size is not known here"
    if releases.offline():
        return f"Its file ({words}) is not on this computer, and this server may not download anything."
    return f"Its file is not on this computer: the first use downloads it ({words})."


def kind_of(prior: str) -> tuple[str, str]:
    """What photos are for a prior by its offered name: the kind for `prepare`, and a sentence to show ("" for people)."""
    from my3dgen.faces.cats import NOTE
    from my3dgen.priors.releases import kind_of

    kind = kind_of(priors.source(prior))
    return kind, NOTE if kind == "cat" else ""


def compare_people(faces: list[Any]) -> list[Any]:
    """Warn where one photo seems to show someone else than the rest (prepare compares only what it gets)."""
    from my3dgen.faces.prepare import mark_strangers

    return mark_strangers(faces)


def fit(
    options: FitOptions, faces: list[Any], anchors: Any | None, stop_file: str
) -> Iterator[Progress | Fit]:
    """Project (unless anchors are given) and personalize; yields reports and at last a Fit."""
    yield from in_slices(_fit, options, faces, anchors, stop_file=stop_file)


def _fit(options: FitOptions, faces: list[Any], anchors: Any | None, progress: ProgressCallback) -> Fit:
    import my3dgen
    from my3dgen.personal.slices import clock

    watch = _Watch(progress)
    base, seconds, began = prior(options.prior, watch), {"project": 0.0, "personalize": 0.0}, clock()
    faces = my3dgen.with_mirrors(faces)
    if anchors is None:
        anchors = my3dgen.project(base, faces, progress=watch)
        seconds["project"] = clock() - began
    if watch.stopped:
        return Fit(anchors, None, seconds, {}, True)
    began = clock()
    tuning = replace(my3dgen.TuneOptions.for_prior(base), seed=options.seed, symmetry=options.symmetry)
    if options.steps:
        tuning = replace(tuning, steps=options.steps)
    adapter = my3dgen.personalize(base, faces, anchors, rank=options.rank, progress=watch, options=tuning)
    seconds["personalize"] = clock() - began
    # not `personalized`, which keeps what it makes: somebody who deletes their data meanwhile would be kept, too
    identity = likeness(base, base.personalized(adapter), faces, anchors)
    return Fit(anchors, adapter, seconds, identity, watch.stopped)


def full_fine_tuning(
    name: str, adapter: Any, faces: list[Any], stop_file: str | None
) -> Iterator[Progress | Any]:
    """Tune every weight to the photos of an adapter, from its anchors; yields reports and at last a prior, or None
    where it was stopped: half a training compares nothing."""
    yield from in_slices(_full_fine_tuning, name, adapter, faces, stop_file=stop_file)


def _full_fine_tuning(name: str, adapter: Any, faces: list[Any], progress: ProgressCallback) -> Any:
    import my3dgen

    watch = _Watch(progress)
    tuned = my3dgen.full_fine_tuning(
        prior(name, watch), my3dgen.with_mirrors(faces), adapter.anchors, progress=watch
    )
    # it may have to cross to a process without a GPU, which has its base
    return None if watch.stopped else replace(tuned, base=None).to("cpu")


def likeness(base: Any, mine: Any, faces: list[Any], anchors: Any) -> dict[str, float]:
    """How much each photo's reconstruction looks like the person's other photos, before and after."""
    from my3dgen.evaluation.reconstruction import to_other_photos

    return to_other_photos(base, mine, faces, anchors)


@on_gpu(60)
def views(
    name: str, adapter: Any, anchor: int, batches: Sequence[tuple[Sequence[float], Sequence[float]]]
) -> Iterator[dict[str, np.ndarray]]:
    """One anchor from several grids of cameras, batches of (yaws, pitches) in radians.

    Yields for each batch uint8 [P, Y, H, W, 3] for each of the two models.
    """
    import my3dgen

    ws = adapter.anchors.ws[anchor]
    models = {"pretrained": prior(name), "personalized": personalized(name, adapter)}
    for yaws, pitches in batches:
        yield {side: my3dgen.view_grid(model, ws, yaws, pitches) for side, model in models.items()}


def compare(
    task: str,
    name: str,
    adapter: Any,
    photo: Any,
    references: list[Any],
    options: dict[str, Any],
    stop_file: str | None,
) -> Iterator[Progress | Any]:
    """A task in both models; yields reports and at last my3dgen's Comparison, or None where it was stopped before
    the personalized model began: one model alone compares nothing.

    task: as `my3dgen.compare` names it. photo: what the task works on; None where it needs nothing.
    references: other photos of the person for the identity score (empty: the photo itself).
    """
    arguments = (task, name, adapter, photo, references, options)
    yield from in_slices(_compare, *arguments, stop_file=stop_file)


def _compare(
    task: str,
    name: str,
    adapter: Any,
    photo: Any,
    references: list[Any],
    options: dict[str, Any],
    progress: ProgressCallback,
) -> Any:
    import my3dgen

    def watch(report: Progress) -> bool | None:
        going = progress(report)
        if going is False and not report.stage.startswith(("personalized", "full")):
            raise _StoppedHalfway
        return going

    base, mine = prior(name, progress), personalized(name, adapter)
    known = references or None
    if "full" in options:
        options = options | {"full": replace(options["full"].to(base.device), base=base)}
    try:
        return my3dgen.compare(task, base, mine, photo, progress=watch, references=known, **options)
    except _StoppedHalfway:
        return None


@on_gpu(60)
def edited(
    name: str,
    adapter: Any,
    latents: dict[str, tuple[Any, Any]],
    attribute: str,
    strength: float,
    policy: str,
) -> dict[str, np.ndarray]:
    """Both models' fits of a photo, edited and rendered anew: uint8 [H, W, 3] by side.

    latents: (ws [L, w_dim], camera [25]) by side.
    """
    models = {"pretrained": prior(name), "personalized": personalized(name, adapter)}
    return {
        side: _edited(model, *latents[side], attribute, strength, policy) for side, model in models.items()
    }


def _edited(model: Any, ws: Any, camera: Any, attribute: str, strength: float, policy: str) -> np.ndarray:
    import torch

    from my3dgen.personal.images import to_uint8
    from my3dgen.tasks.edit import edited

    with torch.no_grad():
        return to_uint8(model.render(edited(model, ws, attribute, strength, policy), camera))


def region_mask(face: Any, region: str) -> np.ndarray:
    """A part of a face by name: bool [512, 512]."""
    from my3dgen.faces.regions import region_mask

    return region_mask(face, region)


@on_gpu(60)
def depths(
    name: str, adapter: Any, anchor: int, batches: Sequence[tuple[Sequence[float], Sequence[float]]]
) -> Iterator[dict[str, np.ndarray]]:
    """What `views` yields, as depth in colours."""
    ws = adapter.anchors.ws[anchor]
    draw = {
        "pretrained": _depth_of(prior(name), ws),
        "personalized": _depth_of(personalized(name, adapter), ws),
    }
    for yaws, pitches in batches:
        yield {
            side: np.stack([np.stack([picture(yaw, pitch) for yaw in yaws]) for pitch in pitches])
            for side, picture in draw.items()
        }


def _depth_of(model: Any, ws: Any) -> Callable[[float, float], np.ndarray]:
    """A function of yaw and pitch that draws a latent's depth; its planes are computed once."""
    import torch

    from my3dgen.tasks.export import depth_picture
    from my3dgen.tasks.look import front

    with torch.no_grad():
        planes = model.generator.planes(ws[None].to(model.device))
    return lambda yaw, pitch: depth_picture(model, ws, front(model, yaw, pitch), planes)


@on_gpu(60)
def export(
    name: str,
    adapter: Any,
    side: str,
    kinds: Sequence[str],
    folder: str,
    options: dict[str, Any],
    stop_file: str | None,
) -> Iterator[Progress | dict[str, str]]:
    """Files of one face; yields reports and at last {format: path}."""
    import my3dgen

    def work(progress: ProgressCallback) -> dict[str, str]:
        model = personalized(name, adapter) if side == "personalized" else prior(name)
        # The pretrained model knows nobody's anchors, so the latent is always handed over.
        ws = adapter.anchors.ws[options["anchor"]]
        made = my3dgen.export(model, ws=ws, formats=tuple(kinds), out=folder, progress=progress, **options)
        return {kind: str(path) for kind, path in made.items()}

    yield from stream.run(work, stop_file)


def side_by_side(path: str, left: Sequence[np.ndarray], right: Sequence[np.ndarray], fps: int) -> None:
    """An MP4 of two films of uint8 [H, W, 3] frames, pretrained and personalized, forth and back."""
    from my3dgen.tasks import video

    count = min(len(left), len(right))
    forth = video.side_by_side(list(left[:count]), list(right[:count]))
    video.write_video(path, [*forth, *forth[-2:0:-1]], fps=fps)
