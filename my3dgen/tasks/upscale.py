"""Super-resolution: the face that, shrunk, looks like the small photo (MyStyle)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from PIL import Image

from my3dgen.cameras import camera
from my3dgen.errors import My3DGenError, whole
from my3dgen.evaluation.metrics import identity_similarity
from my3dgen.faces import Face, PrepareOptions, QualityLimits, align, cats, pose, prepare, read
from my3dgen.personal.degradations import Downsampled, area
from my3dgen.personal.hull import fit
from my3dgen.personal.images import from_uint8, to_uint8
from my3dgen.personal.slices import clock
from my3dgen.progress import ProgressCallback
from my3dgen.tasks.blend import enlarged, person_mask
from my3dgen.tasks.look import novel_views
from my3dgen.tasks.result import TaskResult, beside_photo, known_faces, networks, one_face

SMALLEST, LARGEST = 16, 256  # sides of a crop, in pixels of the small photo, that make sense here
REDUCED = 32  # to so many pixels a side a photo that is not small is reduced, where no size was given
DETECT_AT = 768  # longest side to which a small photo is enlarged before its face is looked for
NO_FACE = (
    "No face was found in the enlarged photo, so all of it was taken as the standard crop of a face seen from the "
    "front."
)


@dataclass(frozen=True, eq=False)
class _Small:
    """A small photo of a face."""

    face: Face  # the crop as it is at hand: enlarged, or (demonstration) the original
    side: int  # how many pixels the crop really has, or is reduced to
    truth: Face | None = None  # the original where the small photo was made from it
    note: str | None = None


def upscale(
    prior,
    photo,
    size: int | None = None,
    steps: int | None = None,
    background: bool = True,
    progress: ProgressCallback | None = None,
    references: Sequence[Face] | None = None,
) -> TaskResult:
    """Sharpen a tiny photo with a prior, personalized or not.

    Args:
        photo: a Face, or anything `prepare` reads; with `size` None it may be as small as 16 x 16.
        size: reduce the crop to so many pixels a side first (16..256), as a demonstration. None: the photo is
            small itself, or is reduced to 32 pixels where it is not. A small one's face is looked for in an
            enlargement; a square photo of at most 256 px without a findable face is taken as an EG3D crop seen from
            the front. Both times extra["note"] says so.
        steps: of the fit; None takes the prior's default.
        background: behind the person show the enlarged photo rather than the prior's wall.
        references: other photos of the person for the identity score; without them the photo itself is used.

    Returns:
        TaskResult with "image", "input" (the small photo, enlarged pixel by pixel), "lanczos" (its plain
        enlargement), "render", all 512 x 512, and four novel views. `id_sim` is the mean over "image" and the
        views, `image_id_sim` and `render_id_sim` are those of one picture, `side` is the crop's true size.
        `lanczos_id_sim` needs references or a demonstration, `perceptual` and `lanczos_perceptual` need a
        demonstration: without one there is nothing sharp to compare with.

    Raises:
        My3DGenError: where the photo is no photo of a face, or the size is out of range.
    """
    start, known = clock(), known_faces(references, beside=True)
    small = _demonstration(photo, size, prior.kind) if size is not None else _small(photo, prior.kind)
    side = len(small.face.image)
    tiny = area(from_uint8(small.face.image)[None], small.side)
    lanczos = enlarged(to_uint8(tiny)[0], side)
    found = fit(prior, small.face, Downsampled(small.side), steps=steps, progress=progress)
    with torch.no_grad():
        out = prior.generator.synthesis(found.ws[None].to(prior.device), found.camera[None].to(prior.device))
    render = enlarged(to_uint8(out["image"])[0], side)
    person = person_mask(out, side) if background else np.ones((side, side), np.float32)
    image = _over(agreeing(render, tiny), lanczos, person)
    views = novel_views(prior, found.ws)
    images = {
        "image": image,
        "input": cv2.resize(to_uint8(tiny)[0], (side, side), interpolation=cv2.INTER_NEAREST),
        "lanczos": lanczos,
        "render": render,
    }
    images |= {f"view_{i}": view for i, view in enumerate(views)}
    figures = _figures(image, render, lanczos, views, small, known)
    figures["seconds"] = round(clock() - start, 2)
    extra = {"references": "photos" if known else "the photo itself"}
    if small.note:
        extra["note"] = small.note
    if found.alpha is not None:
        extra["alpha"] = found.alpha.tolist()
    return TaskResult(images, figures, found.ws, found.camera, networks(figures), extra=extra)


def _figures(image, render, lanczos, views, small: _Small, known: list[Face]) -> dict[str, float]:
    against = known or [small.truth or small.face]
    figures = {
        "id_sim": identity_similarity([image, *views], against),
        "image_id_sim": identity_similarity([image], against),
        "render_id_sim": identity_similarity([render], against),
        "side": float(small.side),
    }
    if small.truth is not None or known:  # otherwise the enlargement would be compared with itself
        figures["lanczos_id_sim"] = identity_similarity([lanczos], against)
    if small.truth is not None:
        figures |= beside_photo(image, small.truth)
        plain = beside_photo(lanczos, small.truth)
        figures |= {f"lanczos_{name}": value for name, value in plain.items()}
    return figures


# ---- the small photo


def _demonstration(photo, size: int, kind: str) -> _Small:
    face = one_face(photo, kind)
    return _Small(face, whole("size", size, SMALLEST, LARGEST), truth=face)


def _small(photo, kind: str) -> _Small:
    if isinstance(photo, Face):
        face = one_face(photo)
        if face.placement is None:
            raise My3DGenError(
                f"{face.source} does not say how large its photo was; give the photo itself, or a size to reduce to."
            )
        return _as_it_is(face, len(face.image) / face.placement.scale)
    pixels = read.read(photo, read.ReadOptions(shortest_side=SMALLEST)).pixels
    if kind == "cat":  # there is nobody to look for
        square, _ = cats.central_square(pixels)
        return _as_it_is(_frontal(square, read.source_name(photo, 0)), len(square), cats.NOTE)
    growth = max(1.0, DETECT_AT / max(pixels.shape[:2]))
    name = read.source_name(photo, 0)
    face = replace(_findable(_grown(pixels, growth)), source=name)
    if not face.refused:
        return _as_it_is(face, len(face.image) / face.placement.scale / growth)
    height, width = pixels.shape[:2]
    # it was not too small to find a face in
    if face.landmarks is not None or max(height, width) >= DETECT_AT:
        raise My3DGenError(f"{name}: {face.refused}")
    if height != width or width > LARGEST:
        raise My3DGenError(
            f"{name} ({width} x {height} pixels): {face.refused} A photo too small to find a face in must be square, "
            f"cut as the standard crop, and at most {LARGEST} pixels wide."
        )
    return _as_it_is(_frontal(pixels, name), width, NO_FACE)


def _findable(picture: np.ndarray) -> Face:
    """The face of an enlarged photo; that it is small and blurred is no reason to refuse it here."""
    limits = QualityLimits(refuse_width=0.0, warn_width=0.0, refuse_sharpness=0.0, warn_sharpness=0.0)
    return prepare([picture], options=PrepareOptions(limits=limits))[0]


def _grown(pixels: np.ndarray, growth: float) -> np.ndarray:
    size = tuple(max(1, round(side * growth)) for side in pixels.shape[1::-1])
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _as_it_is(face: Face, pixels: float, note: str = "") -> _Small:
    """A photo whose crop really has so many pixels a side; one that is not small becomes a demonstration."""
    side = round(pixels)
    if side < SMALLEST:
        raise My3DGenError(
            f"The face's crop has only {side} pixels a side; at least {SMALLEST} are needed. Give a larger photo."
        )
    if side <= LARGEST:
        return _Small(face, side, note=note or None)
    reduced = (
        f"The face's crop has {side} pixels a side, which is not small, so it was reduced to {REDUCED} first."
    )
    return _Small(face, REDUCED, truth=face, note=f"{note} {reduced}".strip())


def _frontal(pixels: np.ndarray, name: str) -> Face:
    """A square photo as the standard crop of a face that looks straight into the camera."""
    front = camera(0.0, 0.0)
    return Face(
        name,
        image=enlarged(pixels, align.SIZE),
        valid=np.ones((align.SIZE, align.SIZE), bool),
        landmarks=pose.mean_landmarks(front),
        camera=front.numpy(),
    )


# ---- the result


def agreeing(render: np.ndarray, tiny: torch.Tensor) -> np.ndarray:
    """The render, made to agree with the small photo [1, 3, s, s]: float32 [S, S, 3] in 0..255.

    Shrunk, the result must look like that photo (back-projection, Irani and Peleg 1991), so what is missing there
    is enlarged and added: the person's own colours and shapes as far as the photo still holds them, with the
    prior's detail on top. One round is enough; more of them sharpen the edges of the blocks.
    """
    missing = (tiny - area(from_uint8(render)[None], tiny.shape[-1]))[0].permute(1, 2, 0).numpy()
    missing = cv2.resize(missing, render.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(render + missing * 127.5, 0.0, 255.0)


def _over(front: np.ndarray, behind: np.ndarray, share: np.ndarray) -> np.ndarray:
    mixed = behind + share[..., None] * (front - behind.astype(np.float32))
    return np.clip(np.round(mixed), 0, 255).astype(np.uint8)
