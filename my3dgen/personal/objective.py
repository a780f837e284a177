"""What a fit compares: photos and renders at both resolutions, only where the photo shows the person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from my3dgen.errors import My3DGenError
from my3dgen.faces import Face
from my3dgen.models.perceptual import load_perceptual
from my3dgen.personal.images import from_uint8


@dataclass(frozen=True)
class Targets:
    """Photos as a fit sees them."""

    high: Tensor  # [N, 3, S, S] in [-1, 1] at the prior's output resolution
    low: Tensor  # [N, 3, R, R] at its neural resolution (bilinear, antialiased)
    weight_high: Tensor  # [N, 1, S, S], mean 1: 0 outside the photo, small on the background
    weight_low: Tensor  # [N, 1, R, R], mean 1
    cameras: Tensor  # [N, 25]

    def __len__(self) -> int:
        return len(self.high)

    def rows(self, index: Tensor | Sequence[int]) -> Targets:
        """A part of the photos."""
        return Targets(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def usable(faces: Sequence[Face]) -> list[Face]:
    """The faces that were not refused.

    Raises:
        My3DGenError: where none is left.
    """
    good = [face for face in faces if not face.refused]
    if not good:
        reasons = "; ".join(f"{f.source}: {f.refused}" for f in faces[:3])
        raise My3DGenError(
            f"none of the {len(faces)} photos can be used ({reasons or 'there are none'}). Add a photo with one clear face"
        )
    return good


def targets(prior, faces: Sequence[Face], background: float = 0.1) -> Targets:
    """Prepare accepted faces for fits on a prior.

    Args:
        background: how much pixels outside the head count, 0..1. The prior knows few backgrounds, and
            fitting them costs likeness.
    """
    size, small = prior.config.output_resolution, prior.config.neural_resolution
    images = torch.cat([photo(f) for f in faces]).to(prior.device)
    weights = Weights(faces, background, prior.device)
    cameras = torch.from_numpy(np.stack([np.asarray(f.camera, np.float32) for f in faces])).to(prior.device)
    return Targets(
        resize(images, size),
        resize(images, small),
        _mean_one(weights.at(size)),
        _mean_one(weights.at(small)),
        cameras,
    )


class Weights:
    """How much each pixel of photos counts: nothing outside the photo, `background` outside the head, 1 on it."""

    def __init__(self, faces: Sequence[Face], background: float, device: torch.device):
        valid = np.stack([f.valid for f in faces])[:, None]
        heads = np.stack([head_region(f.landmarks, len(f.image)) for f in faces])[:, None]
        self.valid = torch.from_numpy(valid).float().to(device)  # [N, 1, S, S]
        self.heads = torch.from_numpy(heads).to(device)  # [N, 1, S, S], 1 on the head
        self.counts = background + (1 - background) * self.heads

    def at(self, size: int) -> Tensor:
        """Weights [N, 1, size, size] for what `resize` makes of the photos."""
        return F.interpolate(self.counts, size=(size, size), mode="area") * untouched(self.valid, size)


def resize(images: Tensor, size: int) -> Tensor:
    """Bilinear with antialiasing, as the method compares pictures."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def photo(face: Face) -> Tensor:
    """A crop as fits see it: [1, 3, S, S] in [-1, 1], with the nearest pixel of the photo wherever it ends.

    Filters and networks look across the photo's border; what they find beyond it must not depend on anything else.
    """
    image = face.image
    if not face.valid.all() and face.valid.any():
        _, nearest = cv2.distanceTransformWithLabels(
            (~face.valid).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        inside = np.zeros((nearest.max() + 1, 3), np.uint8)
        inside[nearest[face.valid]] = image[face.valid]
        image = inside[nearest]
    return from_uint8(image)[None]


def untouched(visible: Tensor, size: int) -> Tensor:
    """Where no hidden pixel of `visible` [B, 1, S, S] (1, else 0) has a part in what `resize` makes of it: [B, 1, size, size]."""
    if size == visible.shape[-1]:
        return visible
    whole = (F.interpolate(visible, size=(size, size), mode="area") > 1 - 1e-6).float()
    return -F.max_pool2d(-whole, 3, 1, 1)  # the resizing filter also reads the neighbours


def _mean_one(weight: Tensor) -> Tensor:
    return weight / weight.mean((1, 2, 3), keepdim=True).clamp(min=1e-6)


def head_region(landmarks: np.ndarray, size: int = 512) -> np.ndarray:
    """A soft mask [S, S] in 0..1 of the head (face, ears, most of the hair) from 68 landmarks in pixels of S."""
    left, right = landmarks[:17, 0].min(), landmarks[:17, 0].max()
    brow, chin = landmarks[17:27, 1].min(), landmarks[8, 1]
    tall = max(chin - brow, 1.0)
    centre = ((left + right) / 2, chin - 0.78 * tall)
    axes = (0.66 * max(right - left, 0.8 * tall), 1.12 * tall)
    mask = np.zeros((size, size), np.float32)
    cv2.ellipse(
        mask,
        (np.array(centre) * 16).astype(int).tolist(),
        (np.array(axes) * 16).astype(int).tolist(),
        0,
        0,
        360,
        1.0,
        -1,
        cv2.LINE_AA,
        4,
    )
    return cv2.GaussianBlur(mask, (0, 0), size * 0.03)


class Objective:
    """MSE + perceptual distance at both resolutions (My3DGen, section 3), over weighted pixels."""

    def __init__(self, prior, perceptual_weight: float = 1.0, mse_weight: float = 1.0):
        self.distance = load_perceptual(prior.device)
        self.perceptual_weight, self.mse_weight = perceptual_weight, mse_weight

    def low(self, raw: Tensor, t: Targets) -> Tensor:
        """Loss [B] of volume renders [B, 3, R', R'] of any size."""
        size = raw.shape[-1]
        target, weight = resize(t.low, size), t.weight_low
        if weight.shape[-1] != size:
            weight = F.interpolate(weight, size=(size, size), mode="area")
        return self._pair(raw, target, weight)

    def high(self, image: Tensor, t: Targets) -> Tensor:
        """Loss [B] of final pictures."""
        return self._pair(image, t.high, t.weight_high)

    def _pair(self, a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
        mse = ((a - b).square() * weight).mean((1, 2, 3))
        return self.mse_weight * mse + self.perceptual_weight * self.distance(a, b, weight)
