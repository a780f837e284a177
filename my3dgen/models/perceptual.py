"""Features of faces, trained by us: a perceptual distance that needs no download, and a start for projection.

The distance has the form of LPIPS (Zhang et al. 2018): channel-normalised features at five depths, squared
differences, mean over the picture. Its trunk was trained to read everything about a synthetic face (shape,
expression, colours, light) from one picture, not on human judgements, so its values are not LPIPS values.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from my3dgen.assets import asset, fill, sha256
from my3dgen.errors import My3DGenError

FILE = "perceptual.safetensors"
WIDTHS = (16, 40, 80, 112, 160)
TRAINED_AT = 96  # pixels of the pictures the trunk was trained on
POOL = 4  # cells along each side that the encoder's head sees
DESCRIPTION = WIDTHS[-1] * POOL * POOL  # how many numbers `Trunk.describe` gives


class Trunk(nn.Module):
    """Five stages, each at half the resolution of the one before."""

    def __init__(self):
        super().__init__()
        inputs, stages = 3, []
        for i, width in enumerate(WIDTHS):
            layers = [nn.Conv2d(inputs, width, 3, 1 if i == 0 else 2, 1), nn.GroupNorm(8, width), nn.SiLU()]
            if i:  # one convolution is enough, and all that is cheap, at full resolution
                layers += [nn.Conv2d(width, width, 3, 1, 1), nn.GroupNorm(8, width), nn.SiLU()]
            stages.append(nn.Sequential(*layers))
            inputs = width
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, 3, S, S] in [-1, 1] -> features of the five stages, at S, S/2, ... S/16."""
        out = []
        for stage in self.stages:
            x = stage(x)
            out.append(x)
        return out

    def describe(self, x: Tensor) -> Tensor:
        """EG3D crops of any size -> one vector a picture [B, DESCRIPTION], for the encoder's linear head."""
        if x.shape[-1] != TRAINED_AT:
            x = F.interpolate(
                x, size=(TRAINED_AT, TRAINED_AT), mode="bilinear", align_corners=False, antialias=True
            )
        return F.adaptive_avg_pool2d(self(x.clamp(-1, 1))[-1], POOL).flatten(1)


class PerceptualDistance(nn.Module):
    """How different two pictures look; 0 for equal ones."""

    name = "my3dgen-perceptual"

    def __init__(self, trunk: Trunk):
        super().__init__()
        self.trunk = trunk

    def features(self, images: Tensor, mask: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
        """Unit features and their weights at each depth.

        Args:
            images: [B, 3, S, S] in about [-1, 1].
            mask: [B, 1, S, S], how much each pixel counts; None counts all alike.
        """
        out = []
        for f in self.trunk(images):
            f = f / (f.square().sum(1, keepdim=True) + 1e-8).sqrt()
            if mask is None:
                weight = torch.ones_like(f[:, :1])
            else:
                weight = F.interpolate(mask, size=f.shape[-2:], mode="area")
            out.append((f, weight / weight.sum((2, 3), keepdim=True).clamp(min=1e-6)))
        return out

    def between(self, a: list[tuple[Tensor, Tensor]], b: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Distance [B] between two results of `features`; the weights of `b` count."""
        return sum(
            ((fa - fb).square().sum(1, keepdim=True) * w).sum((1, 2, 3))
            for (fa, _), (fb, w) in zip(a, b, strict=True)
        )

    def forward(self, a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
        """Distance [B] between pictures [B, 3, S, S] in [-1, 1]; `mask` [B, 1, S, S] weighs their pixels.

        Pixels of weight 0 count nowhere, not even in the trunk's normalisation: both pictures get the same there.
        """
        if mask is not None:
            a = torch.where(mask > 0, a, b)
        return self.between(self.features(a), self.features(b, mask))


@lru_cache(maxsize=1)
def trunk_sha256() -> str:
    """SHA-256 of the trunk's file: linear heads that read it are of no use with another one."""
    return sha256(asset(FILE))


def require_trunk(path: Path, metadata: Mapping[str, str] | None, command: str) -> None:
    """Raise My3DGenError where a linear head's file says that it was made for another trunk."""
    if (metadata or {}).get("trunk_sha256", trunk_sha256()) != trunk_sha256():
        raise My3DGenError(
            f"{path} was made for another {FILE} than the one beside it. Get a complete checkout, or make it anew with "
            f"`python -m my3dgen.pretraining {command}`."
        )


def load_trunk(device: torch.device | str = "cpu") -> Trunk:
    """Our trained trunk, frozen. One for each device: it is shared, so nobody may move it."""
    return _trunk(str(device))


def load_perceptual(device: torch.device | str = "cpu") -> PerceptualDistance:
    """The perceptual distance on our trunk, frozen. One for each device: it is shared, so nobody may move it.

    Raises:
        My3DGenError: where the weights file is missing or damaged.
    """
    return _perceptual(str(device))


@lru_cache(maxsize=8)
def _trunk(device: str) -> Trunk:
    return fill(Trunk(), FILE).to(device)


@lru_cache(maxsize=8)
def _perceptual(device: str) -> PerceptualDistance:
    return PerceptualDistance(_trunk(device))
