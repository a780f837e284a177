"""Between two moments of a person: a straight walk through W, with identity along the way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial.transform import Rotation, Slerp
from torch import Tensor

from my3dgen.cameras import from_pose, look_at_sampler, split
from my3dgen.errors import My3DGenError, whole
from my3dgen.evaluation.metrics import embed
from my3dgen.faces import Face
from my3dgen.personal.anchors import Anchors
from my3dgen.personal.slices import clock
from my3dgen.progress import ProgressCallback, Ticker
from my3dgen.tasks.edit import reconstruct
from my3dgen.tasks.look import front, render_views
from my3dgen.tasks.result import TaskResult, known_faces, networks
from my3dgen.tasks.whose import anchors_or_strangers

# identity is measured on the picture itself and from these sides (look-at sampler values; My3DGen's)
SIDES = ((-0.35, 0.0), (0.35, 0.0))
MOST = 600  # pictures in one walk


def interpolate(
    prior,
    start=None,
    end=None,
    steps: int = 10,
    anchors: Anchors | None = None,
    cameras: bool = False,
    video_frames: int = 0,
    progress: ProgressCallback | None = None,
    references: Sequence[Face] | None = None,
    fit_steps: int | None = None,
) -> TaskResult:
    """Walk from one moment to another: w = (1 - t) w_start + t w_end at equally spaced t.

    Args:
        start, end: a photo (Face or anything `prepare` reads) or the number of an anchor; without both, the two
            anchors farthest apart.
        steps: pictures in the strip, 2 to 600.
        anchors: the person's, for a prior without an adapter; with the same ones both priors walk the same path. Without
            both, the way is from one random face to another.
        cameras: also walk from one photo's camera to the other's; otherwise everything is seen from the front.
        video_frames: more than 0: `frames` are so many pictures for a film instead of the strip's.
        references: the person's photos for the identity score; without them the photos given as start and end,
            or else the two ends as this prior shows them.
        fit_steps: of the fit of photos; None takes the prior's default.

    Returns:
        TaskResult: "image" (the strip in one picture), `frames` (the strip's pictures, or the film's); extra["t"]
        and extra["id_sims"] (mean over the picture and two sides at each t of the strip), extra["ends"] (numbers
        of the anchors, None for photos), and, where these were chosen, extra["anchors"] (as `synthesize`); ws and
        camera of the middle. figures: id_sim (mean over t), seconds.

    Raises:
        My3DGenError: where only one end is given, there are no two anchors to choose, or a number makes no sense.
    """
    begin, known = clock(), known_faces(references)
    steps, video_frames = whole("steps", steps, 2, MOST), whole("video_frames", video_frames, 0, MOST)
    whose = None
    if start is None and end is None:
        anchors, whose = anchors_or_strangers(prior, anchors)
        start, end = farthest(anchors)
    elif start is None or end is None:
        raise My3DGenError("interpolation needs two moments; give both start and end, or neither")
    faces, ws, seen = zip(
        *(reconstruct(prior, x, fit_steps, progress, anchors) for x in (start, end)), strict=True
    )
    at = [float(t) for t in np.linspace(0, 1, steps)]
    path = [((1 - t) * ws[0] + t * ws[1], _camera(prior, seen, t, cameras)) for t in at]
    film = np.linspace(0, 1, video_frames) if video_frames else ()
    ticker = Ticker("interpolate", len(path) + len(film), progress)
    pivot = prior.config.camera_pivot
    sides = [look_at_sampler(y, p, pivot=pivot) for y, p in SIDES]
    views, frames, done, going = [], [], 0, True
    for w, c in path:
        views.append(list(render_views(prior, w, [c, *sides])))
        done += 1
        going = ticker.tick(done, preview=views[-1][0])
        if not going:
            break
    for t in film if going else ():  # what was stopped keeps its strip
        w = (1 - float(t)) * ws[0] + float(t) * ws[1]
        frames += render_views(prior, w, [_camera(prior, seen, float(t), cameras)])
        done += 1
        if not ticker.tick(done, preview=frames[-1]):
            break
    strip = [v[0] for v in views]
    against = known or [f for f in faces if f is not None]
    photos = bool(against)
    e = embed(against or [strip[0], strip[-1]])
    sims = [float((embed(v) @ e.T).max(1).values.mean()) for v in views]
    extra = {
        "t": at[: len(views)],
        "id_sims": [round(s, 4) for s in sims],
        "ends": [int(x) if f is None else None for x, f in zip((start, end), faces, strict=True)],
        "references": "photos" if photos else "ends",
    } | ({"anchors": whose} if whose else {})
    figures = {"id_sim": float(np.mean(sims)), "seconds": round(clock() - begin, 2)}
    middle = path[len(views) // 2]
    return TaskResult(
        {"image": np.concatenate(strip, 1)},
        figures,
        *middle,
        networks(figures),
        tuple(frames or strip),
        extra,
    )


def farthest(anchors: Anchors) -> tuple[int, int]:
    """Numbers of the two anchors farthest apart in W."""
    if len(anchors) < 2:
        raise My3DGenError(f"interpolation needs two anchors; there is {len(anchors)}. Give two photos")
    distance = torch.cdist(*(anchors.ws.flatten(1).double(),) * 2)
    first, second = divmod(int(distance.argmax()), len(anchors))
    return min(first, second), max(first, second)


def _camera(prior, ends: Sequence[Tensor], t: float, moving: bool) -> Tensor:
    return between(*ends, t) if moving else front(prior)


def between(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The camera [25] at t in 0..1 of the way from a to b: it turns evenly and keeps its distance from the head."""
    (pose_a, _), (pose_b, _) = split(a.double()), split(b.double())
    origins = [pose[:3, 3].numpy() for pose in (pose_a, pose_b)]
    origin = (1 - t) * origins[0] + t * origins[1]
    far = (1 - t) * np.linalg.norm(origins[0]) + t * np.linalg.norm(origins[1])
    origin = origin * far / max(np.linalg.norm(origin), 1e-9)
    turns = Rotation.from_matrix(np.stack([pose[:3, :3].numpy() for pose in (pose_a, pose_b)]))
    c = from_pose(Slerp([0, 1], turns)(t).as_matrix(), origin)
    c[16:] = ((1 - t) * a[16:] + t * b[16:]).to(c)  # intrinsics are the same in all but odd files
    return c
