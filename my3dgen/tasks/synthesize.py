"""New looks of a person: points of their hull that no photo shows, from views that no photo has."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from my3dgen.cameras import look_at_sampler
from my3dgen.errors import My3DGenError, number, whole
from my3dgen.evaluation.metrics import identity_similarity, perceptual_network
from my3dgen.evaluation.sheets import grid
from my3dgen.faces import Face
from my3dgen.models.perceptual import PerceptualDistance
from my3dgen.personal.anchors import Anchors
from my3dgen.personal.images import from_uint8
from my3dgen.progress import ProgressCallback, Ticker
from my3dgen.tasks.look import front, render_views
from my3dgen.tasks.result import TaskResult, known_faces, networks
from my3dgen.tasks.whose import anchors_or_strangers

RULES = ("dirichlet", "three")
MOST = 1000  # pictures at once, the paper's number
YAW, PITCH = 0.35, 0.25  # widest novel views (look-at sampler values; My3DGen's)
MIXED = 3.0  # about so many anchors share in a sample under either rule
COMPARED_AT = 128  # side of the pictures in the diversity, pixels
KEPT_FEATURES = 256  # pictures whose features are kept at a time: 2 MB each
MOST_PAIRS = 2000  # of pictures that the diversity compares; of more pairs, every so manieth


def synthesize(
    prior,
    count: int = 6,
    seed: int = 0,
    rule: str = "dirichlet",
    strength: float = 1.0,
    anchors: Anchors | None = None,
    yaw: float | None = None,
    progress: ProgressCallback | None = None,
    references: Sequence[Face] | None = None,
) -> TaskResult:
    """Sample the convex hull of a person's anchors.

    Args:
        count: pictures, 1 to 1000.
        seed: the same seed gives the same looks and views on every prior.
        rule: "three" is the published one: three random anchors with uniform weights divided by their sum.
            "dirichlet" lets all anchors share, about three of them noticeably.
        strength: 0 shows the mean of the anchors, 1 the samples, between them a mixture; 0 to 1.
        anchors: the person's, for a prior without an adapter; without both, random faces are mixed.
        yaw: radians, as `camera` takes it: all from there. None: each from a random novel view.
        references: the person's photos for the identity score; without them the mean of the anchors from the
            front, as this prior shows it.

    Returns:
        TaskResult: `frames` (the pictures), "image" (all in a grid); extra["weights"] [count][N] and
        extra["anchors"] ("the person's" or "random faces"); ws and camera of the first. figures: id_sim (mean),
        diversity and diversity_std (mean and spread of the perceptual distance, by the network that `networks` names,
        between every two pictures; 0 for a single one), seconds.

    Raises:
        My3DGenError: where a number or the rule makes no sense, or the anchors belong to another prior.
    """
    start = time.monotonic()
    count, seed = whole("count", count, 1, MOST), whole("seed", seed)
    against = known_faces(references)
    known, whose = anchors_or_strangers(prior, anchors)
    rng = np.random.default_rng(seed)
    alpha = weights(len(known), count, rng, rule, strength)
    views = rng.uniform(-1, 1, (count, 2)) * (YAW, PITCH)  # drawn also where yaw is given
    latents = torch.einsum("kn,nlw->klw", torch.from_numpy(alpha).float(), known.ws)
    pivot = prior.config.camera_pivot
    if yaw is None:
        cameras = [look_at_sampler(y, p, pivot=pivot) for y, p in views]
    else:
        cameras = [front(prior, yaw)] * count
    ticker, frames = Ticker("synthesize", count, progress), []
    for w, c in zip(latents, cameras, strict=True):
        frames += render_views(prior, w, [c])
        if not ticker.tick(len(frames), preview=frames[-1]):
            break
    photos = bool(against)
    if not photos:
        against = list(render_views(prior, known.ws.mean(0), [front(prior)]))
    mean, spread = diversity(frames)
    figures = {
        "id_sim": identity_similarity(frames, against),
        "diversity": mean,
        "diversity_std": spread,
        "seconds": round(time.monotonic() - start, 2),
    }
    extra = {
        "weights": [[round(float(x), 4) for x in row] for row in alpha[: len(frames)]],
        "rule": rule,
        "anchors": whose,
        "references": "photos" if photos else "the anchors' mean",
    }
    sheet = grid(frames, min(len(frames), max(3, round(len(frames) ** 0.5))))
    return TaskResult(
        {"image": sheet}, figures, latents[0], cameras[0], networks(figures), tuple(frames), extra
    )


def weights(anchors: int, count: int, rng: np.random.Generator, rule: str, strength: float) -> np.ndarray:
    """Random weights [count, anchors] of the anchors, none negative, each row's sum 1.

    Raises:
        My3DGenError: for an unknown rule, or a strength outside 0..1.
    """
    if rule not in RULES:
        raise My3DGenError(f"no rule {rule!r}; the rules are {', '.join(RULES)}")
    strength = number("strength", strength, 0, 1)
    if rule == "dirichlet":
        alpha = rng.dirichlet(np.full(anchors, min(1.0, MIXED / anchors)), count)
    else:
        alpha = np.zeros((count, anchors))
        for row in alpha:
            chosen = rng.permutation(anchors)[: int(MIXED)]
            row[chosen] = rng.uniform(1e-6, 1, len(chosen))
            row /= row.sum()
    return (1 - strength) / anchors + strength * alpha


@torch.no_grad()
def diversity(pictures: Sequence[np.ndarray]) -> tuple[float, float]:
    """Mean and standard deviation of the perceptual distance between every two pictures (at most `MOST_PAIRS`).

    The network is the one behind every perceptual figure: LPIPS where it is on this computer, else our own.
    """
    pairs = [(i, j) for j in range(len(pictures)) for i in range(j)]
    if not pairs:
        return 0.0, 0.0
    pairs = [pairs[k] for k in np.linspace(0, len(pairs) - 1, min(len(pairs), MOST_PAIRS)).astype(int)]
    distance, small = perceptual_network(), [_small(p) for p in pictures]
    if isinstance(distance, PerceptualDistance):  # much faster with each picture's features once
        features = lru_cache(KEPT_FEATURES)(lambda i: distance.features(small[i]))
        found = [float(distance.between(features(i), features(j))) for i, j in pairs]
    else:
        found = [float(distance(small[i], small[j])) for i, j in pairs]
    return float(np.mean(found)), float(np.std(found))


def _small(picture: np.ndarray) -> Tensor:
    size = (COMPARED_AT, COMPARED_AT)
    return torch.nn.functional.interpolate(
        from_uint8(picture)[None], size=size, mode="bilinear", antialias=True, align_corners=False
    )
