"""Editing directions of a prior: which way in W leads to more smile or more years.

InterFaceGAN (Shen et al. 2020), restated for few samples: random latents are rendered and scored, the highest and
the lowest scores are two classes, and a linear SVM separates them. It works on whitened latents, w = mean + S x
with cov(x) = I. There the SVM's unit normal n says how an attribute is read off a latent, and S n is the most likely
change of w that comes with one standard deviation of it; in plain W the normal would favour latents that hardly
ever occur. Attributes that should stay are projected out of n (their section 3.2).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from my3dgen.assets import assets_folder, opened
from my3dgen.cameras import camera
from my3dgen.errors import My3DGenError
from my3dgen.models.attributes import load_attributes
from my3dgen.models.perceptual import DESCRIPTION, load_trunk
from my3dgen.personal.slices import Descent, drive
from my3dgen.priors.catalogue import cache_folder
from my3dgen.priors.files import write_safetensors
from my3dgen.priors.prior import Prior
from my3dgen.progress import Progress, ProgressCallback

FILE, FORMAT, VERSION = "directions.safetensors", "my3dgen-directions", "1"
# what can be edited, and which other attributes must not come along. Grey hair may come with age.
KEPT = {
    "smile": ("age", "beard", "hair_dark"),
    "age": ("smile", "beard"),
    "beard": ("smile", "age", "hair_dark"),
    "hair_dark": ("smile", "age", "beard"),
}
NAMES = tuple(KEPT)
# standard deviations that strength 1 goes; one of age is hardly to be seen
REACH = {"smile": 1.0, "age": 1.8, "beard": 1.0, "hair_dark": 1.0}


@dataclass(frozen=True)
class DirectionOptions:
    """How directions are found."""

    samples: int = 1200  # latents that are rendered and scored
    share: float = 0.3  # of them in each of the two classes (InterFaceGAN: 0.02 of half a million)
    regularisation: float = 0.2  # of the SVM, on unit-variance latents; strong: samples are few
    spread: int = 10_000  # latents that are only mapped, for the mean and the covariance
    floor: float = 1e-2  # directions of W with less than this share of the largest variance are left out
    batch: int = 4  # rendered at once
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Direction:
    """One attribute's direction in W. Strength 1 is `REACH` standard deviations of the attribute among random faces."""

    normal: Tensor  # [w_dim], length 1: the way to go
    scale: float  # how far strength 1 goes along it
    probe: Tensor  # [w_dim]: probe . (w1 - w0) is how many strengths apart two latents are

    @property
    def step(self) -> Tensor:
        """[w_dim], what strength 1 adds to w; probe . step = 1."""
        return self.normal * self.scale


@dataclass(frozen=True, eq=False)
class Whitening:
    """w - mean = to_w x, x = to_x (w - mean), and x has unit covariance."""

    mean: Tensor  # [w_dim]
    to_x: Tensor  # [k, w_dim]
    to_w: Tensor  # [w_dim, k]


log = logging.getLogger(__name__)
_known: dict[str, dict[str, Direction]] = {}  # by the prior's hash
WAIT_SECONDS = 0.5  # between two reports of who waits for another's search
STOPPED = "finding the editing directions was stopped; start it again to edit"
_counting = threading.Lock()
# by the prior's SHA-256: requests that arrive together wait for one search
_searching: dict[str, threading.Lock] = {}


def directions(
    prior: Prior,
    names: Iterable[str] | None = None,
    progress: ProgressCallback | None = None,
    options: DirectionOptions | None = None,
) -> dict[str, Direction]:
    """Editing directions of a prior; of a personalized one, those of the prior it is a view of.

    They are shipped for `heads`, whose z is known: there the classes are the truth. For another prior they are
    found at first use (as many renders as `DirectionOptions.samples`: minutes for a small prior or on a GPU, hours
    with FFHQ on a CPU) and kept in the user's cache folder.

    Args:
        names: of `NAMES`; None for all.
        progress: called while latents are rendered; returning False stops, and there are no directions then.
        options: find them anew with these and keep nothing.

    Raises:
        My3DGenError: for an unknown name, or where the search was stopped.
    """
    names = list(NAMES if names is None else names)
    for name in names:
        if name not in KEPT:
            raise My3DGenError(f"no attribute {name!r} to edit; the attributes are {', '.join(NAMES)}")
    base = prior.base or prior
    if base.kind != "person":
        raise My3DGenError(
            f"{', '.join(NAMES)} are attributes of people's faces; the prior {base.name!r} knows no people, so nothing "
            "of them can be edited."
        )
    if options:
        found = find(base, options, progress)
        return {name: found[name] for name in names}
    found = _kept(base)
    if found is None:
        with _alone(base, progress):
            found = _kept(base) or _search(base, progress)  # somebody else's search may have ended meanwhile
    return {name: found[name] for name in names}


