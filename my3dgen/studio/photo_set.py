"""A session's photos: what is known of each, what is told about them, and reading them for another kind of prior."""

from __future__ import annotations

import hashlib
import itertools
import math
import secrets
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from my3dgen.errors import My3DGenError
from my3dgen.progress import Progress
from my3dgen.studio import compute, priors, stream
from my3dgen.studio.jobs import reports
from my3dgen.studio.session import Photo, Session

STOPPED = "Stopped while the photos were read again, so nothing has changed."


def of_faces(
    faces: Sequence[Any], originals: Sequence[str | bytes], kind: str, taken: int = 0
) -> list[Photo]:
    """Give faces ids. File names stay here and go into no adapter; the server's folders are told nobody.

    originals: the files, or the contents of what the camera took, that the faces were found in. kind: how they were
    prepared. taken: so many the camera took before.
    """
    folders = {f"{Path(face.source).parent}/" for face in faces} - {"./"}
    numbers = itertools.count(taken + 1)
    names = [
        f"camera photo {next(numbers)}" if isinstance(original, bytes) else Path(face.source).name
        for face, original in zip(faces, originals, strict=True)
    ]
    return [
        _of_face(face, name, folders, original, kind)
        for face, name, original in zip(faces, names, originals, strict=True)
    ]


def _of_face(face: Any, name: str, folders: set[str], original: str | bytes, kind: str) -> Photo:
    def plain(sentence: str) -> str:
        for folder in folders:
            sentence = sentence.replace(folder, "")
        return sentence

    digest = ""
    if face.refused is None:
        camera = np.asarray(face.camera, np.float32)
        digest = hashlib.sha256(np.ascontiguousarray(face.image).tobytes() + camera.tobytes()).hexdigest()
    photo_id = secrets.token_hex(8)
    refused = None if face.refused is None else plain(face.refused)
    face = replace(face, source=photo_id, refused=refused, warnings=tuple(map(plain, face.warnings)))
    return Photo(photo_id, name, face, digest, original, kind)


def kind(session: Session) -> tuple[str, str]:
    """What photos are for the prior that was chosen last (see `compute.kind_of`)."""
    return compute.kind_of(priors.checked(session.prior))


def stale(session: Session) -> list[Photo]:
    """The photos that were read for another kind of prior than the one that is chosen now."""
    if not session.photos:
        return []
    wanted, _ = kind(session)
    return [photo for photo in session.photos if photo.kind != wanted]


def read_again(session: Session, stop_file: str) -> Generator[Progress, None, None]:
    """Read the stale photos as the chosen prior needs them; where there are none, nothing happens.

    Raises My3DGenError where an original is gone, where it was stopped, and where no photo is usable now.
    """
    old, (wanted, _) = stale(session), kind(session)
    if not old:
        return
    originals = [photo.original for photo in old]
    if not all(isinstance(original, bytes) or Path(original).is_file() for original in originals):
        raise My3DGenError(
            f"The photos were read for another prior than {priors.checked(session.prior)!r} and are no longer on "
            "the server; choose the prior first and then add them again."
        )
    work = stream.run(lambda progress: compute.prepare(originals, progress, wanted), stop_file)
    faces = yield from reports(session, work)
    if Path(stop_file).exists():
        raise My3DGenError(STOPPED)
    read = of_faces(faces, originals, wanted)
    new = {before.id: replace(after, name=before.name) for before, after in zip(old, read, strict=True)}
    with session.lock:  # photos that came or went meanwhile stay as they are
        session.photos = compared([new.get(photo.id, photo) for photo in session.photos])
    if not session.accepted():
        raise My3DGenError(refusals(session.photos))


def compared(photos: list[Photo]) -> list[Photo]:
    """The photos with a warning where one seems to show someone else than the rest."""
    faces = compute.compare_people([photo.face for photo in photos])
    return [replace(photo, face=face) for photo, face in zip(photos, faces, strict=True)]


def refusals(photos: Sequence[Photo]) -> str:
    """Why none of these photos can be used, in a sentence."""
    reasons = "; ".join(f"{photo.name}: {photo.face.refused}" for photo in photos[:3])
    return f"None of the {len(photos)} photos can be used ({reasons})." if len(photos) > 1 else reasons


def angles(face: Any) -> tuple[float, float]:
    """Yaw and pitch of a face's camera in degrees (see cameras.camera for the signs)."""
    from my3dgen import cameras

    yaw, pitch, _ = cameras.angles(face.camera)
    return math.degrees(yaw), math.degrees(pitch)


def notes(session: Session) -> list[str]:
    """What to say about the usable photos as a set, a sentence each."""
    from my3dgen.faces import set_warnings

    said = set_warnings([photo.face for photo in session.photos])
    wanted, how = kind(session) if session.photos else ("", "")
    return [how, *said] if how and all(photo.kind == wanted for photo in session.photos) else said


def report(session: Session) -> dict[str, Any]:
    """The JSON of /prepare."""
    accepted, refused = [], []
    for photo in session.photos:
        if photo.face.refused is not None:
            refused.append({"source": photo.name, "reason": photo.face.refused})
            continue
        yaw, pitch = angles(photo.face)
        accepted.append(
            {
                "source": photo.name,
                "camera": [round(float(value), 6) for value in photo.face.camera],
                "yaw_degrees": round(yaw, 1),
                "pitch_degrees": round(pitch, 1),
                "warnings": list(photo.face.warnings),
            }
        )
    return {
        "accepted": accepted,
        "refused": refused,
        "notes": notes(session),
        "example": session.example,
    }


def gallery(session: Session) -> list[tuple[str, str]]:
    """The crops of the usable photos (paths of PNG files) with their names."""
    photos = session.accepted()
    paths = session.save_newest("gallery", (("crop", photo.face.image) for photo in photos), most=2)
    return [(path, photo.name) for path, photo in zip(paths, photos, strict=True)]
