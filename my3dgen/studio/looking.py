"""Looking at a model from all sides, and taking it away as a file."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from my3dgen.errors import My3DGenError, number, whole
from my3dgen.progress import Progress
from my3dgen.studio import compute
from my3dgen.studio.figures import SIDES
from my3dgen.studio.jobs import one_of, reports, running
from my3dgen.studio.session import Model, Session

FORMATS = ("glb", "ply", "mp4", "png")
RESOLUTIONS = (32, 256)  # samples along a side of the mesh's box
TURN = (12, 240)  # frames of a turntable


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
DEPTH_GRID = ViewGrid(pitches=(0.0,))  # depth costs more than colour


def views(
    session: Session, model: Model, anchor: int, encode: Callable[[np.ndarray], str], depth: bool = False
) -> Iterator[dict]:
    """The viewer's value, growing: {"key", "yaws", "pitches", "limit", "total", "pretrained":
    {"row_column": uri}, "personalized": {the same}}. `encode` makes a URI of uint8 [H, W, 3]; `depth` shows
    how far things are instead of their colour."""
    anchor = whole("anchor", anchor, 0, len(model.adapter.anchors.ws) - 1)
    key = f"{model.id}/{anchor}/{'depth' if depth else 'colour'}"
    if key in session.views:
        yield session.views[key]
        return
    grid = DEPTH_GRID if depth else GRID
    batches = grid.batches()
    value: dict[str, Any] = {
        "key": secrets.token_hex(8),
        "yaws": list(grid.yaws),
        "pitches": list(grid.pitches),
        "limit": grid.limit,
        "total": len(grid.yaws) * len(grid.pitches),
        "pretrained": {},
        "personalized": {},
    }
    pictures = (compute.depths if depth else compute.views)(
        model.prior,
        model.adapter,
        anchor,
        [([grid.yaws[column] for column in columns], [grid.pitches[row]]) for row, columns in batches],
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


@dataclass(frozen=True)
class Exported:
    """What an export made."""

    files: dict[str, str]  # paths by format
    stopped: bool  # whether the visitor stopped it: formats may be missing, and a film may be short


def export(
    session: Session,
    model: Model,
    kinds: list[str],
    anchor: float,
    resolution: float = 128,
    frames: float = 60,
    yaw: float = 0.0,
    pitch: float = 0.0,
    side: str = "personalized",
) -> Iterator[Progress | Exported]:
    """Files of one anchor's face; yields reports and at last what was made."""
    if not kinds:
        raise My3DGenError(f"No format was chosen; choose one of: {', '.join(FORMATS)}.")
    options = {
        "anchor": whole("anchor", anchor, 0, len(model.adapter.anchors.ws) - 1),
        "resolution": whole("resolution", resolution, *RESOLUTIONS),
        "frames": whole("frames", frames, *TURN),
        "yaw": number("yaw", yaw, -1.0, 1.0),
        "pitch": number("pitch", pitch, -0.8, 0.8),
    }
    kinds = [one_of("format", kind, FORMATS) for kind in kinds]
    folder = str(Path(session.new_path("face")).parent)
    with running(session, "export") as stop_file:
        arguments = (model.prior, model.adapter, one_of("model", side, tuple(SIDES)), kinds, folder, options)
        made = yield from reports(session, compute.export(*arguments, stop_file))
        stopped = Path(stop_file).exists()
    for kind, path in made.items():
        session.keep_newest(f"{side} {kind}", [path], most=2)
    yield Exported(made, stopped)
