"""Glasses as geometry: two rims, a bridge and temples, bent from tubes."""

from __future__ import annotations

import numpy as np

from my3dgen.pretraining.grids import grid_faces

SIDES = 7  # corners of a tube's cross-section
THINNEST = 0.03  # cm: below this radius glasses are not drawn


def tube(path: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """A tube along path [P, 3]: vertices [P * (SIDES + 1), 3] and faces [T, 3]."""
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    up = np.where(np.abs(along[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])
    side = np.cross(along, up)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    other = np.cross(side, along)
    angle = np.linspace(0, 2 * np.pi, SIDES + 1)
    ring = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * other[:, None]
    vertices = path[:, None] + radius * ring
    return vertices.reshape(-1, 3).astype(np.float32), grid_faces(len(path), SIDES + 1)


def normals(vertices: np.ndarray) -> np.ndarray:
    """Of a tube's vertices [P * (SIDES + 1), 3]: unit vectors away from the middle of each cross-section, same shape."""
    rings = vertices.reshape(-1, SIDES + 1, 3)
    away = rings - rings[:, :-1].mean(1, keepdims=True)  # the last corner is the first one once more
    return (away / np.linalg.norm(away, axis=2, keepdims=True)).reshape(-1, 3)


def glasses(person, landmarks: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tubes (vertices [N, 3] cm, faces [T, 3]) of a person's glasses; none where they wear none.

    Args:
        landmarks: [68, 3] of the head in cm.
    """
    radius = person.glasses
    if radius < THINNEST:
        return []
    size = person.glasses_size
    angle = np.linspace(0, 2 * np.pi, 33)
    parts = []
    for sign, eye in ((-1, landmarks[36:42].mean(0)), (1, landmarks[42:48].mean(0))):
        centre = eye + np.array([0.12 * sign, -0.25, 1.75])
        # a rounded square (superellipse) that bends back towards the temple
        dx = 2.45 * size * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** 0.7
        dy = 1.85 * size * np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** 0.7
        bend = -0.09 * np.maximum(dx * sign + 1.0, 0) ** 2
        parts.append(tube(centre + np.stack([dx, dy, bend], 1), radius))
        outer = centre + np.array([2.45 * size * sign, 0.75, -0.09 * (2.45 * size + 1) ** 2])
        ear = np.array([sign * (abs(landmarks[0 if sign < 0 else 16, 0]) + 0.5), eye[1] + 0.4, -0.8])
        t = np.linspace(0, 1, 12)[:, None]
        parts.append(tube(outer + (ear - outer) * t + np.array([0.5 * sign, 0, 0]) * t * (1 - t), radius))
    left = landmarks[36:42].mean(0) + np.array([-0.12 + 2.45 * size, 0.3, 1.6])
    right = landmarks[42:48].mean(0) + np.array([0.12 - 2.45 * size, 0.3, 1.6])
    t = np.linspace(0, 1, 12)[:, None]
    arch = np.array([0, 0.35, max(landmarks[27, 2] + 0.5 - left[2], 0.0)])
    parts.append(tube(left + (right - left) * t + arch * (4 * t * (1 - t)), radius))
    return parts
