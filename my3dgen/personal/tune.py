"""Personalization: train a low-rank view of the prior to show the photos from their anchors (My3DGen, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from my3dgen.cameras import look_at_sampler
from my3dgen.errors import My3DGenError, require_numbers, shown
from my3dgen.faces import Face
from my3dgen.models.eg3d import lora
from my3dgen.models.eg3d.generator import Generator
from my3dgen.models.eg3d.lora import LoraOptions
from my3dgen.models.identity import load_identity
from my3dgen.personal.adapter import Adapter
from my3dgen.personal.anchors import Anchors
from my3dgen.personal.device import half_pays, photos_at_once
from my3dgen.personal.images import to_uint8
from my3dgen.personal.objective import Objective, Targets, targets, usable
from my3dgen.personal.slices import Descent, drive
from my3dgen.priors import files
from my3dgen.priors.prior import Prior
from my3dgen.progress import ProgressCallback

# the earlier release trains with StyleGAN2's lazy-regularisation correction, always (k = 4/5)
LAZY = 4 / 5


@dataclass(frozen=True)
class TuneOptions:
    """How a person is learned. `for_prior` gives each prior's defaults."""

    steps: int = 1000  # optimisation steps
    batch: int = 4  # photos a step
    micro_batch: int = 4  # of these rendered at once; fewer take less memory and give the same step
    lr: float = 0.0025  # Adam's base rate, before the lazy-regularisation correction
    betas: tuple[float, float] = (0.0, 0.99**LAZY)  # Adam's
    decay: bool = False  # let the rate fall to a tenth (short runs); the release keeps it
    alpha: float = 1.0  # scale of the update is alpha / rank
    layout: str = "latest"  # LoRA layout of convolutions, "latest" or "v1"
    trainable: str = "release"  # "release" or "lowrank" (see LoraOptions)
    decoder: bool = False  # tune the decoder, too, as the paper's text says
    mse_weight: float = 1.0  # lambda_L2
    perceptual_weight: float = 1.0  # lambda_lpips
    symmetry: bool = False  # ask the mirrored view to be the same person (v1, section 3.3)
    symmetry_weight: float = 4.0  # lambda_sym
    symmetry_every: int = 4  # steps between its own optimiser steps
    background: float = 0.1  # weight of pixels outside the head
    half: bool = False  # super-resolution in bfloat16; the symmetry step stays in float32
    seed: int = 0

    def __post_init__(self):
        require_numbers(
            self,
            whole={"steps": 0, "batch": 1, "micro_batch": 1, "symmetry_every": 1, "seed": 0},
            real=dict.fromkeys(
                ("lr", "mse_weight", "perceptual_weight", "symmetry_weight", "background"), 0.0
            ),
        )
        if self.trainable not in ("release", "lowrank"):
            raise My3DGenError(
                f"trainable of TuneOptions is {shown(self.trainable)}; it must be release or lowrank (every weight is tuned "
                "by full_fine_tuning)."
            )

    @staticmethod
    def for_prior(prior) -> TuneOptions:
        """The release's settings, and a short, faster run for small priors."""
        if prior.small:
            return TuneOptions(steps=110, batch=2, lr=0.02, decay=True)
        together = photos_at_once(prior.device, prior.config.output_resolution)
        return TuneOptions(micro_batch=together, half=_half(prior))


def personalize(
    prior: Prior,
    faces: Sequence[Face],
    anchors: Anchors,
    rank: int = 1,
    progress: ProgressCallback | None = None,
    options: TuneOptions | None = None,
    resume: Adapter | None = None,
) -> Adapter:
    """Learn a person from photos and their anchors. The prior is not changed.

    Args:
        faces: as given to `project`; refused ones are skipped, as there.
        anchors: from `project`, one for each accepted face.
        rank: of the low-rank pairs.
        progress: called after every step; returning False stops and keeps what was learned.
        resume: an adapter of the same prior and options to go on from (its optimiser starts anew).

    Returns:
        The adapter, with the anchors inside.

    Raises:
        My3DGenError: where photos and anchors do not match, or `resume` does not fit.
    """
    o = options or TuneOptions.for_prior(prior)
    base = prior.base or prior
    chosen = LoraOptions(rank=rank, alpha=o.alpha, layout=o.layout, trainable=o.trainable, decoder=o.decoder)
    if resume is None:
        tensors = lora.initial_tensors(base.generator, chosen, seed=o.seed)
    else:
        base._require_match(resume)
        if resume.options != chosen:
            raise My3DGenError(
                f"the adapter to resume has {resume.options}, this run asks for {chosen}; use the same options"
            )
        tensors = {k: v.clone().to(base.device, torch.float32) for k, v in resume.tensors.items()}
    view = lora.view(base.generator, tensors, chosen, trainable=True)
    _train(base, view, _matched(base, faces, anchors, o), anchors.ws, o, progress, "personalize")
    return Adapter.from_view(view, base, chosen, anchors)


