"""What every task returns, and how it takes a photo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from my3dgen.errors import My3DGenError
from my3dgen.evaluation import metrics
from my3dgen.faces import Face, prepare
from my3dgen.models.dists import DISTS, load_dists, trunk_file
from my3dgen.personal.images import from_uint8
from my3dgen.personal.objective import resize, untouched
from my3dgen.priors.catalogue import local_file

COMPARED_AT = 256  # side of the pictures that DISTS compares, as published


@dataclass(frozen=True, eq=False)
class TaskResult:
    """Pictures and figures of one task on one prior."""

    images: dict[str, np.ndarray]  # uint8 [H, W, 3]; "image" is the result, "view_0" and so on novel views
    # "id_sim" (higher is better), "perceptual" and, where that network is here, "dists" (lower is better), "seconds"
    figures: dict[str, float]
    ws: Tensor  # [L, w_dim], the latent behind the result
    camera: Tensor  # [25], the camera of "image"
    networks: dict[str, str] = field(default_factory=dict)  # which networks made which figure
    frames: tuple[np.ndarray, ...] = ()  # uint8 [H, W, 3] each, in order: a strip or an animation
    extra: dict[str, Any] = field(
        default_factory=dict
    )  # further JSON-ready values, such as scores along a slider


def one_face(photo, kind: str = "person") -> Face:
    """A task's photo as an accepted face: a Face, or anything `prepare` reads as one of this kind.

    Raises:
        My3DGenError: where the photo cannot be used, with the reason.
    """
    face = photo if isinstance(photo, Face) else prepare([photo], kind=kind)[0]
    if face.refused:
        raise My3DGenError(face.refused)
    return face


def known_faces(references: Sequence[Face] | None, beside: bool = False) -> list[Face]:
    """The accepted ones of a task's reference photos; called before anything takes long.

    Args:
        beside: whether there will be figures of `beside_photo`.

    Raises:
        My3DGenError: for what is no Face, and where a network behind the figures cannot be loaded.
    """
    references = list(references or ())
    for face in references:
        if not isinstance(face, Face):
            raise My3DGenError(
                f"References are faces, as `my3dgen.prepare` gives them; got {type(face).__name__!r}."
            )
    metrics.networks()
    if beside:
        dists_network()
    return [face for face in references if not face.refused]


def dists_network() -> DISTS | None:
    """DISTS where both of its files are here (`my3dgen download dists`); there is none of our own in its place."""
    weights, trunk = local_file("dists"), local_file("vgg16")
    trunk = trunk or (trunk_file() if trunk_file().is_file() else None)
    return None if weights is None or trunk is None else load_dists(weights, trunk)


def networks(figures: Mapping[str, float]) -> dict[str, str]:
    """Names of the networks behind a task's figures; "dists" only where there is that figure."""
    return metrics.networks() | ({"dists": DISTS.name} if "dists" in figures else {})


@torch.no_grad()
def beside_photo(image: np.ndarray, face: Face) -> dict[str, float]:
    """The figures of a reconstruction uint8 [H, W, 3] beside its photo, where the photo is valid: "perceptual",
    and "dists" where that network is here."""
    figures = {"perceptual": metrics.perceptual_distance(image, face)}
    dists = dists_network()
    if dists is not None:
        mask = torch.from_numpy(face.valid.astype(np.float32))[None, None]
        a, b = (resize(from_uint8(x)[None], COMPARED_AT) for x in (image, face.image))
        figures["dists"] = float(dists(a, b, untouched(mask, COMPARED_AT)))
    return figures
