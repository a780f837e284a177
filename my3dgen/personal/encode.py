"""A first guess of w from a photo, for priors that have an encoder."""

from __future__ import annotations

from functools import lru_cache

import torch
from safetensors import safe_open
from torch import Tensor

from my3dgen.assets import asset
from my3dgen.errors import My3DGenError
from my3dgen.models.perceptual import load_trunk


@lru_cache(maxsize=4)
def _head(prior_sha256: str) -> tuple[Tensor, Tensor] | None:
    """Linear head bound to one prior: weight [w_dim, D], bias [w_dim]; None for another prior."""
    try:
        path = asset("encoder.safetensors")
    except My3DGenError:
        return None
    with safe_open(path, "pt") as file:
        if (file.metadata() or {}).get("prior_sha256") != prior_sha256:
            return None
        return file.get_tensor("weight").float(), file.get_tensor("bias").float()


@torch.no_grad()
def encode(prior, images: Tensor) -> Tensor | None:
    """Guess w [N, w_dim] of EG3D crops [N, 3, S, S] in [-1, 1]; None where this prior has no encoder."""
    head = _head(prior.sha256)
    if head is None:
        return None
    weight, bias = (x.to(images.device) for x in head)
    return load_trunk(images.device).describe(images) @ weight.T + bias
