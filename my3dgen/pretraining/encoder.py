"""The encoder that starts projections: a linear head from the perceptual trunk's features to w, by ridge regression."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import save_file

from my3dgen.models.perceptual import TRAINED_AT, load_trunk
from my3dgen.pretraining import render
from my3dgen.pretraining.people_data import Shards


@dataclass(frozen=True)
class EncoderOptions:
    """Fit of the head. It is bound to one prior and made anew with it."""

    data: str = "data/train"  # shards
    out: str = "assets/encoder.safetensors"
    views: int = 8000  # pictures to fit on
    ridge: float = 30.0  # strength of the regularisation
    seed: int = 0


def as_cropped(image: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A drawn view [S, S, 3] as `prepare` would crop it, with a landmark finder's errors; uint8 [96, 96, 3]."""
    points = render.five_points(landmarks + rng.normal(0, 0.6, (1, 2)))
    scale, centre = render.crop_fit(np.stack([points[:, 0], -points[:, 1]], 1))
    k = render.CROP_SCALE / scale * TRAINED_AT / 512 * rng.uniform(0.98, 1.02)
    matrix = np.array([[k, 0, TRAINED_AT / 2 - k * centre[0]], [0, k, TRAINED_AT / 2 + k * centre[1]]])
    return cv2.warpAffine(
        image, matrix, (TRAINED_AT, TRAINED_AT), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT
    )


@torch.no_grad()
def train(prior, o: EncoderOptions) -> dict[str, float]:
    """Fit and write the head. Returns the share of w's variance it explains, on pictures held out."""
    rng = np.random.default_rng(o.seed)
    shards, trunk = Shards(o.data), load_trunk()
    features, targets = [], []
    for start in range(0, o.views, 50):
        rows = []
        for _ in range(min(50, o.views - start)):
            shard = shards.data[rng.integers(len(shards.data))]
            rows.append((shard, rng.integers(len(shard["z"])), rng.integers(shard["camera"].shape[1])))
        crops = np.stack([as_cropped(s["image"][i, v], s["landmarks"][i, v], rng) for s, i, v in rows])
        features.append(trunk.describe(torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 127.5 - 1))
        z = torch.from_numpy(np.stack([s["z"][i] for s, i, _ in rows]))
        targets.append(prior.generator.mapping(z, None)[:, 0])
    x, y = torch.cat(features).double(), torch.cat(targets).double()
    held = len(x) // 10
    mean_x, mean_y = x[held:].mean(0), y[held:].mean(0)
    a, b = x[held:] - mean_x, y[held:] - mean_y
    spread = a.square().mean()
    weight = torch.linalg.solve(
        a.T @ a + o.ridge * spread * len(a) / 100 * torch.eye(a.shape[1], dtype=a.dtype), a.T @ b
    ).T
    guess = (x[:held] - mean_x) @ weight.T + mean_y
    explained = 1 - (guess - y[:held]).square().sum() / (y[:held] - mean_y).square().sum()
    bias = mean_y - weight @ mean_x
    tensors = {"weight": weight.half().contiguous(), "bias": bias.float().contiguous()}
    save_file(tensors, Path(o.out), metadata={"format": "my3dgen-encoder", "prior_sha256": prior.sha256})
    return {"explained": float(explained), "views": len(x)}
