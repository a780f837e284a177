"""Which pixels of a crop are meant: parts of the face by name, or a mask that somebody painted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageChops

from my3dgen.errors import My3DGenError
from my3dgen.faces.face import Face
from my3dgen.faces.read import SIXTEEN_BIT, ReadOptions, open_picture, to_eight_bit, upright

# Each region is the convex hull of some of the 68 landmarks, grown by a margin in eye distances.
_HULLS = {
    "centre": (np.r_[27:60], 0.22),  # nose, eyes and mouth
    "eyes": (np.r_[17:28, 36:48], 0.14),  # with the brows
    "nose": (np.r_[27:36], 0.22),
    "mouth": (np.r_[48:60], 0.22),
    "lower face": (np.r_[3:14, 31:36], 0.03),  # from the nostrils to the chin, cheek to cheek
}
REGIONS = tuple(_HULLS)


def region_mask(face: Face, region: str = "centre") -> np.ndarray:
    """A part of the face by name, from its landmarks: bool [512, 512] on the crop.

    Raises My3DGenError for an unknown name.
    """
    if region not in _HULLS:
        raise My3DGenError(f"There is no region {region!r}; choose one of {', '.join(REGIONS)}.")
    chosen, margin = _HULLS[region]
    marks = np.asarray(face.landmarks, np.float32)
    apart = float(np.linalg.norm(marks[36:42].mean(0) - marks[42:48].mean(0)))
    corners = cv2.convexHull(marks[chosen])
    mask = np.zeros(face.image.shape[:2], np.uint8)
    # The hull, drawn with sixteenths of a pixel, and a round pen around it: no corner is left.
    points = np.round((corners - 0.5) * 16).astype(np.int32)
    cv2.fillConvexPoly(mask, points, 255, cv2.LINE_8, 4)
    cv2.polylines(mask, [points], True, 255, max(1, round(2 * margin * apart)), cv2.LINE_8, 4)
    return mask > 127


def painted_mask(mask, face: Face, crop_first: bool = True) -> np.ndarray:
    """A painted mask on the face's crop: bool [512, 512], True (white) = paint anew.

    Args:
        mask: bool or uint8 array [H, W] (or with channels), PIL picture, or the path of one. It has the size
            of the photo, and is carried over by the face's placement, or is already 512 x 512 like the crop.
        crop_first: whose a 512 x 512 mask is where the photo has that size, too: the crop's, or else the photo's.

    Raises:
        My3DGenError: where the mask cannot be read, has another size, or leaves nothing painted in the crop.
    """
    grey = _grey(mask)
    crop = face.image.shape[:2]
    if grey.shape == crop and (crop_first or face.photo_size != crop):
        hidden = grey > 127
    else:
        _require_photo_size(grey, face)
        hidden = _to_crop(grey, face) > 127
    if not hidden.any():
        raise My3DGenError("Nothing of the mask lies on the face's crop; paint white over what is to change.")
    return hidden


def _grey(mask) -> np.ndarray:
    """Any mask as uint8 [H, W]; transparent counts as black."""
    if isinstance(mask, (str, Path)):
        try:
            with open_picture(mask) as picture:
                picture.load()
                mask = picture
        except My3DGenError as error:
            raise My3DGenError(f"The mask {Path(mask).name} cannot be read: {error}") from None
        except Exception as error:  # a decoder that trips over a mangled file may raise nearly anything
            raise My3DGenError(f"The mask {Path(mask).name} cannot be read ({error}); give a PNG.") from None
    if isinstance(mask, Image.Image):
        mask = upright(mask)
        if mask.mode in SIXTEEN_BIT:
            return to_eight_bit(np.asarray(mask))
        if mask.mode in ("1", "L") and "transparency" not in mask.info:
            return np.asarray(mask.convert("L"))
        red, green, blue, opacity = mask.convert("RGBA").split()  # bytes all along: it may be a large picture
        brightest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
        return np.asarray(ImageChops.multiply(brightest, opacity))
    if not isinstance(mask, np.ndarray) or mask.dtype not in (np.bool_, np.uint8) or not _drawn(mask.shape):
        got = f"{mask.dtype} {list(mask.shape)}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise My3DGenError(
            f"A mask is a bool or uint8 array [H, W] (or with 1 to 4 channels), a picture or a path; got {got}."
        )
    if mask.dtype == np.bool_:
        mask = mask.astype(np.uint8) * 255
    return mask if mask.ndim == 2 else _grey(Image.fromarray(mask.squeeze()))


def _drawn(shape: tuple[int, ...]) -> bool:
    flat = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 2, 3, 4))
    return flat and 0 not in shape


def _require_photo_size(grey: np.ndarray, face: Face) -> None:
    wanted = f"{face.image.shape[1]} x {face.image.shape[0]} pixels like the crop"
    got = f"The mask is {grey.shape[1]} x {grey.shape[0]} pixels"
    if face.placement is None or face.photo_size is None:
        raise My3DGenError(f"{got}; where the photo itself is not at hand it must be {wanted}.")
    if face.photo_size not in (grey.shape, _as_read(grey.shape)):
        height, width = face.photo_size
        raise My3DGenError(f"{got}; it must be {width} x {height} like the photo, or {wanted}.")


def _as_read(shape: tuple[int, int]) -> tuple[int, int]:
    """The size to which reading reduces a large photo; a mask painted on the original has the larger one."""
    scale = min(1.0, ReadOptions().longest_side / max(shape))
    return tuple(max(1, round(side * scale)) for side in shape)


def _to_crop(grey: np.ndarray, face: Face) -> np.ndarray:
    """A mask of the photo's size, original or as read, where the crop shows it: uint8 [512, 512]."""
    height, width = face.image.shape[:2]
    scale = face.placement.scale * min(1.0, ReadOptions().longest_side / max(grey.shape))
    matrix = replace(face.placement, scale=scale).matrix()
    return cv2.warpAffine(grey, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=0)
