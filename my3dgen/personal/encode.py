"""A first guess of w from a photo, and the ways in which fits move it from there, for priors that have an encoder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from my3dgen.assets import asset, assets_folder, opened
from my3dgen.errors import My3DGenError
from my3dgen.models.perceptual import load_trunk, require_trunk

FILE = "encoder.safetensors"
PARTS = ("weight", "bias", "ways", "spread")  # of that file


@lru_cache(maxsize=4)
def _encoder(prior_sha256: str) -> dict[str, Tensor] | None:
    """What was made for one prior: weight [w_dim, D], bias [w_dim], ways [w_dim, k], spread [k], and back [k, w_dim], the
    ways' pseudo-inverse; None for another prior."""
    if not (assets_folder() / FILE).exists():
        return None
    path = asset(FILE)
    with opened(FILE) as file:
        if (file.metadata() or {}).get("prior_sha256") != prior_sha256:
            return None
        require_trunk(path, file.metadata(), "encoder")
        missing = sorted(set(PARTS) - set(file.keys()))
        if missing:
            raise My3DGenError(
                f"{path} has no {', '.join(missing)}: it was made by an earlier version. Get today's assets, or make it "
                "anew with `python -m my3dgen.pretraining encoder`."
            )
        parts = {name: file.get_tensor(name).float() for name in PARTS}
    # once, and in double precision: solving for coordinates each time would round by where things lie in memory
    return parts | {"back": torch.linalg.pinv(parts["ways"].double()).float()}


@torch.no_grad()
def encode(prior, images: Tensor) -> Tensor | None:
    """Guess w [N, w_dim] of EG3D crops [N, 3, S, S] in [-1, 1]; None where this prior has no encoder."""
    encoder = _encoder(prior.sha256)
    if encoder is None:
        return None
    weight, bias = (encoder[name].to(images.device) for name in ("weight", "bias"))
    return load_trunk(images.device).describe(images) @ weight.T + bias


@dataclass(frozen=True, eq=False)
class Basis:
    """Coordinates y of latents in which fits move: w = mean + ways y, and what the ways do not span stays as it is."""

    mean: Tensor  # [w_dim]
    ways: Tensor | None  # [w_dim, k]; None: the axes of W
    back: Tensor | None  # [k, w_dim], their pseudo-inverse
    spread: Tensor | float  # [k], each coordinate's standard deviation among random faces; one number for all

    def coordinates(self, w: Tensor) -> Tensor:
        """y [..., k] of w [..., w_dim], or of the point nearest to it where the ways do not span W."""
        away = w - self.mean
        return away if self.back is None else away @ self.back.T

    def change(self, y: Tensor) -> Tensor:
        """What a change of coordinates [..., k] adds to w, [..., w_dim]."""
        return y if self.ways is None else y @ self.ways.T


def axes(prior) -> Basis:
    """The axes of W, as the published method moves along them, all with the same spread."""
    return Basis(prior.w_avg, None, None, prior.w_std / prior.config.w_dim**0.5)


def basis(prior) -> Basis | None:
    """Ways that suit this prior; None where it has no encoder.

    They are uncorrelated among random faces, and steps along them change the picture about equally much, whereas along
    the axes of W a few change it a lot and most hardly at all: Adam, which gives each variable its own rate, needs far
    fewer steps.

    Raises:
        My3DGenError: where the encoder's file is of an older layout.
    """
    encoder = _encoder(prior.sha256)
    if encoder is None:
        return None
    return Basis(prior.w_avg, *(encoder[name].to(prior.device) for name in ("ways", "back", "spread")))


class Latents:
    """Latents as a fit moves them: from where they started, along a basis."""

    def __init__(self, start: Tensor, along: Basis):
        """start: [w_dim], or [N, L, w_dim] with one latent a photo (L = 1) or one a layer as well."""
        self.start, self.along = start.detach(), along
        self._before = along.coordinates(self.start)
        self.moved = torch.zeros_like(self._before).requires_grad_(True)  # what the optimiser sees

    @property
    def w(self) -> Tensor:
        """Where they are now, shaped as the start."""
        return self.start + self.along.change(self.moved)

    def unlikely(self) -> Tensor:
        """How far from the mean face they are: the squares of their coordinates in units of the spread, summed.

        A random face has as many as there are coordinates. Several layers of a photo count as their mean.
        """
        far = ((self._before + self.moved) / self.along.spread).square().sum(-1)
        return far.mean(-1).sum() if far.ndim else far
