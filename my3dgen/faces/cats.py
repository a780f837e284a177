"""Photos of cats as faces for the `cats` prior.

There is no detector of cats' faces here: the photo's central square is taken as it is, seen exactly from the front,
and projection refines that camera. So crop the photo first until the face fills the square, ears included, as in
AFHQ; a head turned by more than some 20 degrees will not be found. Nothing is refused but unreadable or tiny files,
and nobody checks that it is a cat, or always the same one. The landmarks are those of the mean human face from the
front: good enough to say where the head is, not where the eyes are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from my3dgen import cameras
from my3dgen.faces import pose
from my3dgen.faces.align import SIZE, Placement
from my3dgen.faces.face import Face

SMALLEST = 128  # pixels of the square; below, a picture of 512 would be mostly invented
NOTE = (
    "Cats: no face is looked for. The central square of each photo is taken as a cat seen from the front, and its camera "
    "is refined in projection; crop photos so that the face fills the square, ears included."
)


def crop(face: Face, pixels: np.ndarray) -> Face:
    """The central square of a photo uint8 [H, W, 3] with a frontal camera; all of it counts."""
    side = min(pixels.shape[:2])
    if side < SMALLEST:
        reason = f"The photo's shorter side has {side} pixels; at least {SMALLEST} are needed, better {SIZE}."
        return replace(face, refused=reason)
    square, (left, top) = central_square(pixels)
    scale = SIZE / side
    camera = cameras.camera(0.0, 0.0)
    return replace(
        face,
        image=np.array(Image.fromarray(square).resize((SIZE, SIZE), Image.Resampling.LANCZOS)),
        valid=np.ones((SIZE, SIZE), bool),
        landmarks=pose.mean_landmarks(camera),
        camera=camera.numpy(),
        placement=Placement(scale, (-left * scale, -top * scale)),
        kind="cat",
    )


def central_square(pixels: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """The largest square in the middle of a photo uint8 [H, W, 3], and where its left top corner (x, y) lies."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return pixels[top : top + side, left : left + side], (left, top)
