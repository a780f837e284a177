"""Mirrored copies of photos, where there are few (as EG3D's and My3DGen's data sets have them)."""

from __future__ import annotations

from collections.abc import Sequence

from my3dgen.faces.face import Face

FEW = 5  # with fewer accepted photos than this, mirrored copies are worth their time


def with_mirrors(faces: Sequence[Face], always: bool = False) -> list[Face]:
    """The faces, followed by a mirrored copy of each accepted one where fewer than five were accepted.

    A mirrored copy is a photo of its own with its own camera and latent. With many photos the copies only
    teach the model to be symmetric, which moles and partings are not.
    """
    accepted = [f for f in faces if not f.refused]
    if not always and len(accepted) >= FEW:
        return list(faces)
    return [*faces, *(f.mirrored() for f in accepted)]