def _kept(prior: Prior) -> dict[str, Direction] | None:
    """Directions of this very prior that need no search."""
    if prior.sha256 not in _known and (found := _stored(prior)) is not None:
        _known[prior.sha256] = found
    return _known.get(prior.sha256)


def _search(prior: Prior, progress: ProgressCallback | None) -> dict[str, Direction]:
    """Find directions and keep them."""
    found = _known[prior.sha256] = find(prior, None, progress)
    try:
        save(cache_folder() / "directions" / f"{prior.sha256[:32]}.safetensors", prior, found)
    except My3DGenError as error:  # they serve this process all the same
        log.warning("The editing directions are not kept: %s (MY3DGEN_CACHE names it.)", error)
    return found


@contextmanager
def _alone(prior: Prior, progress: ProgressCallback | None) -> Iterator[None]:
    """One search a prior at a time; whoever waits for another's can be stopped."""
    with _counting:
        lock = _searching.setdefault(prior.sha256, threading.Lock())
    while not lock.acquire(timeout=WAIT_SECONDS):
        if progress is not None and progress(Progress("directions", 0, 1, None)) is False:
            raise My3DGenError(STOPPED)
    try:
        yield
    finally:
        lock.release()


def _stored(prior: Prior) -> dict[str, Direction] | None:
    """Directions of this very prior from `assets/` or from the cache folder."""
    found = None
    if (assets_folder() / FILE).exists():  # other priors do without; one that is damaged says so
        with opened(FILE) as file:
            found = _of(prior, file)
    if found is None:
        path = cache_folder() / "directions" / f"{prior.sha256[:32]}.safetensors"
        # not there, or half a file: found anew
        with suppress(OSError, SafetensorError), safe_open(path, "pt") as file:
            found = _of(prior, file)
    return found


def _of(prior: Prior, file: Any) -> dict[str, Direction] | None:
    """The directions in an open file, where it is whole and this very prior's."""
    metadata = file.metadata() or {}
    if metadata.get("format") != FORMAT or metadata.get("prior_sha256") != prior.sha256:
        return None
    rows = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (not a dict)
    if any(rows.get(f"{n}.{k}") is None for n in NAMES for k in ("step", "probe")):
        return None
    return {n: _direction(rows[f"{n}.step"], rows[f"{n}.probe"]) for n in NAMES}


def save(path: str | Path, prior: Prior, found: Mapping[str, Direction]) -> None:
    """Write directions, bound to their prior's SHA-256."""
    rows = {}
    for name, d in found.items():
        rows[f"{name}.step"], rows[f"{name}.probe"] = d.step.contiguous(), d.probe.contiguous()
    write_safetensors(Path(path), rows, {"format": FORMAT, "version": VERSION, "prior_sha256": prior.sha256})


def _direction(step: Tensor, probe: Tensor) -> Direction:
    step, probe = step.float(), probe.float()
    scale = float(step.norm())
    return Direction(step / scale, scale, probe)


def sample_z(prior: Prior, count: int, seed: int) -> Tensor:
    """Random inputs [count, z_dim] of the mapping network, mean square 1 as it normalises them itself."""
    z = np.random.default_rng(seed).standard_normal((count, prior.config.z_dim))
    return torch.from_numpy(z / np.sqrt((z**2).mean(1, keepdims=True))).float()


@torch.no_grad()
def map_z(prior: Prior, z: Tensor) -> Tensor:
    """z [N, z_dim] -> w [N, w_dim] at the frontal camera."""
    front = camera(0, 0, pivot=prior.config.camera_pivot).to(prior.device)
    parts = [
        prior.generator.mapping(part.to(prior.device), front.expand(len(part), -1))[:, 0]
        for part in z.split(1000)
    ]
    return torch.cat(parts).cpu()


