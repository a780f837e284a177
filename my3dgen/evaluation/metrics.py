"""The figures: identity similarity and perceptual distance (as in My3DGen, WACV 2025).

They are ArcFace's and LPIPS's where those networks are on this computer, else our own networks'. The two kinds of
figures cannot be compared; `networks` says which were used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from my3dgen.faces import Face
from my3dgen.models.arcface import ArcFace, load_arcface
from my3dgen.models.identity import IdentityNetwork, load_identity
from my3dgen.models.lpips import LPIPS, load_lpips
from my3dgen.models.perceptual import PerceptualDistance, load_perceptual
from my3dgen.personal.images import from_uint8
from my3dgen.personal.objective import resize, untouched
from my3dgen.priors.catalogue import local_file


def identity_network() -> ArcFace | IdentityNetwork:
    """Behind identity similarity: ArcFace where its file is here (`my3dgen download arcface`), else our own."""
    path = local_file("arcface")
    return load_identity("metrics") if path is None else load_arcface(path)


def perceptual_network() -> LPIPS | PerceptualDistance:
    """Behind the perceptual distance: LPIPS where the package and its trunk are here, else our own."""
    return load_lpips() or load_perceptual()


def networks() -> dict[str, str]:
    """Names of the networks behind the figures; the reports of tasks and of `evaluate` carry them."""
    return {"identity": identity_network().name, "perceptual": perceptual_network().name}


@torch.no_grad()
def embed(images: Sequence[np.ndarray | Face]) -> Tensor:
    """Crops (uint8 [S, S, 3], any S) or faces -> unit vectors [N, 512] of `identity_network`."""
    network = identity_network()
    pictures = [x.image if isinstance(x, Face) else x for x in images]
    return torch.cat([network.embed(from_uint8(p)[None]) for p in pictures])


def identity_similarity(images: Sequence[np.ndarray | Face], references: Sequence[Face]) -> float:
    """ID_sim: for each picture the largest cosine to a reference photo, averaged over the pictures; -1..1."""
    return float((embed(images) @ embed(references).T).max(1).values.mean())


@torch.no_grad()
def perceptual_distance(image: np.ndarray, face: Face, size: int = 256) -> float:
    """Distance between a reconstruction and its photo at 256 px, where the photo is valid; lower is better.

    Nothing of the render that lies outside the photo has a part in it.
    """
    mask = torch.from_numpy(face.valid.astype(np.float32))[None, None]
    a, b = (resize(from_uint8(x)[None], size) for x in (image, face.image))
    return float(perceptual_network()(a, b, untouched(mask, size)))
