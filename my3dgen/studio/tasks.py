"""What is done with a model: looking around, and the tasks that compare it with the pretrained prior."""

from __future__ import annotations

import json
import secrets
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from my3dgen.errors import My3DGenError
from my3dgen.progress import Progress
from my3dgen.studio import compute
from my3dgen.studio.jobs import number, reports, running, whole
from my3dgen.studio.pictures import png
from my3dgen.studio.service import MOST_STEPS, REGISTRY
from my3dgen.studio.session import Model, Session

NO_PHOTO = "There is no photo yet: drop one, take one or pick a held-out example photo."


@dataclass(frozen=True)
class ViewGrid:
    """Which cameras the viewer turns through."""

    yaws: tuple[float, ...] = tuple(round(-0.5 + 0.125 * i, 3) for i in range(9))  # radians, left to right
    pitches: tuple[float, ...] = (-0.3, -0.15, 0.0, 0.15, 0.3)  # radians, from below to above
    limit: float = 0.35  # beyond this the prior was not trained to look right
    chunk: int = 3  # views rendered between two messages to the page

    def batches(self) -> list[tuple[int, tuple[int, ...]]]:
        """(row, columns) in the order of rendering: the front view, its row, then rows further off."""
        middle, centre = len(self.pitches) // 2, len(self.yaws) // 2
        columns = sorted(range(len(self.yaws)), key=lambda column: abs(column - centre))
        rows = sorted(range(len(self.pitches)), key=lambda row: abs(row - middle))
        batches: list[tuple[int, tuple[int, ...]]] = [(middle, (centre,))]
        for row in rows:
            rest = [column for column in columns if (row, column) != (middle, centre)]
            batches += [(row, tuple(rest[i : i + self.chunk])) for i in range(0, len(rest), self.chunk)]
        return batches


GRID = ViewGrid()


def views(session: Session, model: Model, anchor: int, encode: Callable[[np.ndarray], str]) -> Iterator[dict]:
    """The viewer's value, growing: {"key", "yaws", "pitches", "limit", "total", "pretrained":
    {"row_column": uri}, "personalized": {the same}}. `encode` makes a URI of uint8 [H, W, 3]."""
    anchor = whole("anchor", anchor, 0, len(model.adapter.anchors.ws) - 1)
    key = f"{model.id}/{anchor}"
    if key in session.views:
        yield session.views[key]
        return
    batches = GRID.batches()
    value: dict[str, Any] = {
        "key": secrets.token_hex(8),
        "yaws": list(GRID.yaws),
        "pitches": list(GRID.pitches),
        "limit": GRID.limit,
        "total": len(GRID.yaws) * len(GRID.pitches),
        "pretrained": {},
        "personalized": {},
    }
    pictures = compute.views(
        model.prior,
        model.adapter,
        anchor,
        [([GRID.yaws[column] for column in columns], [GRID.pitches[row]]) for row, columns in batches],
    )
    for (row, columns), rendered in zip(batches, pictures, strict=True):
        session.touch()
        value = dict(value)
        for name, pixels in rendered.items():
            value[name] = value[name] | {
                f"{row}_{column}": encode(pixels[0, i]) for i, column in enumerate(columns)
            }
        yield value
    if not session.deleted:
        session.remember_views(key, value)


def render(session: Session, model: Model, anchor: float, yaw: float, pitch: float) -> dict[str, Any]:
    """One view of both models: {"pretrained": uint8 [H, W, 3], "personalized": ..., "report": JSON}."""
    anchor = whole("anchor", anchor, 0, len(model.adapter.anchors.ws) - 1)
    yaw, pitch = number("yaw", yaw, -1.0, 1.0), number("pitch", pitch, -0.8, 0.8)
    (pictures,) = compute.views(model.prior, model.adapter, anchor, [([yaw], [pitch])])
    report = {
        "prior": model.prior,
        "anchor": anchor,
        "yaw": yaw,
        "pitch": pitch,
        "extrapolation": max(abs(yaw), abs(pitch)) > GRID.limit,
    }
    return {name: pixels[0, 0] for name, pixels in pictures.items()} | {"report": report}


def invert(
    session: Session, model: Model, photo: str | None, steps: float | None, tuning_steps: float
) -> Iterator[Progress | Any]:
    """A new photo in both models; yields reports and at last my3dgen's Comparison."""
    if not photo:
        raise My3DGenError(NO_PHOTO)
    steps = whole("steps", steps or 0, 0, MOST_STEPS) or None
    tuning_steps = whole("tuning steps", tuning_steps or 0, 0, MOST_STEPS)
    REGISTRY.owns_uploads(session, [photo])
    (face,) = compute.prepare([photo])
    if face.refused is not None:
        raise My3DGenError(face.refused)
    with running(session, "invert") as stop_file:
        faces = list(model.faces)
        stream = compute.invert(model.prior, model.adapter, face, faces, steps, tuning_steps, stop_file)
        yield (yield from reports(session, stream))


def comparison_report(comparison: Any, prior: str) -> dict[str, Any]:
    """The JSON of a task."""
    sides = {side: getattr(comparison, side) for side in ("pretrained", "personalized")}
    return {"prior": prior, "networks": compute.networks()} | {
        side: {name: round(float(value), 4) for name, value in result.figures.items()}
        for side, result in sides.items()
    }


def comparison_archive(session: Session, comparison: Any, report: dict[str, Any]) -> str:
    """A ZIP of the input, every picture of both models and the figures; returns its path."""
    path = session.new_path("my3dgen-inversion.zip")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("input.png", png(comparison.input))
        for side in ("pretrained", "personalized"):
            for name, picture in getattr(comparison, side).images.items():
                archive.writestr(f"{side}/{name}.png", png(picture))
        archive.writestr("figures.json", json.dumps(report, indent=2))
    return path