def describe_renders(
    prior: Prior, w: Tensor, o: DirectionOptions, progress: ProgressCallback | None = None
) -> Tensor:
    """The trunk's descriptions [N, D] of front views of w [N, w_dim].

    Raises:
        My3DGenError: where the callback asked to stop.
    """
    looking, batches = _Looking(prior, w, o), -(-len(w) // o.batch)
    drive(looking, "directions", batches, progress)
    if not looking.seen.all():
        raise My3DGenError(STOPPED)
    return looking.features


class _Looking(Descent):
    """Renders random faces batch by batch; there is nothing to descend, but it takes long and pauses as fits do."""

    def __init__(self, prior: Prior, w: Tensor, o: DirectionOptions):
        self.prior, self.w, self.o = prior, w, o
        self.rng = torch.Generator()
        self.front = camera(0, 0, pivot=prior.config.camera_pivot).to(prior.device)[None]
        self.trunk = load_trunk(prior.device)
        self.features = torch.zeros(len(w), DESCRIPTION)
        self.seen = torch.zeros(len(w), dtype=torch.bool)  # which faces were looked at

    def variables(self) -> dict[str, Tensor]:
        return {"features": self.features, "seen": self.seen}

    @torch.no_grad()
    def step(self, step: int) -> float:
        """Describe one batch; there is no loss."""
        rows = slice(step * self.o.batch, (step + 1) * self.o.batch)
        ws = self.w[rows, None].expand(-1, self.prior.num_ws, -1).to(self.prior.device)
        image = self.prior.generator.synthesis(ws, self.front)["image"]
        self.features[rows], self.seen[rows] = self.trunk.describe(image).cpu(), True
        return float("nan")

    def preview(self) -> None:
        """Nothing: these are strangers' faces, and who waits is to see their own."""


def find(
    prior: Prior, options: DirectionOptions | None = None, progress: ProgressCallback | None = None
) -> dict[str, Direction]:
    """Sample, render, score and separate; the same prior and options give the same directions."""
    o = options or DirectionOptions()
    w = map_z(prior, sample_z(prior, o.samples, o.seed))
    features = describe_renders(prior, w, o, progress)
    return separate(prior, w, load_attributes().read(features), o)


def separate(
    prior: Prior, w: Tensor, scores: Mapping[str, Tensor], o: DirectionOptions
) -> dict[str, Direction]:
    """Directions from latents [N, w_dim] and how much of each attribute [N] they show."""
    white = whitening(map_z(prior, sample_z(prior, o.spread, o.seed + 1)), o.floor)
    x = (w.double() - white.mean) @ white.to_x.T
    normals = {name: svm(*_extremes(x, scores[name], o.share), o.regularisation) for name in NAMES}
    out = {}
    for name, others in KEPT.items():
        n = _without(normals[name], [normals[k] for k in others])
        out[name] = _direction(REACH[name] * (white.to_w @ n), white.to_x.T @ n / REACH[name])
    return out


def whitening(w: Tensor, floor: float) -> Whitening:
    """Mean and whitening maps of latents [N, w_dim], in double precision."""
    w = w.double()
    values, vectors = torch.linalg.eigh(w.T.cov())
    keep = values > floor * values[-1]
    values, vectors = values[keep].sqrt(), vectors[:, keep]
    return Whitening(w.mean(0), (vectors / values).T, vectors * values)


def _extremes(x: Tensor, scores: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The rows with the highest (+1) and the lowest (-1) scores."""
    order, count = scores.argsort(stable=True), max(round(share * len(x)), 1)
    rows = torch.cat([order[-count:], order[:count]])
    return x[rows], torch.cat([torch.ones(count), -torch.ones(count)]).double()


def svm(x: Tensor, y: Tensor, regularisation: float) -> Tensor:
    """Unit normal [k] of the linear SVM (squared hinge) that separates x [N, k] with labels y = +-1."""
    weight = torch.zeros(x.shape[1] + 1, dtype=torch.float64, requires_grad=True)  # the last is the offset
    optimiser = torch.optim.LBFGS([weight], max_iter=200, tolerance_grad=1e-8, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        margin = y * (x @ weight[:-1] + weight[-1])
        value = (1 - margin).clamp(min=0).square().mean() + regularisation * weight[:-1].square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    normal = weight.detach()[:-1]
    return normal / normal.norm()


def _without(normal: Tensor, others: list[Tensor]) -> Tensor:
    """The part of a unit vector that is orthogonal to all others, length 1 again."""
    basis, _ = torch.linalg.qr(torch.stack(others, 1))
    rest = normal - basis @ (basis.T @ normal)
    return rest / rest.norm()
