"""ArcFace IR-SE50: the identity network of the papers, for real faces.

Its weights are other people's (`model_ir_se50.pth`, in the layout of TreB1eN/InsightFace_Pytorch) and are not part
of the project: they are used where they lie on this computer, and never downloaded unasked.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from my3dgen.errors import My3DGenError
from my3dgen.models.identity import face_window

INPUT = 112  # pixels of the aligned face
DIMENSIONS = 512
UNITS = ((64, 3), (128, 4), (256, 14), (512, 3))  # channels and blocks of each stage
# The part of an EG3D crop that ArcFace calls an aligned face, as fractions: left, top, side. It is the similarity
# that best lays EG3D's five standard points on ArcFace's (eyes, nose, mouth corners in 112 pixels).
WINDOW = (0.095, 0.0, 0.81)


class _SqueezeExcite(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class _Block(nn.Module):
    """Bottleneck of the "improved residual" kind with squeeze and excitation."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        if inputs == outputs:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            _SqueezeExcite(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class ArcFace(nn.Module):
    """Aligned faces -> unit vectors whose cosine tells one person from another."""

    name = "arcface-ir-se50"

    def __init__(self, units: Sequence[tuple[int, int]] = UNITS):
        super().__init__()
        first, last = units[0][0], units[-1][0]
        blocks, inputs = [], first
        for outputs, count in units:
            for i in range(count):
                blocks.append(_Block(inputs, outputs, 2 if i == 0 else 1))
                inputs = outputs
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.PReLU(first)
        )
        self.body = nn.Sequential(*blocks)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(last),
            nn.Dropout(0.6),
            nn.Flatten(),
            nn.Linear(last * (INPUT // 2 ** len(units)) ** 2, DIMENSIONS),
            nn.BatchNorm1d(DIMENSIONS),
        )

    def forward(self, faces: Tensor) -> Tensor:
        """RGB [B, 3, 112, 112] in [-1, 1], aligned -> unit vectors [B, 512]."""
        return F.normalize(self.output_layer(self.body(self.input_layer(faces))), dim=1)

    def embed(self, images: Tensor) -> Tensor:
        """EG3D crops [B, 3, S, S] in [-1, 1], any S -> unit vectors [B, 512]. Differentiable."""
        return self(aligned(images))


def aligned(images: Tensor) -> Tensor:
    """Cut ArcFace's face out of EG3D crops [B, 3, S, S] and resize it to 112 px."""
    return face_window(images, WINDOW, INPUT)


def load_arcface(path: Path) -> ArcFace:
    """The network with the weights of a `model_ir_se50.pth`, frozen, on the CPU. Nothing in the file is executed.

    Raises:
        My3DGenError: where the file is missing, damaged or holds another network.
    """
    try:
        return _load(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise My3DGenError(f"{path} cannot be read ({error.strerror}).") from error


@lru_cache(maxsize=1)
def _load(path: Path, _changed: int) -> ArcFace:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        with torch.device("meta"):
            network = ArcFace()
        own = network.state_dict()
        # files of old versions of torch lack these counters, which nothing reads
        counters = {name: torch.tensor(0) for name in own if name.endswith("num_batches_tracked")}
        network.load_state_dict(counters | dict(state), assign=True)
    except (RuntimeError, TypeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise My3DGenError(
            f"{path} does not hold ArcFace IR-SE50 ({' '.join(str(error)[:150].split())}); delete it, or get it anew "
            "with `python -m my3dgen download arcface`."
        ) from error
    return network.eval().requires_grad_(False)
