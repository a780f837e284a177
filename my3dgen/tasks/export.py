"""What a face leaves the app as: mesh, film, picture, depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from my3dgen.errors import My3DGenError, whole
from my3dgen.progress import ProgressCallback
from my3dgen.tasks.look import front, render_view
from my3dgen.tasks.mesh import RESOLUTIONS, behind, find_wall, mesh, seen, write_mesh
from my3dgen.tasks.video import FRAMES, turntable, write_video
from my3dgen.writing import write_picture

# format -> the file's name in the folder
FILES = {
    "glb": "face.glb",
    "ply": "face.ply",
    "mp4": "turntable.mp4",
    "png": "view.png",
    "depth": "depth.png",
}
DEPTH_SIDE = 128  # of the volume render behind a depth picture, at least; its cost grows with the square
NEAR, FAR = (
    -0.38,
    0.22,
)  # the colours' range about the middle of the head, in boxes from there; fixed, so that ...
NEUTRAL = 236  # ... frames of a film and two people compare; grey of what is not the person
MARGIN = 0.12  # of the box: at outlines, depths are blends of head and wall


def export(
    prior,
    ws: Tensor | None = None,
    formats: Sequence[str] = ("glb", "ply", "mp4", "png"),
    out: str | Path = "export",
    anchor: int = 0,
    resolution: int = 128,
    frames: int = 60,
    yaw: float = 0.0,
    pitch: float = 0.0,
    progress: ProgressCallback | None = None,
) -> dict[str, Path]:
    """Write a face in the formats asked for.

    Args:
        prior: a Prior, personalized or not.
        ws: [L, w_dim], the face; None takes an anchor of the personalized prior.
        formats: of "glb" and "ply" (mesh), "mp4" (turntable), "png" (one view), "depth" (its depth as a picture).
        out: folder, made where missing. Files in it of the same names are replaced.
        anchor: which anchor where ws is None.
        resolution: of the mesh, samples along a side.
        frames: of the turntable.
        yaw, pitch: the view of "png" and "depth", radians as `camera` takes them.
        progress: stages "mesh" and "film". False keeps what there is: files written so far, and the film as
            far as it went.

    Returns:
        {format: path}, for those that were written.

    Raises:
        My3DGenError: for unknown formats, a missing face, values out of range, or an unwritable folder.
    """
    wanted = list(dict.fromkeys([formats] if isinstance(formats, str) else formats))
    unknown = [name for name in wanted if name not in FILES]
    if unknown or not wanted:
        got = ", ".join(repr(str(name)[:20]) for name in unknown[:4]) or "none"
        raise My3DGenError(f"The formats of an export are {', '.join(FILES)}; got {got}.")
    if {"glb", "ply"} & set(wanted):
        resolution = whole("resolution", resolution, *RESOLUTIONS)
    if "mp4" in wanted:
        frames = whole("frames", frames, *FRAMES)
    ws = _face(prior, ws, anchor)
    folder, written = Path(out), {}
    paths = {name: folder / FILES[name] for name in wanted}
    listener = _Listener(progress)
    # quick things first: whoever stops the film has them
    if "png" in paths:
        written["png"] = write_picture(render_view(prior, ws, yaw, pitch), paths["png"])
    if "depth" in paths:
        written["depth"] = write_picture(depth_picture(prior, ws, front(prior, yaw, pitch)), paths["depth"])
    shapes = [name for name in ("glb", "ply") if name in paths]
    if shapes:
        try:
            surface = mesh(prior, ws, resolution, progress=listener)
        except My3DGenError:
            if not listener.stopped:
                raise
            return written
        written |= {name: write_mesh(surface, paths[name]) for name in shapes}
    if "mp4" in paths:
        written["mp4"] = write_video(paths["mp4"], turntable(prior, ws, frames, progress=listener))
    return written


@torch.no_grad()
def depth_picture(prior, ws: Tensor, camera: Tensor, planes: Tensor | None = None) -> np.ndarray:
    """Depth as colours, near in yellow, far in violet, on a light grey ground; uint8 [H, W, 3].

    ws [L, w_dim], camera [25]. planes: from `generator.planes`, where many views of one face are wanted.
    The size is that of the prior's pictures. What lies on the wall behind the head, or where the render is
    less than half opaque, is ground.
    """
    prior.require_latent(ws)
    box = prior.config.box_warp
    if planes is None:
        planes = prior.generator.planes(ws[None].to(prior.device))
    side = max(DEPTH_SIDE, prior.config.neural_resolution)
    points, depth, opacity = seen(prior, planes, camera[None].to(prior.device), side)
    person = ~behind(points, find_wall(prior, planes), MARGIN * box) & (opacity > 0.5)
    share = (depth - prior.config.camera_radius) / box
    value = 1 - np.clip((share - NEAR) / (FAR - NEAR), 0, 1)
    colour = cv2.applyColorMap((value * 255).astype(np.uint8), cv2.COLORMAP_PLASMA)[..., ::-1]
    # Colours run a little past the outline before they are enlarged, so that no grey bleeds into them.
    grown = cv2.dilate(np.where(person[..., None], colour, 0).astype(np.uint8), np.ones((5, 5), np.uint8))
    colour = np.where(person[..., None], colour, grown).astype(np.float32)
    size = (prior.config.output_resolution,) * 2
    colour = cv2.resize(colour, size, interpolation=cv2.INTER_LINEAR)
    mask = cv2.resize(cv2.GaussianBlur(person.astype(np.float32), (0, 0), 0.7), size)[..., None]
    return np.clip(colour * mask + NEUTRAL * (1 - mask) + 0.5, 0, 255).astype(np.uint8)


class _Listener:
    """Passes reports on and remembers whether the caller asked to stop."""

    def __init__(self, callback: ProgressCallback | None):
        self.callback, self.stopped = callback, False

    def __call__(self, report) -> bool:
        if self.callback is not None and self.callback(report) is False:
            self.stopped = True
        return not self.stopped


def _face(prior, ws: Tensor | None, anchor: int) -> Tensor:
    """The latent to export [L, w_dim]."""
    if ws is None:
        if prior.anchors is None:
            raise My3DGenError(
                "There is no face to export: give ws (an anchor of the person, or the ws of a result), or use a "
                "personalized prior."
            )
        anchors = prior.anchors
        if not 0 <= anchor < len(anchors):
            raise My3DGenError(
                f"There is no anchor {anchor}; this person has {len(anchors)}, counted from 0."
            )
        return anchors.ws[anchor]
    prior.require_latent(ws)
    return ws
