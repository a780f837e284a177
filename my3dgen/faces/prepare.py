"""Photos in, faces out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from my3dgen.errors import My3DGenError
from my3dgen.faces import align, cats, detect, pose, quality, read
from my3dgen.faces.face import Face
from my3dgen.progress import ProgressCallback, Ticker

_THUMBNAIL = 256  # longest side, pixels


@dataclass(frozen=True)
class PrepareOptions:
    """Everything about the way from photos to faces."""

    read: read.ReadOptions = field(default_factory=read.ReadOptions)
    detect: detect.DetectOptions = field(default_factory=detect.DetectOptions)
    limits: quality.QualityLimits = field(default_factory=quality.QualityLimits)
    compare_people: bool = True  # warn where one photo shows another person than the rest


def prepare(
    photos: Sequence[read.PhotoSource],
    progress: ProgressCallback | None = None,
    options: PrepareOptions | None = None,
    kind: str = "person",
) -> list[Face]:
    """Find, crop and pose the face of every photo.

    photos: a list of paths, encoded bytes, PIL images or uint8 arrays [H, W, 3].
    progress: called after each photo with its crop as preview; False stops, and the rest is refused.
    kind: "person", or "cat" for the `cats` prior: the photo's central square, taken to be seen from the front,
        since there is no detector of cats' faces (see `faces.cats`).
    Returns one Face per photo in input order. A bad photo never raises: its `refused` says why.
    Raises My3DGenError where photos is no list, is empty, or a file of our own in assets/ is missing.
    """
    options = options or PrepareOptions()
    photos = _require_list(photos)
    if kind not in ("person", "cat"):
        raise My3DGenError(f"There is no kind {kind!r} of face; expected 'person' or 'cat'.")
    if kind == "person":
        detect.require_predictor()
    pose.model()
    ticker = Ticker("prepare", len(photos), progress)
    faces: list[Face] = []
    for index, photo in enumerate(photos):
        faces.append(_prepare_one(photo, read.source_name(photo, index), options, kind))
        if not ticker.tick(index + 1, preview=faces[-1].image):
            break
    for index in range(len(faces), len(photos)):
        reason = "Not looked at: preparing was stopped before this photo; prepare it again."
        faces.append(Face(read.source_name(photos[index], index), refused=reason))
    faces = _mark_copies(faces)
    return mark_strangers(faces, options.limits) if options.compare_people else faces


def _require_list(photos: Sequence[read.PhotoSource]) -> list[read.PhotoSource]:
    if isinstance(photos, (str, bytes, bytearray, np.ndarray, Image.Image)) or not isinstance(
        photos, Sequence
    ):
        raise My3DGenError(f"Photos come as a list, also a single one; got a {type(photos).__name__}.")
    if not photos:
        raise My3DGenError("The list of photos is empty; give at least one photo.")
    return list(photos)


def _prepare_one(photo: read.PhotoSource, source: str, options: PrepareOptions, kind: str) -> Face:
    try:
        picture = read.read(photo, options.read)
    except My3DGenError as reason:
        return Face(source, refused=str(reason))
    pixels = picture.pixels
    face = Face(source, warnings=picture.warnings, thumbnail=_thumbnail(pixels), photo_size=pixels.shape[:2])
    try:
        return cats.crop(face, pixels) if kind == "cat" else _find(face, pixels, options)
    except My3DGenError as reason:
        return replace(face, refused=str(reason))
    except (ArithmeticError, ValueError, IndexError, RuntimeError, np.linalg.LinAlgError, cv2.error):
        return replace(face, refused="The face in this photo could not be measured; choose another photo.")


def _find(face: Face, pixels: np.ndarray, options: PrepareOptions) -> Face:
    found = detect.detect(pixels, options.detect)
    if detect.upside_down(pixels, found, options.detect):
        return replace(face, refused="The photo is upside down; turn it by half a turn.")
    if not found:
        return replace(face, refused=quality.no_face(pixels))
    warnings = face.warnings
    if len(found) > 1:
        warnings += (
            f"{len(found)} faces were found and the largest is used; crop the photo to choose another.",
        )
    marks = detect.landmarks(pixels, found[0], options.detect)
    crop = align.align(pixels, marks)
    marks = crop.placement.to_crop(marks)
    camera, _ = pose.estimate(marks)
    face = replace(
        face,
        image=crop.image,
        valid=crop.valid,
        landmarks=marks,
        camera=camera,
        placement=crop.placement,
    )
    verdict = quality.judge(face, crop.placement.scale, options.limits)
    return replace(face, warnings=warnings + verdict.warnings, refused=verdict.refused)


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray(pixels)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return np.array(image)


def _mark_copies(faces: list[Face]) -> list[Face]:
    """Warn about a photo that was given before: it adds nothing."""
    first: dict[bytes, str] = {}
    marked = []
    for face in faces:
        if face.refused is None:
            key = face.image.tobytes()
            if key in first:
                sentence = (
                    f"This is the same picture as {Path(first[key]).name}; another photo would add more."
                )
                face = replace(face, warnings=(*face.warnings, sentence))
            first.setdefault(key, face.source)
        marked.append(face)
    return marked


def mark_strangers(faces: list[Face], limits: quality.QualityLimits | None = None) -> list[Face]:
    """Warn where a photo seems to show someone else; a photo already warned about is left as it is.

    `prepare` does this for the photos it gets; call it again where photos came in several batches. Nobody here
    tells one cat from another.
    """
    usable = [i for i, face in enumerate(faces) if face.refused is None and face.kind == "person"]
    if len(usable) < 3:
        return faces
    embeddings = _embed([faces[index] for index in usable])
    if embeddings is None:
        return faces
    faces = list(faces)
    for which, likeness, usual in quality.strangers(embeddings, limits):
        index = usable[which]
        if any("different person" in warning for warning in faces[index].warnings):
            continue
        sentence = (
            f"This may be a different person (likeness to the other photos {likeness:.2f}, theirs to each "
            f"other {usual:.2f}); remove the photo if it is."
        )
        faces[index] = replace(faces[index], warnings=(*faces[index].warnings, sentence))
    return faces


def _embed(faces: list[Face]) -> np.ndarray | None:
    """Unit identity vectors [N, D], or None where there is no identity network."""
    try:
        from my3dgen.models.identity import load_identity  # heavy, and only needed here

        network = load_identity("loss")
    except (ImportError, My3DGenError):
        return None
    rows = []
    with torch.no_grad():
        for face in faces:  # one at a time: memory stays small with 50 photos
            image = torch.from_numpy(face.image).permute(2, 0, 1)[None].float() / 127.5 - 1.0
            rows.append(network.embed(image)[0].numpy())
    return np.stack(rows)
