"""Training of the perceptual trunk: read everything about a synthetic face from one picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from my3dgen.models.attributes import NAMES
from my3dgen.models.perceptual import DESCRIPTION, POOL, WIDTHS, Trunk
from my3dgen.pretraining.attributes import labels
from my3dgen.pretraining.loop import LOG_EVERY, Elapsed, decayed, descend, set_rate, train_for
from my3dgen.pretraining.people import Z_DIM
from my3dgen.pretraining.people_data import Shards
from my3dgen.pretraining.shading import WALL
from my3dgen.priors.files import write_safetensors


@dataclass(frozen=True)
class TrunkOptions:
    """Training of the trunk."""

    data: str = "data/train"  # shards
    out: str = "assets"  # perceptual.safetensors goes here
    minutes: float = 12.0
    batch: int = 24
    pixels: int = 96  # side of the pictures in training
    lr: float = 1.5e-3
    start: str = ""  # weights to go on from
    seed: int = 0


def augment(image: torch.Tensor, part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Shifted, scaled, recoloured, noisy pictures [B, 3, S, S] with the parts [B, S, S] moved along."""
    n = len(image)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = torch.empty(n).uniform_(0.94, 1.06)
    theta[:, :, 2] = torch.empty(n, 2).uniform_(-0.05, 0.05)
    grid = F.affine_grid(theta, image.shape, align_corners=False)
    image = F.grid_sample(image, grid, align_corners=False, padding_mode="reflection")
    part = F.grid_sample(
        part[:, None].float(), grid, mode="nearest", align_corners=False, padding_mode="reflection"
    )[:, 0].long()
    wall = (part == WALL)[:, None]
    other = F.avg_pool2d(image[torch.randperm(n)], 15, 1, 7)
    image = torch.where(wall & (torch.rand(n, 1, 1, 1) < 0.4), other, image)
    image = image * torch.empty(n, 1, 1, 1).uniform_(0.85, 1.15) + torch.empty(n, 3, 1, 1).uniform_(-0.1, 0.1)
    image = image + torch.randn_like(image) * torch.empty(n, 1, 1, 1).uniform_(0, 0.05)
    return image.clamp(-1, 1), part


def train(o: TrunkOptions) -> dict[str, float]:
    """Train for `minutes` and write the trunk. Returns the last running losses."""
    torch.manual_seed(o.seed)
    rng = np.random.default_rng(o.seed)
    shards = Shards(o.data)
    trunk = Trunk()
    if o.start:
        trunk.load_state_dict({k: v.float() for k, v in load_file(o.start).items()})
    read = nn.Linear(DESCRIPTION, Z_DIM + 12)  # z and the camera's orientation and place
    judge = nn.Linear(DESCRIPTION, len(NAMES))  # what the attribute scorer will read
    parts = nn.Conv2d(sum(WIDTHS[1:4]), 8, 1)
    everything = [p for part in (trunk, read, judge, parts) for p in part.parameters()]
    optimiser = torch.optim.AdamW(everything, lr=o.lr, weight_decay=0.01)
    progress = Elapsed()

    def step(share: float) -> dict[str, torch.Tensor]:
        if progress.step % LOG_EVERY == 0:
            shards.refresh()
        set_rate(optimiser, o.lr * decayed(share, progress.step, warm_up=100, floor=0.01))
        batch = shards.batch(rng, o.batch)
        part = F.interpolate(batch.part[:, None].float(), size=o.pixels, mode="nearest-exact")[:, 0]
        image, part = augment(F.interpolate(batch.image, size=o.pixels, mode="area"), part)
        with torch.autocast("cpu", torch.bfloat16):
            features = trunk(image.to(memory_format=torch.channels_last))
        features = [f.float() for f in features]
        pooled = F.adaptive_avg_pool2d(features[-1], POOL).flatten(1)
        truth = torch.cat([batch.z, 4 * batch.camera[:, :12]], 1)
        stack = torch.cat(
            [F.interpolate(f, size=features[1].shape[-2:], mode="bilinear") for f in features[1:4]], 1
        )
        known = torch.tensor(
            [labels(z, c) for z, c in zip(batch.z.numpy(), batch.camera.numpy(), strict=True)]
        )
        losses = {
            "attributes": 4 * F.mse_loss(judge(pooled), known),  # they run from 0 to 1: a small spread
            "z": F.mse_loss(read(pooled), truth),
            "parts": 0.5 * F.cross_entropy(parts(stack), part[:, ::2, ::2]),
        }
        descend(optimiser, sum(losses.values()))
        return losses

    means = train_for(step, o.minutes, progress)
    write_safetensors(
        Path(o.out) / "perceptual.safetensors",
        {k: v.half().contiguous() for k, v in trunk.state_dict().items()},
        {},
    )
    return {"steps": progress.step, **means}
