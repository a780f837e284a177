"""Putting a render into a photo so that nobody sees where it begins.

A Poisson clone would take its border colours from the photo whatever they show, hair or background included,
and OpenCV's also shifts the clone by half a pixel and fails at the picture's edge. So the three things it does
are done one by one: the render's colours are led to the photo's by a smooth correction that is measured on a
band around the mask, robustly; the render fades out over that band; and outside the band nothing is touched.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch


@dataclass(frozen=True)
class BlendOptions:
    """How a render is put into a photo; lengths in pixels of 512."""

    band: int = 20  # the mask is dilated by this much (MyStyle); the render fades out over it
    measure: int = 28  # colours are compared up to this far outside the mask
    smooth: float = 6.0  # what is compared is the light, not the detail: Gaussian of this deviation
    trust: float = 30.0  # a difference of colour beyond this (of 255) is another thing, not another light
    strongest: float = 60.0  # the correction never exceeds this (of 255)


def enlarged(picture: np.ndarray, size: int) -> np.ndarray:
    """A picture uint8 [h, w, 3] at size x size (Lanczos; area where it shrinks)."""
    if picture.shape[:2] == (size, size):
        return picture
    how = cv2.INTER_AREA if min(picture.shape[:2]) > size else cv2.INTER_LANCZOS4
    return cv2.resize(picture, (size, size), interpolation=how)


def ramp(mask: np.ndarray, band: float) -> np.ndarray:
    """float32 [H, W]: 1 inside bool mask [H, W], falling smoothly to exactly 0 at `band` pixels outside it."""
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    t = np.clip(1.0 - away / (band + 1.0), 0.0, 1.0)
    t[away > band] = 0.0
    return (t * t * (3.0 - 2.0 * t)).astype(np.float32)


def composite(
    photo: np.ndarray,
    render: np.ndarray,
    hidden: np.ndarray,
    person: np.ndarray | None = None,
    usable: np.ndarray | None = None,
    options: BlendOptions | None = None,
) -> np.ndarray:
    """The render inside the mask, the photo outside it; uint8 [H, W, 3].

    Args:
        photo, render: uint8 [H, W, 3].
        hidden: bool [H, W], True where the photo is replaced.
        person: float [H, W] in 0..1, where the render shows the person; elsewhere the photo stays. None: all.
        usable: bool [H, W], where the photo's colours mean something (False outside of its borders). None: all.

    Pixels farther than `options.band` from the mask are the photo's, bit for bit.
    """
    o = options or BlendOptions()
    matched = match_colours(photo, render, hidden, person, usable, o)
    share = ramp(hidden, o.band)
    if person is not None:
        share = share * person
    mixed = photo + share[..., None] * (matched - photo)
    mixed = np.clip(np.round(mixed), 0, 255).astype(np.uint8)
    return np.where(share[..., None] > 0, mixed, photo)


def match_colours(
    photo: np.ndarray,
    render: np.ndarray,
    hidden: np.ndarray,
    person: np.ndarray | None = None,
    usable: np.ndarray | None = None,
    options: BlendOptions | None = None,
) -> np.ndarray:
    """The render float32 [H, W, 3] with its light led to the photo's, as measured around the mask."""
    o = options or BlendOptions()
    near = ramp(hidden, o.measure) * ~hidden
    # smoothed without a look at hidden pixels
    seen = (~hidden if usable is None else ~hidden & usable).astype(np.float32)
    difference = _smooth(photo.astype(np.float32) - render, seen, o.smooth)
    distance = np.linalg.norm(difference, axis=2) / np.sqrt(3.0)
    trust = near * seen * np.exp(-0.5 * (distance / o.trust) ** 2)
    if person is not None:
        trust = trust * person
    if trust.sum() < 1.0:
        return render.astype(np.float32)
    return render + np.clip(fill(difference, trust), -o.strongest, o.strongest)


def _smooth(values: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    """A weighted Gaussian mean of values [H, W, C]; 0 where there is no weight at all."""
    total = cv2.GaussianBlur(weight, (0, 0), sigma)
    summed = cv2.GaussianBlur(values * weight[..., None], (0, 0), sigma)
    return summed / np.maximum(total, 1e-4)[..., None]


def fill(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Carry values [H, W, C] smoothly from where they have weight [H, W] to everywhere (pull and push).

    Pulling averages 2 x 2 pixels by weight until one pixel is left, pushing fills every level's gaps from the
    coarser one: a smooth surface through the known values, at the cost of a few blurs.
    """
    height, width = weight.shape
    side = 1 << int(np.ceil(np.log2(max(height, width))))
    pads = ((0, side - height), (0, side - width))
    total = np.pad(weight.astype(np.float32), pads)
    summed = np.pad((values * weight[..., None]).astype(np.float32), (*pads, (0, 0)))
    levels = []
    while True:
        levels.append((summed, total))
        if len(total) == 1:
            break
        half = (len(total) // 2, len(total) // 2)
        summed = cv2.resize(summed, half, interpolation=cv2.INTER_AREA).reshape(*half, -1) * 4
        total = cv2.resize(total, half, interpolation=cv2.INTER_AREA).reshape(half) * 4
        # a pixel that is known well gains nothing from many more like it
        scale = np.minimum(1.0, 1.0 / np.maximum(total, 1e-12))
        summed, total = summed * scale[..., None], total * scale
    summed, total = levels.pop()
    filled = summed / np.maximum(total, 1e-12)[..., None]
    for summed, total in reversed(levels):
        coarse = cv2.resize(filled, total.shape[::-1], interpolation=cv2.INTER_LINEAR)
        coarse = cv2.GaussianBlur(coarse, (3, 3), 0).reshape(summed.shape)
        filled = summed + (1.0 - np.minimum(total, 1.0))[..., None] * coarse
    return filled[:height, :width]


def person_mask(out: dict[str, torch.Tensor], size: int) -> np.ndarray:
    """Where a render shows the person rather than what is behind: float32 [size, size] in 0..1.

    EG3D's priors model the background as a wall at the back of the box, so opacity alone says "something"
    nearly everywhere. The person is what is opaque and stands clearly before that wall.

    Args:
        out: what `Generator.synthesis` returns for one picture.
    """
    opacity = out["opacity"][0, 0].detach().float().cpu().numpy()
    depth = out["image_depth"][0, 0].detach().float().cpu().numpy()
    near = np.clip(opacity, 0.0, 1.0) * (1.0 - _behind(depth))
    near = cv2.GaussianBlur(near.astype(np.float32), (3, 3), 0)
    return np.clip(cv2.resize(near, (size, size), interpolation=cv2.INTER_CUBIC), 0.0, 1.0)


def _behind(depth: np.ndarray) -> np.ndarray:
    """float [R, R], 1 on the wall, where the depths [R, R] fall into two groups; else all 0."""
    low, high = float(np.percentile(depth, 2)), float(depth.max())
    if high - low < 0.5:  # a head alone is less deep than this where it faces us
        return np.zeros_like(depth)
    levels = np.round(np.clip((depth - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    cut, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_OTSU)
    cut = low + cut / 255 * (high - low)
    return np.clip((depth - cut) / 0.05 + 0.5, 0.0, 1.0)
