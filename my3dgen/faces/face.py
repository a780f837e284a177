"""One prepared photo."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from my3dgen import cameras
from my3dgen.faces.align import Placement

# Where each of the 68 landmarks is found in the flipped picture.
MIRRORED_68 = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)


@dataclass(frozen=True, eq=False)
class Face:
    """A photo in EG3D's standard crop with its camera, or the reason why it cannot be used.

    Where `refused` is set, the arrays may be None: those that could still be made are kept for display.
    """

    source: str  # path or name of the photo
    image: np.ndarray | None = None  # uint8 [512, 512, 3] the crop
    valid: np.ndarray | None = None  # bool [512, 512], False outside the photo: never counts in a loss
    landmarks: np.ndarray | None = None  # float32 [68, 2] x, y in crop pixels (pixel i covers i..i+1)
    camera: np.ndarray | None = None  # float32 [25]
    warnings: tuple[str, ...] = ()  # one sentence each; the photo is used all the same
    refused: str | None = None  # one sentence; None: usable
    thumbnail: np.ndarray | None = None  # uint8 [h, w, 3] the whole photo, at most 256 pixels a side
    placement: Placement | None = (
        None  # where the crop lies in the photo; None where the photo is not at hand
    )
    photo_size: tuple[int, int] | None = None  # (height, width) of the photo as `read` gives it; as placement
    kind: str = "person"  # how it was prepared: as a "person" or a "cat"

    @property
    def usable(self) -> bool:
        return self.refused is None

    def mirrored(self) -> Face:
        """The left-right flipped face with the flipped camera; called `<stem>_mirror`."""
        flipped = replace(self, source=f"{Path(self.source).stem}_mirror", placement=None, photo_size=None)
        changes = {
            name: np.ascontiguousarray(array[:, ::-1])
            for name in ("image", "valid", "thumbnail")
            if (array := getattr(self, name)) is not None
        }
        if self.landmarks is not None:
            changes["landmarks"] = mirror_landmarks(self.landmarks, self.image.shape[1])
        if self.camera is not None:
            changes["camera"] = cameras.mirror(self.camera).numpy()
        return replace(flipped, **changes)


def mirror_landmarks(landmarks: np.ndarray, width: float) -> np.ndarray:
    """Landmarks [68, 2] of a picture -> those of its left-right flip, in the usual order."""
    flipped = np.array(landmarks, np.float32)[MIRRORED_68]
    flipped[:, 0] = width - flipped[:, 0]
    return flipped