def full_fine_tuning(
    prior: Prior,
    faces: Sequence[Face],
    anchors: Anchors,
    progress: ProgressCallback | None = None,
    options: TuneOptions | None = None,
) -> Prior:
    """The baseline: everything but the mapping is tuned, on a copy.

    Returns it as a prior with the person's anchors, which tasks then span their hull with; no adapter results.
    """
    o = options or TuneOptions.for_prior(prior)
    view = _full_view(prior, o.seed)
    # a full copy moves much further at the same rate than a low-rank pair: the release's own rate
    o = replace(o, lr=min(o.lr, TuneOptions.lr))
    _train(prior, view, _matched(prior, faces, anchors, o), anchors.ws, o, progress, "full fine-tuning")
    return replace(prior, generator=view, adapter=None, base=prior.base or prior, anchors=anchors)


def pivotal_tuning(
    prior: Prior,
    face: Face,
    ws: Tensor,
    camera_: Tensor,
    steps: int,
    progress: ProgressCallback | None = None,
) -> Prior:
    """Tune a copy of everything but the mapping to one photo at a fixed latent (PTI).

    Adam 3e-4 as there, for all of the steps (PTI ends early, by LPIPS), on the loss of personalizing: MSE and perceptual
    distance at both resolutions, little of the background.

    Returns a prior of its own; the given one is unchanged.
    """
    view = _full_view(prior, 0)
    o = TuneOptions(steps=steps, batch=1, lr=3e-4 / LAZY, betas=(0.9, 0.999), half=_half(prior))
    t = targets(prior, [face], o.background)
    t = replace(t, cameras=camera_[None].to(prior.device))
    _train(prior, view, t, ws[None], o, progress, "tune")
    return replace(prior, generator=view, adapter=None, base=prior.base or prior)


def _half(prior: Prior) -> bool:
    """Whether fits of a prior compute super-resolution in bfloat16: priors of 512 px, as those were trained so."""
    return not prior.small and half_pays(prior.device)


def _full_view(prior: Prior, seed: int) -> Generator:
    everything = LoraOptions(trainable="full")
    source = prior.generator
    if prior.adapter is not None:  # start from the person's merged weights
        source = files.build(prior.config, lora.merge(prior.generator), prior.name).requires_grad_(False)
    return lora.view(source, lora.initial_tensors(source, everything, seed=seed), everything, trainable=True)


def _matched(prior: Prior, faces: Sequence[Face], anchors: Anchors, o: TuneOptions) -> Targets:
    faces = usable(faces)
    if not isinstance(anchors, Anchors):
        raise My3DGenError(f"Anchors are what `project` gives; got {shown(anchors)}.")
    if len(faces) != len(anchors.ws):
        raise My3DGenError(
            f"got {len(faces)} accepted photos and {len(anchors.ws)} anchors; project these photos first"
        )
    anchors.require_fit(prior)
    # the cameras as projection refined them
    return replace(targets(prior, faces, o.background), cameras=anchors.cameras.to(prior.device))


def _train(
    prior: Prior,
    view: Generator,
    t: Targets,
    ws: Tensor,
    o: TuneOptions,
    progress: ProgressCallback | None,
    stage: str,
) -> None:
    """Train a view's own tensors, in place."""
    drive(_Tuning(prior, view, t, ws.to(prior.device), o), stage, o.steps, progress)


