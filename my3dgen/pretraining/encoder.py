"""What makes projections short: a linear head that guesses w from a photo, and a basis in which to move w on.

The head reads the perceptual trunk's features (ridge regression). The basis comes from how w varies among random faces
and from how much pictures change with it: the mean Gauss-Newton matrix of the loss that fits use, estimated by random probes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from my3dgen.errors import My3DGenError
from my3dgen.faces.align import Placement, place
from my3dgen.models.perceptual import TRAINED_AT, load_perceptual, load_trunk, trunk_sha256
from my3dgen.personal.directions import map_z, sample_z, whitening
from my3dgen.pretraining.people_data import Shards
from my3dgen.pretraining.shading import WALL
from my3dgen.priors.files import write_safetensors


@dataclass(frozen=True)
class EncoderOptions:
    """Fit of the head, and measurement of the ways. Both are bound to one prior and made anew with it."""

    data: str = "data/train"  # shards
    out: str = "assets/encoder.safetensors"
    views: int = 8000  # pictures to fit on
    ridge: float = 30.0  # strength of the regularisation
    probes: int = 1200  # random probes of how the loss curves
    damping: float = 0.05  # curvature that is added to all, in units of the mean
    samples: int = 10_000  # random latents behind the covariance of w
    floor: float = 1e-3  # ways of W with less than this share of the largest variance are left out
    power: float = 0.25  # steps are curvature ** -power long: 0.5 would whiten a loss that is quadratic
    seed: int = 0


def as_cropped(image: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A drawn view [S, S, 3] as `prepare` would crop it, with a landmark finder's errors; uint8 [96, 96, 3]."""
    side = 4 * TRAINED_AT  # larger first, then averaged: warping alone would leave pixels out
    crop = place(landmarks + rng.normal(0, 0.6, (1, 2)), side)
    zoom = rng.uniform(0.98, 1.02)  # about the crop's middle
    matrix = Placement(
        crop.scale * zoom, tuple(side / 2 + zoom * (np.array(crop.offset) - side / 2))
    ).matrix()
    large = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return cv2.resize(large, (TRAINED_AT, TRAINED_AT), interpolation=cv2.INTER_AREA)


@torch.no_grad()
def train(prior, o: EncoderOptions) -> dict[str, float]:
    """Fit the head, measure the ways, and write both. Returns the share of w's variance that the head explains in
    views of people left out."""
    rng = np.random.default_rng(o.seed)
    shards, trunk = Shards(o.data), load_trunk()
    if any(len(shard["z"]) < 2 for shard in shards.data):
        raise My3DGenError(
            f"a shard in {o.data} holds one person; two or more are needed, as some are left out"
        )
    features, targets, held = [], [], o.views // 10
    for start in range(0, o.views, 50):
        rows = []
        for _ in range(min(50, o.views - start)):
            shard = shards.data[rng.integers(len(shards.data))]
            known = len(shard["z"]) - max(1, len(shard["z"]) // 10)  # a tenth of a shard's people is left out
            who = (known, len(shard["z"])) if start + len(rows) < held else (0, known)
            rows.append((shard, rng.integers(*who), rng.integers(shard["camera"].shape[1])))
        crops = np.stack([as_cropped(s["image"][i, v], s["landmarks"][i, v], rng) for s, i, v in rows])
        features.append(trunk.describe(torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 127.5 - 1))
        z = torch.from_numpy(np.stack([s["z"][i] for s, i, _ in rows]))
        targets.append(prior.generator.mapping(z, None)[:, 0])
    x, y = torch.cat(features).double(), torch.cat(targets).double()
    mean_x, mean_y = x[held:].mean(0), y[held:].mean(0)
    a, b = x[held:] - mean_x, y[held:] - mean_y
    variance = a.square().mean()
    weight = torch.linalg.solve(
        a.T @ a + o.ridge * variance * len(a) / 100 * torch.eye(a.shape[1], dtype=a.dtype), a.T @ b
    ).T
    guess = (x[:held] - mean_x) @ weight.T + mean_y
    explained = 1 - (guess - y[:held]).square().sum() / (y[:held] - mean_y).square().sum()
    bias = mean_y - weight @ mean_x
    ways, spread = basis(prior, shards, o)
    tensors = {"weight": weight.half(), "bias": bias.float(), "ways": ways.half(), "spread": spread.float()}
    tensors = {name: each.contiguous() for name, each in tensors.items()}
    about = {"format": "my3dgen-encoder", "prior_sha256": prior.sha256, "trunk_sha256": trunk_sha256()}
    write_safetensors(Path(o.out), tensors, about)
    return {"explained": float(explained), "views": len(x)}


def basis(prior, shards: Shards, o: EncoderOptions) -> tuple[torch.Tensor, torch.Tensor]:
    """The encoder's ways [w_dim, k], and the standard deviation [k] of their coordinates among random faces.

    In whitened latents, where random faces are a round cloud, they are eigenvectors of the loss's mean curvature, the longer the
    less they change a picture. So they are uncorrelated, and a pull that weighs them by their spread is one towards faces.
    """
    white = whitening(map_z(prior, sample_z(prior, o.samples, o.seed)), o.floor)
    m = white.to_w.T @ curvature(prior, shards, o).double() @ white.to_w
    values, vectors = torch.linalg.eigh(m)
    length = (values / values.mean() + o.damping) ** -o.power
    return white.to_w @ vectors * length, 1 / length


@torch.enable_grad()
def curvature(prior, shards: Shards, o: EncoderOptions) -> torch.Tensor:
    """Gauss-Newton matrix [w_dim, w_dim] of the fits' loss, mean over drawn people at their own w.

    The loss is a sum of squares |f(w) - f|^2; for random v with unit covariance the slope of v . f(w) has the
    covariance J^T J.
    """
    rng, random = np.random.default_rng(o.seed + 1), torch.Generator().manual_seed(o.seed + 1)
    distance, slopes = load_perceptual(), []
    for _ in range(o.probes):
        batch = shards.batch(rng, 1)
        counts = torch.where(batch.part == WALL, 0.1, 1.0)[:, None]
        ws = prior.generator.mapping(batch.z, None)[:, :1].detach().requires_grad_(True)
        out = prior.generator.synthesis(ws.expand(-1, prior.num_ws, -1), batch.camera)
        probed = 0.0
        for image in (out["image"], out["image_raw"]):
            mask = F.interpolate(counts, size=image.shape[-2:], mode="area")
            mask = mask / mask.mean()
            seen = [(image, mask / image.numel()), *distance.features(image, mask)]
            for features, weight in seen:
                v = torch.randn(features.shape, generator=random)
                probed = probed + (v * features * weight.sqrt()).sum()
        (slope,) = torch.autograd.grad(probed, ws)
        slopes.append(slope[0, 0])
    g = torch.stack(slopes)
    # the few people at whom the picture changes very fast must not decide alone
    length = g.norm(dim=1, keepdim=True)
    g = g * (3 * length.median() / length).clamp(max=1)
    return g.T @ g / len(g)
