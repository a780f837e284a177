"""DISTS (Ding, Ma, Wang, Simoncelli: Image Quality Assessment: Unifying Structure and Texture Similarity, 2020).

A distance that forgives moved texture: at six depths of VGG16 (the picture itself, and the last activation before each
pooling) it compares every channel's mean ("texture") and its correlation ("structure"), by the learned weights alpha
and beta. Pooling is L2 with a Hann window, so that nothing is lost to aliasing. Written from the paper; the weights
of both networks are other people's files (`python -m my3dgen download dists`).
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from my3dgen.errors import My3DGenError

TRUNK = "vgg16-397923af.pth"  # torchvision's VGG16 (IMAGENET1K_V1)
# inputs and outputs of the convolutions between two poolings
STAGES = (
    ((3, 64), (64, 64)),
    ((64, 128), (128, 128)),
    ((128, 256), (256, 256), (256, 256)),
    ((256, 512), (512, 512), (512, 512)),
    ((512, 512), (512, 512), (512, 512)),
)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, for pictures in 0..1
STABLE = 1e-6  # c1 and c2 of the paper


class DISTS(nn.Module):
    """The distance; 0 for equal pictures, about 1 for pictures that have nothing in common."""

    name = "dists-vgg16"

    def __init__(self, stages: Sequence[Sequence[tuple[int, int]]] = STAGES):
        super().__init__()
        self.stages = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(inputs, outputs, 3, 1, 1) for inputs, outputs in stage)
            for stage in stages
        )
        self.depths = [3, *(stage[-1][1] for stage in stages)]  # channels compared at each depth
        self.alpha = nn.Parameter(torch.ones(sum(self.depths)))  # of the channels' means
        self.beta = nn.Parameter(torch.ones(sum(self.depths)))  # of their correlations
        window = torch.tensor([0.25, 0.5, 0.25])  # Hann's of five, whose ends are zero
        self.register_buffer("window", window[:, None] * window, persistent=False)
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Pictures [B, 3, S, S] in [-1, 1] -> what is compared at each depth."""
        images = (images + 1) / 2
        out, x = [images], (images - self.mean) / self.std
        for depth, stage in enumerate(self.stages):
            x = self._pooled(x) if depth else x
            for convolution in stage:
                x = convolution(x).relu()
            out.append(x)
        return out

    def _pooled(self, x: Tensor) -> Tensor:
        """L2 pooling to half the size: the root of the blurred squares."""
        kernel = self.window.expand(x.shape[1], 1, 3, 3)
        return (F.conv2d(x.square(), kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()

    def forward(self, a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
        """Distance [B] between pictures [B, 3, S, S] in [-1, 1], 256 px as published.

        mask [B, 1, S, S] is 1 where they count; where it is 0 both get what `b` shows.
        """
        if mask is not None:
            a = torch.where(mask > 0, a, b)
        texture, structure = [], []
        for x, y in zip(self.features(a), self.features(b), strict=True):
            mean_x, mean_y = x.mean((2, 3)), y.mean((2, 3))
            left, right = x - mean_x[..., None, None], y - mean_y[..., None, None]
            both = (left * right).mean((2, 3))
            spread = left.square().mean((2, 3)) + right.square().mean((2, 3))
            texture.append((2 * mean_x * mean_y + STABLE) / (mean_x.square() + mean_y.square() + STABLE))
            structure.append((2 * both + STABLE) / (spread + STABLE))
        alike = torch.cat(texture, 1) @ self.alpha + torch.cat(structure, 1) @ self.beta
        return 1 - alike / (self.alpha.sum() + self.beta.sum())


def trunk_file() -> Path:
    """Where torch keeps the trunk once anything on this computer downloaded it."""
    return Path(torch.hub.get_dir()) / "checkpoints" / TRUNK


def load_dists(weights: Path, trunk: Path) -> DISTS:
    """The distance from its published files, frozen, on the CPU. Nothing in the files is executed.

    weights: alpha and beta (`DISTS_weights-*.pth`). trunk: torchvision's VGG16 (`vgg16-*.pth`).

    Raises:
        My3DGenError: where a file is missing, damaged or holds something else.
    """
    try:
        return _load(weights, weights.stat().st_mtime_ns, trunk, trunk.stat().st_mtime_ns)
    except OSError as error:
        raise My3DGenError(f"{error.filename} cannot be read ({error.strerror}).") from error


@lru_cache(maxsize=1)
def _load(weights: Path, _weights_changed: int, trunk: Path, _trunk_changed: int) -> DISTS:
    with torch.device("meta"):
        network = DISTS()
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    state = _state(weights, {"alpha": "alpha", "beta": "beta"}, shapes)
    network.load_state_dict(state | _state(trunk, trunk_names(), shapes), assign=True)
    fresh = DISTS(())  # for the constants, which no file holds
    network.window, network.mean, network.std = fresh.window, fresh.mean, fresh.std
    return network.eval().requires_grad_(False)


def trunk_names() -> dict[str, str]:
    """Our names of the trunk's tensors -> torchvision's, which number every layer, pooling and ReLU too."""
    names, layer = {}, 0
    for i, stage in enumerate(STAGES):
        for j in range(len(stage)):
            for kind in ("weight", "bias"):
                names[f"stages.{i}.{j}.{kind}"] = f"features.{layer}.{kind}"
            layer += 2
        layer += 1
    return names


def _state(path: Path, names: Mapping[str, str], shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The named tensors of a file (ours -> the file's), with our shapes."""
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
        return {ours: found[theirs].float().reshape(shapes[ours]).clone() for ours, theirs in names.items()}
    except (
        RuntimeError,
        TypeError,
        KeyError,
        ValueError,
        AttributeError,
        EOFError,
        pickle.UnpicklingError,
    ) as e:
        raise My3DGenError(
            f"{path} does not hold what DISTS needs ({' '.join(str(e)[:150].split())}); delete it, and get it anew "
            "with `python -m my3dgen download dists`."
        ) from e