class _Tuning(Descent):
    """Shuffled photos, MSE + perceptual at both resolutions, the symmetry step where asked."""

    def __init__(self, prior: Prior, view: Generator, t: Targets, ws: Tensor, o: TuneOptions):
        self.view, self.t, self.ws, self.o = view, t, ws, o
        self.objective = Objective(prior, o.perceptual_weight, o.mse_weight)
        self.parameters = list(lora.own_tensors(view).values())
        self.optimiser = torch.optim.Adam(self.parameters, lr=o.lr * LAZY, betas=o.betas, eps=1e-8)
        self.order: list[int] = []  # photos to come
        self.shuffle = np.random.default_rng(o.seed)
        self.last: Tensor | None = None

    def variables(self) -> dict[str, Tensor]:
        return lora.own_tensors(self.view)

    def random_state(self) -> dict:
        return {"shuffle": self.shuffle.bit_generator.state, "order": list(self.order)}

    def set_random_state(self, state: dict) -> None:
        self.shuffle.bit_generator.state, self.order = state["shuffle"], list(state["order"])

    def step(self, step: int) -> float:
        """One step of Adam on a batch of photos, and one for symmetry where it is due."""
        o = self.o
        if o.decay:
            fall = 0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * step / o.steps))
            for group in self.optimiser.param_groups:
                group["lr"] = float(o.lr * LAZY * fall)
        while len(self.order) < min(o.batch, len(self.t)):
            self.order += self.shuffle.permutation(len(self.t)).tolist()
        rows, self.order = self.order[: o.batch], self.order[o.batch :]
        total = self._descend(rows, self._loss)
        if o.symmetry and step % o.symmetry_every == 0:
            phase = _phase(self.shuffle)
            self._descend(
                rows, lambda some: o.symmetry_weight * _asymmetry(self.view, self.ws[some], phase), pictures=2
            )
        return total

    def _loss(self, rows: list[int]) -> Tensor:
        """[B]."""
        part = self.t.rows(rows)
        out = self.view.synthesis(self.ws[rows], part.cameras, half=self.o.half)
        self.last = out["image"][:1].detach()
        return self.objective.high(out["image"], part) + self.objective.low(out["image_raw"], part)

    def _descend(self, rows: list[int], loss: Callable[[list[int]], Tensor], pictures: int = 1) -> float:
        """One step of Adam down the mean of a loss [B] over photos, some of them at a time; returns that mean.

        pictures: that the loss renders for each photo.
        """
        self.optimiser.zero_grad(set_to_none=True)
        total, size = 0.0, max(self.o.micro_batch // pictures, 1)
        for some in (rows[i : i + size] for i in range(0, len(rows), size)):
            part = loss(some).sum() / len(rows)
            part.backward()
            total += float(part.detach())
        for p in self.parameters:
            if p.grad is not None:
                torch.nan_to_num(p.grad, nan=0.0, posinf=1e5, neginf=-1e5, out=p.grad)
        self.optimiser.step()
        return total

    def preview(self) -> np.ndarray:
        """uint8 [S, S, 3] of the last step's first photo."""
        return to_uint8(self.last)[0]


def symmetry_loss(generator: Generator, ws: Tensor, rng: np.random.Generator) -> Tensor:
    """1 - cosine between a view and the flipped opposite view (v1, section 3.3), on the aligned face.

    The pair is exactly mirrored (the release's is one frame off): yaw 0.35 sin, pitch 0.25 cos - 0.05 on a circle.
    """
    return _asymmetry(generator, ws, _phase(rng)).mean()


def _phase(rng: np.random.Generator) -> float:
    """Where on the circle a pair of views lies, radians."""
    return 2 * np.pi * rng.integers(0, 120) / 120


def _asymmetry(generator: Generator, ws: Tensor, phase: float) -> Tensor:
    """The symmetry loss [B] of latents [B, L, w_dim] for one pair of views."""
    yaw, pitch = 0.35 * np.sin(phase), -0.05 + 0.25 * np.cos(phase)
    identity = load_identity("loss", ws.device)
    planes = generator.planes(ws)
    embeddings = []
    for side in (1, -1):
        c = look_at_sampler(side * yaw, pitch, pivot=(0, 0, 0)).to(ws.device)[None].expand(len(ws), -1)
        image = generator.synthesis(ws, c, planes=planes)["image"]
        embeddings.append(identity.embed(image if side == 1 else image.flip(-1)))
    return 1 - (embeddings[0] * embeddings[1]).sum(1)
