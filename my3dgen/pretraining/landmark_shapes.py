"""How the 68 landmarks of heads differ from one another: the small shape model behind `faces.pose`.

Writes `assets/face68.npz`: `mean [68, 3]` in EG3D's frame and `modes [K, 68, 3]`, one standard deviation
each. Made from the head model of `facekit`; run as `python -m my3dgen.pretraining.landmark_shapes`.
"""

from __future__ import annotations

import numpy as np

from my3dgen.faces.align import STANDARD_FIVE, five_points
from my3dgen.faces.face import MIRRORED_68
from my3dgen.pretraining import facekit, people
from my3dgen.writing import replacing

FLIP = np.array([-1.0, 1.0, 1.0])


def official_five() -> np.ndarray:
    """The five standard points in EG3D's world [5, 3] (its data preparation), made symmetric."""
    five = 0.27 * STANDARD_FIVE + [0.0, 0.006, 0.161]
    return (five + five[[1, 0, 2, 4, 3]] * FLIP) / 2


def tilt(points: np.ndarray) -> np.ndarray:
    """Rotation [3, 3] about x that lays five points [5, 3] best onto the standard ones."""
    ours, theirs = (p - p.mean(0) for p in (points, official_five()))
    cross, along = ours[:, 1:].T @ theirs[:, 1:], np.zeros((3, 3))
    angle = np.arctan2(cross[0, 1] - cross[1, 0], cross[0, 0] + cross[1, 1])
    along[0, 0] = 1.0
    along[1:, 1:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return along


def sample_shapes(kit: facekit.FaceKit, count: int, seed: int = 0) -> np.ndarray:
    """Landmarks of random people with random expressions, each scaled and moved by its five points onto
    the standard ones (never turned, so that a head's own tilt stays part of its shape): [2 count, 68, 3],
    the second half mirrored. What age does to a face is left out: it makes poses no better."""
    rng = np.random.default_rng(seed)
    mean = kit.mean[kit.landmarks].astype(np.float64)
    identity = kit.identity.reshape(len(kit.identity), -1, 3)[:, kit.landmarks].astype(np.float64)
    expression = kit.expression.reshape(len(kit.expression), -1, 3)[:, kit.landmarks].astype(np.float64)
    turn, target = tilt(five_points(mean)), official_five()
    shapes = []
    for _ in range(count):
        person = people.decode(people.sample(rng))
        shape = mean + np.tensordot(person.shape, identity[: len(person.shape)], 1)
        shape = (shape + np.tensordot(kit.weights(**person.expression), expression, 1)) @ turn.T
        for version in (shape, shape[MIRRORED_68] * FLIP):
            five = five_points(version)
            spread = five - five.mean(0)
            scale = (spread * (target - target.mean(0))).sum() / (spread**2).sum()
            shapes.append((version - five.mean(0)) * scale + target.mean(0))
    return np.array(shapes)


def build(kit: facekit.FaceKit, modes: int = 24, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """mean [68, 3] and modes [K, 68, 3]; every mode is exactly symmetric or antisymmetric."""
    shapes = sample_shapes(kit, count)
    mean = shapes.mean(0)
    _, values, vectors = np.linalg.svd((shapes - mean).reshape(len(shapes), -1), full_matrices=False)
    found = (vectors[:modes] * values[:modes, None] / np.sqrt(len(shapes))).reshape(modes, 68, 3)
    flipped = found[:, MIRRORED_68] * FLIP
    sign = np.sign((found * flipped).sum((1, 2)))[:, None, None]
    return mean, (found + sign * flipped) / 2


def main(path: str = "assets/face68.npz") -> None:
    mean, modes = build(facekit.load())
    with replacing(path) as file:
        np.savez_compressed(
            file, mean=mean.round(5).astype(np.float32), modes=modes.round(5).astype(np.float32)
        )
    print(f"wrote {path}: {len(modes)} modes")


if __name__ == "__main__":
    main()
