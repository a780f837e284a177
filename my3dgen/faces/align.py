"""EG3D's crop of a face in the wild (its data preparation) as one warp.

Positions are in continuous pixels: pixel i covers i..i+1, so the picture's edges are 0 and W.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from my3dgen.errors import My3DGenError

SIZE = 512  # side of a crop, pixels
_SCALE = 300.0  # size of the standard face in the 1024 px window, before the central part is cut
_CENTRE_PART = 700.0  # side of that central part
_LARGEST = 8.0  # a crop more than this many times the photo's longer side is nonsense

# Standard 3D positions (unit 10 cm, y up) of image-left eye, image-right eye, nose tip and mouth corners.
STANDARD_FIVE = np.array(
    [
        [-0.31149, 0.29036, 0.13378],
        [0.30980, 0.28972, 0.13180],
        [0.00325, -0.04618, 0.55244],
        [-0.25217, -0.38134, 0.22406],
        [0.24847, -0.38128, 0.22236],
    ]
)


@dataclass(frozen=True)
class Placement:
    """crop position = scale * photo position + offset (no rotation: a tilted head stays tilted)."""

    scale: float  # crop pixels per photo pixel
    offset: tuple[float, float]  # x, y in crop pixels

    def to_crop(self, points: np.ndarray) -> np.ndarray:
        """Photo positions [..., 2] -> crop positions."""
        return (np.asarray(points) * self.scale + np.asarray(self.offset)).astype(np.float32)

    def to_photo(self, points: np.ndarray) -> np.ndarray:
        """Crop positions [..., 2] -> photo positions."""
        return ((np.asarray(points) - np.asarray(self.offset)) / self.scale).astype(np.float32)

    def matrix(self) -> np.ndarray:
        """The same for cv2.warpAffine [2, 3], which counts from the middles of pixels."""
        x, y = np.asarray(self.offset) + 0.5 * self.scale - 0.5
        return np.array([[self.scale, 0.0, x], [0.0, self.scale, y]])

    def window(self, size: int = SIZE) -> tuple[float, float, float, float]:
        """The crop's left, top, right, bottom edges in photo pixels."""
        left, top = self.to_photo(np.zeros(2)).tolist()
        return left, top, left + size / self.scale, top + size / self.scale


@dataclass(frozen=True)
class Crop:
    """A face in the standard position."""

    image: np.ndarray  # uint8 [size, size, 3]
    valid: np.ndarray  # bool [size, size], False where the photo does not reach
    placement: Placement


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """68 landmarks [68, D] -> [5, D]: eye centres, nose tip, mouth corners, image-left before right."""
    landmarks = np.asarray(landmarks, np.float64)
    eyes = [landmarks[36:42].mean(0), landmarks[42:48].mean(0)]
    return np.stack([*eyes, landmarks[30], landmarks[48], landmarks[54]])


def place(landmarks: np.ndarray, size: int = SIZE) -> Placement:
    """Where the crop lies for landmarks [68, 2] or five points [5, 2] in photo pixels.

    The five points are fitted by two independent affine rows of the standard ones; the rows' offsets
    are the crop's centre and the mean of their norms is the face's size.
    """
    five = five_points(landmarks) if len(landmarks) == 68 else np.asarray(landmarks, np.float64)
    design = np.concatenate([STANDARD_FIVE, np.ones((5, 1))], axis=1)
    rows = np.linalg.lstsq(design, five, rcond=None)[0]  # [4, 2]
    face = np.linalg.norm(rows[:3], axis=0).mean()  # the y row's sign (down, not up) does not matter here
    scale = _SCALE / max(face, 1e-6) * size / _CENTRE_PART
    return Placement(float(scale), tuple((size / 2 - scale * rows[3]).tolist()))


def align(photo: np.ndarray, landmarks: np.ndarray, size: int = SIZE) -> Crop:
    """Cut the face out of photo uint8 [H, W, 3] by its landmarks (see `place`).

    What lies outside the photo is filled with a blurred reflection and False in `valid`.
    Raises My3DGenError where the landmarks put the crop out of all proportion to the photo.
    """
    placement = place(landmarks, size)
    left, top, right, bottom = placement.window(size)
    height, width = photo.shape[:2]
    apart = left >= width or top >= height or right <= 0 or bottom <= 0
    if apart or right - left > _LARGEST * max(height, width):
        raise My3DGenError(
            f"The landmarks put the face at x {left:.0f}..{right:.0f}, y {top:.0f}..{bottom:.0f} of a "
            f"{width} x {height} photo; they must be pixels of this very photo."
        )
    reach = 1 + int(np.ceil(4 / placement.scale))  # the filter looks this far beyond the window
    x0, y0 = int(np.floor(left)) - reach, int(np.floor(top)) - reach
    region = _region(photo, x0, y0, int(np.ceil(right)) + reach, int(np.ceil(bottom)) + reach)
    box = (left - x0, top - y0, right - x0, bottom - y0)
    image = np.array(Image.fromarray(region).resize((size, size), Image.Resampling.LANCZOS, box=box))
    valid = _validity(placement, width, height, size)
    return Crop(image if valid.all() else _soften(image, valid), valid, placement)


def _region(photo: np.ndarray, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """Rows y0..y1 and columns x0..x1 of the photo, continued by reflection where they leave it."""
    height, width = photo.shape[:2]
    inside = photo[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    pads = ((max(-y0, 0), max(y1 - height, 0)), (max(-x0, 0), max(x1 - width, 0)), (0, 0))
    return np.pad(inside, pads, mode="symmetric")


def _validity(placement: Placement, width: int, height: int, size: int) -> np.ndarray:
    """bool [size, size]: the whole crop pixel lies on the photo."""
    (left, top), (right, bottom) = placement.to_crop(np.array([[0, 0], [width, height]]))
    edges = np.arange(size)
    slack = 1e-3
    columns = (edges >= left - slack) & (edges + 1 <= right + slack)
    rows = (edges >= top - slack) & (edges + 1 <= bottom + slack)
    return rows[:, None] & columns[None, :]


def _soften(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Blur the reflected border, more with the distance from the photo."""
    size = len(image)
    distance = cv2.distanceTransform((~valid).astype(np.uint8), cv2.DIST_L2, 3)
    amount = np.clip(distance / (0.08 * size), 0.0, 1.0)[..., None]
    blurred = cv2.GaussianBlur(image, (0, 0), 0.03 * size)
    mixed = np.round(image * (1.0 - amount) + blurred * amount).astype(np.uint8)
    return np.where(valid[..., None], image, mixed)
