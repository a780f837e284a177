"""The photo a task works on: chosen once, offered in every task's tab, prepared once."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from my3dgen.errors import My3DGenError
from my3dgen.studio import compute, examples, photo_set
from my3dgen.studio.service import REGISTRY
from my3dgen.studio.session import Session

NO_PHOTO = "There is no photo yet: drop one, take one or pick a held-out example photo."
EXPIRED = "The photo is no longer on the server; choose it again."


def choose(session: Session, photo: str | None) -> None:
    """Remember an uploaded photo (or that there is none any more) for the other tabs."""
    if photo:
        REGISTRY.owns_uploads(session, [photo])
    session.photo = photo or None


def offered(session: Session) -> str | None:
    """The photo that was chosen last, if it is still there."""
    return session.photo if session.photo and Path(session.photo).is_file() else None


def held_out(session: Session) -> examples.Example | None:
    """The example person whose held-out photos suit the session."""
    return examples.named(session.example) if session.example else None


def held_out_file(session: Session, index: Any) -> str | None:
    """A held-out photo of the example person; the client names its place in the list."""
    person = held_out(session)
    place = {str(i): path for i, path in enumerate(person.tests)} if person else {}
    source = place.get(str(index))
    # A file of the session's own keeps its name when the page hands it back.
    return shutil.copy(source, session.new_path(Path(source).name)) if source else None


def digest(session: Session, photo: str | None) -> str:
    """A name for a photo's content. Raises My3DGenError where there is no photo."""
    if not photo:
        raise My3DGenError(NO_PHOTO)
    REGISTRY.owns_uploads(session, [photo])
    try:
        return hashlib.sha256(Path(photo).read_bytes()).hexdigest()
    except OSError:
        raise My3DGenError(EXPIRED) from None


def face(session: Session, photo: str | None, prior: str | None = None) -> Any:
    """The photo as my3dgen's Face for a prior (None: the chosen model's), prepared once a session for each kind.

    Raises My3DGenError where it cannot be used.
    """
    if prior is None and (model := session.model()) is not None:
        prior = model.prior
    kind, _ = photo_set.kind(session) if prior is None else compute.kind_of(prior)
    key = f"{kind} {digest(session, photo)}"
    found = session.prepared.get(key)
    if found is None:
        (found,) = compute.prepare([photo], kind=kind)
        if found.refused is not None:
            raise My3DGenError(found.refused)
        session.remember_face(key, found)
    return found


def mask_on_crop(found: Any, mask: str) -> np.ndarray:
    """A mask that came as a picture, on the crop of the photo's face, by the rule of `my3dgen.inpaint`: bool [512, 512]."""
    from my3dgen.faces.regions import painted_mask

    return painted_mask(mask, found, crop_first=False)


def region_mask(session: Session, photo: str | None, region: str) -> tuple[np.ndarray, np.ndarray]:
    """A photo's crop, uint8 [512, 512, 3], and a part of its face, bool [512, 512]."""
    found = face(session, photo)
    return found.image, compute.region_mask(found, region)
