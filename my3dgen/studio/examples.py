"""Example people: folders of photos that come with the app."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from my3dgen import layout
from my3dgen.errors import My3DGenError

FOLDER = Path(__file__).resolve().parents[2] / "examples"


@dataclass(frozen=True)
class Example:
    """One person: `examples/<name>/` with photo_*.jpg, test_*.jpg and about.json.

    Where there are `layout.ADAPTER` and `layout.FITTED` as well, the person has been personalized beforehand.
    """

    name: str
    title: str
    photos: tuple[str, ...]  # paths of the reference photos
    tests: tuple[str, ...]  # paths of the held-out photos
    adapter: str | None = None  # path of the adapter made from the reference photos with the default options
    fitted: dict[str, Any] = field(default_factory=dict)  # "seconds" and "id_sim" of that personalization


def listed() -> list[Example]:
    """All example people, by name; none where the folder is missing."""
    if not FOLDER.is_dir():
        return []
    people = [_read(folder) for folder in sorted(FOLDER.iterdir()) if folder.is_dir()]
    return [person for person in people if person.photos]


def named(name: Any) -> Example:
    """The example of this name; the name is looked up in the list, never used as a path."""
    people = {person.name: person for person in listed()}
    if name not in people:
        known = ", ".join(people) or "none are installed"
        raise My3DGenError(f"There is no example person called {str(name)[:40]!r}; choose one of: {known}.")
    return people[name]


def _read(folder: Path) -> Example:
    about, adapter = _table(folder / "about.json"), folder / layout.ADAPTER
    title = about.get("title") or about.get("name") or folder.name
    return Example(
        folder.name,
        str(title).capitalize(),
        _files(folder, "photo_*"),
        _files(folder, "test_*"),
        str(adapter) if adapter.is_file() else None,
        _table(folder / layout.FITTED),
    )


def _table(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


def _files(folder: Path, pattern: str) -> tuple[str, ...]:
    return tuple(
        str(path) for path in sorted(folder.glob(pattern)) if path.suffix.lower() in (".jpg", ".png")
    )


@functools.lru_cache(maxsize=64)
def thumbnail(path: str, side: int = 192) -> str:
    """A small JPEG of an example photo as a data URI."""
    from PIL import Image, ImageOps

    from my3dgen.studio.pictures import data_uri

    with Image.open(path) as image:
        return data_uri(np.asarray(ImageOps.fit(image.convert("RGB"), (side, side))), quality=82)
