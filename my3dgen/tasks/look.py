"""Look around: one face from many cameras, its planes computed once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from my3dgen.cameras import camera, look_at_sampler
from my3dgen.personal.images import to_uint8

# the published novel views (look-at sampler values; My3DGen's)
NOVEL_VIEWS = ((-0.35, 0.0), (0.35, 0.0), (0.0, -0.25), (0.0, 0.25))


@torch.no_grad()
def render_views(prior, ws: Tensor, cameras: Iterable[Tensor]) -> Iterable[np.ndarray]:
    """Pictures uint8 [H, W, 3] of one latent [L, w_dim] from each camera [25], one after the other."""
    prior.require_latent(ws)
    planes = prior.generator.planes(ws[None].to(prior.device))
    for c in cameras:
        out = prior.generator.synthesis(ws[None].to(prior.device), c[None].to(prior.device), planes=planes)
        yield to_uint8(out["image"])[0]


def render_view(prior, ws: Tensor, yaw: float = 0.0, pitch: float = 0.0) -> np.ndarray:
    """One picture uint8 [H, W, 3]; yaw and pitch in radians as `camera` takes them."""
    return next(iter(render_views(prior, ws, [front(prior, yaw, pitch)])))


def front(prior, yaw: float = 0.0, pitch: float = 0.0) -> Tensor:
    """A camera [25] about the prior's own pivot."""
    return camera(yaw, pitch, pivot=prior.config.camera_pivot)


def novel_views(prior, ws: Tensor) -> list[np.ndarray]:
    """The four published novel views of a latent [L, w_dim], uint8 [H, W, 3] each."""
    pivot = prior.config.camera_pivot
    return list(render_views(prior, ws, [look_at_sampler(y, p, pivot=pivot) for y, p in NOVEL_VIEWS]))


def view_grid(prior, ws: Tensor, yaws: Sequence[float], pitches: Sequence[float]) -> np.ndarray:
    """All views of a grid, uint8 [P, Y, H, W, 3]; radians, pitches along the first axis."""
    cameras = [front(prior, y, p) for p in pitches for y in yaws]
    views = np.stack(list(render_views(prior, ws, cameras)))
    return views.reshape(len(pitches), len(yaws), *views.shape[1:])
