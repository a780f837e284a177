"""Inpainting: fit what is visible, then show the prior's face where the photo is masked (MyStyle)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from my3dgen.errors import My3DGenError
from my3dgen.evaluation.metrics import identity_similarity
from my3dgen.faces import Face
from my3dgen.faces.regions import painted_mask, region_mask
from my3dgen.personal.degradations import Masked
from my3dgen.personal.hull import fit
from my3dgen.personal.images import to_uint8
from my3dgen.personal.objective import head_region
from my3dgen.personal.slices import clock
from my3dgen.progress import ProgressCallback
from my3dgen.tasks.blend import composite, enlarged, person_mask
from my3dgen.tasks.look import novel_views
from my3dgen.tasks.result import TaskResult, beside_photo, known_faces, networks, one_face

LEAST_VISIBLE = 0.1  # part of the head that must stay visible for a fit
GREY = 128  # of what the fit does not see, in the picture that shows it


def inpaint(
    prior,
    photo,
    mask=None,
    region: str = "centre",
    steps: int | None = None,
    blend: bool = True,
    progress: ProgressCallback | None = None,
    references: Sequence[Face] | None = None,
) -> TaskResult:
    """Paint part of a photo anew with a prior, personalized or not.

    Args:
        photo: a Face, or anything `prepare` reads (path, bytes, picture, array).
        mask: white (True, over 127) = paint anew: a bool or uint8 array, a picture or the path of one, of the
            photo's size or of the crop's 512 x 512. A crop-sized mask of a photo that is 512 x 512 itself
            counts as the photo's unless the photo is given as a Face.
        region: without a mask, the part to paint: one of `my3dgen.faces.regions.REGIONS`.
        steps: of the fit; None takes the prior's default.
        blend: fade the render into the photo with matched colours; False pastes it as it is.
        references: other photos of the person for the identity score; without them the photo itself is used.

    Returns:
        TaskResult with "image" (512 x 512: the render where it shows the person inside the mask, the photo elsewhere, bit for
        bit beyond the blending band), "render", "masked" (what the fit saw) and four novel views. `id_sim` is the mean
        over "image" and the views, `image_id_sim` that of "image" alone; `perceptual` compares "image" with
        the unmasked photo. extra["alpha"] holds the anchors' weights, extra["masked_share"] the mask's part
        of the crop.

    Raises:
        My3DGenError: where the photo or the mask cannot be used.
    """
    start = clock()
    face, known = one_face(photo, prior.kind), known_faces(references, beside=True)
    hidden = region_mask(face, region) if mask is None else painted_mask(mask, face, isinstance(photo, Face))
    _require_visible(face, hidden)
    found = fit(prior, face, Masked(hidden), steps=steps, progress=progress)
    with torch.no_grad():
        out = prior.generator.synthesis(found.ws[None].to(prior.device), found.camera[None].to(prior.device))
    side = len(face.image)
    render = enlarged(to_uint8(out["image"])[0], side)
    person = person_mask(out, side)
    if blend:
        image = composite(face.image, render, hidden, person, face.valid)
    else:
        image = np.where((hidden & (person > 0.5))[..., None], render, face.image)
    masked = np.where(hidden[..., None], np.uint8(GREY), face.image)
    views = novel_views(prior, found.ws)
    against = known or [face]
    figures = {
        "id_sim": identity_similarity([image, *views], against),
        "image_id_sim": identity_similarity([image], against),
        **beside_photo(image, face),
        "seconds": round(clock() - start, 2),
    }
    images = {"image": image, "render": render, "masked": masked}
    images |= {f"view_{i}": view for i, view in enumerate(views)}
    extra = {
        "masked_share": round(float(hidden.mean()), 4),
        "references": "photos" if known else "the photo itself",
    }
    if found.alpha is not None:
        extra["alpha"] = found.alpha.tolist()
    return TaskResult(images, figures, found.ws, found.camera, networks(figures), extra=extra)


def _require_visible(face: Face, hidden: np.ndarray) -> None:
    head = head_region(face.landmarks, len(face.image)) * face.valid
    visible = float((head * ~hidden).sum() / max(head.sum(), 1e-6))
    if visible < LEAST_VISIBLE:
        raise My3DGenError(
            f"The mask leaves {visible:.0%} of the head visible; at least {LEAST_VISIBLE:.0%} is needed to tell "
            "where the face is, so paint less."
        )
