"""What a photo has lost, applied alike to the photo and to every render a fit compares with it.

Inversion, inpainting and super-resolution are one fit under three of these (MyStyle).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from my3dgen.errors import My3DGenError
from my3dgen.personal.objective import resize, untouched


class Degradation(Protocol):
    """A differentiable loss of information. Renders come in several sizes, so nothing here is tied to one."""

    hides: bool  # whether parts are gone altogether, so that `completed` needs a guess

    def __call__(self, images: Tensor) -> Tensor:
        """What is left of renders [B, 3, S, S] in [-1, 1]: [B, 3, s, s]."""

    def observed(self, photo: Tensor, size: int) -> Tensor:
        """What is left of a photo [B, 3, P, P], to be compared with `self(render of side size)`."""

    def weight(self, size: int) -> Tensor | None:
        """Which pixels [1, 1, s, s] of `self(render of side size)` say anything, 0..1; None: all of them."""

    def completed(self, photo: Tensor, guess: Tensor) -> Tensor:
        """A whole picture [B, 3, P, P] for networks that need one: what was lost is taken from a guess."""


class Identity:
    """Nothing was lost."""

    hides = False

    def __call__(self, images: Tensor) -> Tensor:
        return images

    def observed(self, photo: Tensor, size: int) -> Tensor:
        return resize(photo, size)

    def weight(self, size: int) -> Tensor | None:
        return None

    def completed(self, photo: Tensor, guess: Tensor) -> Tensor:
        return photo


class Masked(Identity):
    """Part of the photo is hidden; hidden pixels are grey (0) on both sides and count nowhere.

    Args:
        hidden: bool [P, P], True where the photo must not be looked at.
    """

    hides = True

    def __init__(self, hidden: np.ndarray | Tensor):
        hidden = torch.as_tensor(np.asarray(hidden))
        if hidden.dtype != torch.bool or hidden.ndim != 2 or hidden.shape[0] != hidden.shape[1]:
            raise My3DGenError(
                f"A mask is a square array of booleans; got {hidden.dtype} of shape {list(hidden.shape)}."
            )
        self.visible = (~hidden).float()[None, None]  # [1, 1, P, P]
        self._weights: dict[int, Tensor] = {}

    def __call__(self, images: Tensor) -> Tensor:
        return images * self.weight(images.shape[-1]).to(images)

    def observed(self, photo: Tensor, size: int) -> Tensor:
        # Hidden before it is resized: no hidden value gets into any pixel that is compared.
        return self(resize(photo * self._full(photo), size))

    def weight(self, size: int) -> Tensor:
        """1 where no hidden pixel had a part in the resized one, else 0."""
        if size not in self._weights:
            self._weights[size] = untouched(self.visible, size)
        return self._weights[size]

    def completed(self, photo: Tensor, guess: Tensor) -> Tensor:
        visible = self._full(photo)
        return photo * visible + resize(guess, photo.shape[-1]) * (1 - visible)

    def _full(self, photo: Tensor) -> Tensor:
        if photo.shape[-2:] != self.visible.shape[-2:]:
            raise My3DGenError(
                f"The mask is {self.visible.shape[-1]} pixels wide, the photo {photo.shape[-1]}; they must agree."
            )
        return self.visible.to(photo)


class Downsampled(Identity):
    """Only side x side pixels are left, each the mean of the area it covers.

    Args:
        side: pixels along each side of the crop that the photo really had.
    """

    def __init__(self, side: int):
        if not isinstance(side, (int, np.integer)) or side < 4:
            raise My3DGenError(f"A crop is reduced to a whole number of pixels, 4 or more; got {side!r}.")
        self.side = int(side)

    def __call__(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, 3, s, s] with s = min(S, side): a coarser render has nothing to lose."""
        return area(images, min(images.shape[-1], self.side))

    def observed(self, photo: Tensor, size: int) -> Tensor:
        return area(area(photo, self.side), min(size, self.side))

    def completed(self, photo: Tensor, guess: Tensor) -> Tensor:
        small = area(photo, self.side)
        size = photo.shape[-2:]
        return F.interpolate(small, size=size, mode="bicubic", align_corners=False).clamp(-1, 1)


def area(images: Tensor, side: int) -> Tensor:
    """Area downsampling of [B, C, S, S] to a side of at most S."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="area")
