"""A first guess of w from a photo, and the ways in which fits move it from there, for priors that have an encoder."""

from __future__ import annotations

from functools import lru_cache

import torch
from safetensors import safe_open
from torch import Tensor

from my3dgen.assets import asset
from my3dgen.errors import My3DGenError
from my3dgen.models.perceptual import load_trunk


@lru_cache(maxsize=4)
def _encoder(prior_sha256: str) -> dict[str, Tensor] | None:
    """What was made for one prior: weight [w_dim, D], bias [w_dim], basis [w_dim, w_dim]; None for another prior."""
    try:
        path = asset("encoder.safetensors")
    except My3DGenError:
        return None
    with safe_open(path, "pt") as file:
        if (file.metadata() or {}).get("prior_sha256") != prior_sha256:
            return None
        return {name: file.get_tensor(name).float() for name in ("weight", "bias", "basis")}


@torch.no_grad()
def encode(prior, images: Tensor) -> Tensor | None:
    """Guess w [N, w_dim] of EG3D crops [N, 3, S, S] in [-1, 1]; None where this prior has no encoder."""
    encoder = _encoder(prior.sha256)
    if encoder is None:
        return None
    weight, bias = (encoder[name].to(images.device) for name in ("weight", "bias"))
    return load_trunk(images.device).describe(images) @ weight.T + bias


def basis(prior) -> Tensor | None:
    """Columns [w_dim, w_dim]: the ways in which fits move w; None where this prior has no encoder.

    Its steps change the picture about equally much, whereas along the axes of W a few change it a lot and most hardly
    at all: Adam, which gives each variable its own rate, comes within some 5% of the same loss in a tenth of the steps.
    """
    encoder = _encoder(prior.sha256)
    return None if encoder is None else encoder["basis"].to(prior.device)


class Latents:
    """Latents as a fit moves them: from where they started, along a basis."""

    def __init__(self, start: Tensor, ways: Tensor | None):
        """start: [..., w_dim]. ways: of `basis`; None moves along the axes of W."""
        self.start, self.ways = start.detach(), ways
        self.moved = torch.zeros_like(self.start).requires_grad_(True)  # what the optimiser sees

    @property
    def w(self) -> Tensor:
        """Where they are now, [..., w_dim]."""
        return self.start + (self.moved if self.ways is None else self.moved @ self.ways.T)
