"""What every task returns, and how it takes a photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from my3dgen.errors import My3DGenError
from my3dgen.faces import Face, prepare


@dataclass(frozen=True, eq=False)
class TaskResult:
    """Pictures and figures of one task on one prior."""

    images: dict[str, np.ndarray]  # uint8 [H, W, 3]; "image" is the result, "view_0" and so on novel views
    figures: dict[str, float]  # "id_sim" (higher is better), "perceptual" (lower is better), "seconds"
    ws: Tensor  # [L, w_dim], the latent behind the result
    camera: Tensor  # [25], the camera of "image"
    networks: dict[str, str] = field(default_factory=dict)  # which networks made which figure
    frames: tuple[np.ndarray, ...] = ()  # uint8 [H, W, 3] each, in order: a strip or an animation
    extra: dict[str, Any] = field(
        default_factory=dict
    )  # further JSON-ready values, such as scores along a slider


def one_face(photo) -> Face:
    """A task's photo as an accepted face: a Face, or anything `prepare` reads.

    Raises:
        My3DGenError: where the photo cannot be used, with the reason.
    """
    face = photo if isinstance(photo, Face) else prepare([photo])[0]
    if face.refused:
        raise My3DGenError(face.refused)
    return face


def references_or(face: Face, references: Sequence[Face] | None) -> list[Face]:
    """The accepted reference photos of the person, or the input photo itself where there are none."""
    return [f for f in references or () if not f.refused] or [face]
