"""Inversion of a new photo: projection, then, if asked, pivotal tuning (PTI)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from my3dgen.evaluation.metrics import identity_similarity
from my3dgen.faces import Face
from my3dgen.personal.images import to_uint8
from my3dgen.personal.project import project
from my3dgen.personal.slices import clock
from my3dgen.personal.tune import TuneOptions, pivotal_tuning
from my3dgen.progress import ProgressCallback
from my3dgen.tasks.look import novel_views
from my3dgen.tasks.result import TaskResult, beside_photo, known_faces, networks, one_face


def invert(
    prior,
    photo,
    steps: int | None = None,
    tuning_steps: int = 0,
    progress: ProgressCallback | None = None,
    references: Sequence[Face] | None = None,
) -> TaskResult:
    """Reconstruct a photo with a prior, personalized or not.

    Args:
        photo: a Face, or anything `prepare` reads (path, bytes, picture, array).
        steps: projection steps; None takes the prior's default (500 on EG3D).
        tuning_steps: steps of pivotal tuning after it; 0 is projection only (350 in the paper).
        references: other photos of the person for the identity score; without them the photo itself is used.

    Returns:
        TaskResult with "image" (the photo's own camera) and four novel views. `id_sim` is the mean over
        the novel views and the image, each against its most similar reference; `perceptual` compares
        "image" with the photo.
    """
    start = clock()
    TuneOptions(steps=tuning_steps)  # says what is wrong with their number before the projection
    face, known = one_face(photo, prior.kind), known_faces(references, beside=True)
    anchors = project(prior, [face], steps, progress)
    ws, camera = anchors.ws[0], anchors.cameras[0]
    if tuning_steps:
        prior = pivotal_tuning(prior, face, ws, camera, tuning_steps, progress)
    with torch.no_grad():
        image = to_uint8(prior.render(ws, camera))
    views = novel_views(prior, ws)
    figures = {
        "id_sim": identity_similarity([image, *views], known or [face]),
        **beside_photo(image, face),
        "seconds": round(clock() - start, 2),
    }
    images = {"image": image} | {f"view_{i}": v for i, v in enumerate(views)}
    extra = {"references": "photos" if known else "the photo itself"}
    return TaskResult(images, figures, ws, camera, networks(figures), extra=extra)
