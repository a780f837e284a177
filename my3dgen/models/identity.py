"""Who is it: two small encoders of aligned faces, trained by us on synthetic people.

`loss` guides training (symmetry), warns of strangers among the photos and is differentiable end to end;
`metrics` has another architecture and saw other people, and is used only to report identity similarity.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from my3dgen.assets import fill
from my3dgen.errors import My3DGenError

PURPOSES = ("loss", "metrics")
# the part of an EG3D crop that holds the face, brow to chin, as fractions of the crop: left, top, side
WINDOW = (0.1875, 0.1875, 0.625)
INPUT = 64  # pixels of the window that the encoders see
DIMENSIONS = 512


class _Residual(nn.Module):
    """Pre-activation residual block with squeeze and excitation."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.act = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False)
        self.squeeze = nn.Conv2d(outputs, outputs // 8, 1)
        self.excite = nn.Conv2d(outputs // 8, outputs, 1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.act(self.norm2(self.conv1(self.norm1(x)))))
        scale = torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        return y * scale + self.shortcut(x)


class _Plain(nn.Module):
    """Convolution, normalisation, ReLU; halved by max pooling where `stride` is 2."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        return F.max_pool2d(x, 2) if self.stride == 2 else x


class IdentityNetwork(nn.Module):
    """Face crops -> unit vectors whose cosine tells one person from another."""

    def __init__(self, purpose: str):
        super().__init__()
        if purpose not in PURPOSES:
            raise My3DGenError(f"no identity encoder {purpose!r}; expected one of {', '.join(PURPOSES)}")
        self.name = f"my3dgen-identity-{purpose}"
        if purpose == "loss":
            widths = ((24, 48, 2), (48, 96, 2), (96, 96, 1), (96, 160, 2))
            blocks = [_Residual(*w) for w in widths]
        else:
            widths = ((24, 56, 1), (56, 56, 2), (56, 112, 1), (112, 112, 2), (112, 192, 1))
            blocks = [_Plain(*w) for w in widths]
        last = widths[-1][1]
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.PReLU(24))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(last)
        # the features keep their place on the face: 3x3 cells, not one mean
        self.head = nn.Linear(last * 9, DIMENSIONS, bias=False)
        self.head_norm = nn.BatchNorm1d(DIMENSIONS)

    def forward(self, windows: Tensor) -> Tensor:
        """[B, 3, 64, 64] in [-1, 1] -> unit vectors [B, 512]."""
        return F.normalize(self.features(windows), dim=1)

    def features(self, windows: Tensor) -> Tensor:
        """[B, 3, 64, 64] in [-1, 1] -> vectors [B, 512] of any length."""
        x = self.norm(self.blocks(self.stem(windows)))
        return self.head_norm(self.head(F.adaptive_avg_pool2d(x, 3).flatten(1)))

    def embed(self, images: Tensor) -> Tensor:
        """EG3D crops [B, 3, S, S] in [-1, 1], any S -> unit vectors [B, 512]. Differentiable."""
        return self(face_window(images))


def face_window(images: Tensor, window: tuple[float, float, float] = WINDOW, pixels: int = INPUT) -> Tensor:
    """Cut a square window (left, top, side in crop widths) out of EG3D crops [B, 3, S, S] and resize it."""
    side = images.shape[-1]
    left, top, size = (round(side * f) for f in window)
    cut = images[..., top : top + size, left : left + size].clamp(-1, 1)
    return F.interpolate(cut, size=(pixels, pixels), mode="bilinear", align_corners=False, antialias=True)


def load_identity(purpose: str = "loss", device: torch.device | str = "cpu") -> IdentityNetwork:
    """One of our two encoders, frozen. One for each device: it is shared, so nobody may move it.

    Raises:
        My3DGenError: for an unknown purpose, or a weights file that is missing or damaged.
    """
    return _load(purpose, str(device))


@lru_cache(maxsize=8)
def _load(purpose: str, device: str) -> IdentityNetwork:
    return fill(IdentityNetwork(purpose), f"identity_{purpose}.safetensors").to(device)
