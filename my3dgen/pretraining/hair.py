"""Hair as geometry: the scalp pushed outwards, a curtain for long hair, a fringe, a bun."""

from __future__ import annotations

import numpy as np

from my3dgen.pretraining.grids import grid_faces

# forehead hairline -> sideburn -> over the ear -> nape: height (cm) above which hair grows, by depth z (cm)
_Z = np.array([-10.0, -4.0, -2.2, -1.0, 0.5, 1.8, 2.7, 3.6, 5.0, 6.5, 8.0, 10.0, 14.0])
_Y = np.array([-6.5, -6.0, -4.0, 4.0, 5.6, 5.0, 1.8, 3.6, 7.0, 8.6, 9.6, 10.2, 10.4])

COLUMNS, ROWS = 72, 40


def growth(canonical: np.ndarray, hairline: float, bald: float) -> np.ndarray:
    """How far inside the hair a canonical point [N, 3] lies, in cm; negative outside."""
    x, y, z = canonical.T
    lift = hairline * np.clip((z - 3.5) / 3, 0, 1)
    inside = y - np.interp(z, _Z, _Y) - lift
    # a widow's peak and receding temples
    inside -= (
        np.clip(z - 5, 0, 3)
        / 3
        * (0.045 * (np.abs(x) - 2.5) ** 2 * (np.abs(x) > 2.5) * (0.4 + np.maximum(hairline, 0)))
    )
    ear = (np.abs(x) > 7.6) & (y < 5.2) & (z > -3.2) & (z < 3.0)
    inside = np.where(ear, np.minimum(inside, -0.5), inside)
    return np.where(bald > 0.02, np.minimum(inside, np.where(y > 7, 8 * (1 - bald) - 2, inside)), inside)


def _noise(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A fixed wavy field of about unit size (the same for everyone, so a prior can learn it)."""
    return (
        np.sin(2.1 * u + 1.3 * np.sin(0.9 * v))
        + 0.7 * np.sin(3.7 * u - 1.9 * v + 1.0)
        + 0.5 * np.sin(5.3 * v + 2.2 * np.sin(1.7 * u))
    ) / 1.5


def scalp_offset(canonical: np.ndarray, person) -> np.ndarray:
    """How far the scalp is pushed outwards, cm [N]."""
    inside = growth(canonical, person.hairline, person.bald)
    x, y, z = canonical.T
    edge = np.clip(inside / (1.3 + 0.35 * person.afro), 0, 1)
    edge = edge * edge * (3 - 2 * edge)
    top = np.clip((y - 7.5) / 6, 0, 1) * person.hair_top
    parting = 0.35 * np.exp(-(((x - person.hair_part) / 0.5) ** 2)) * np.clip((y - 9) / 3, 0, 1)
    curl = person.hair_curl * (0.55 + 0.28 * _noise(1.6 * np.arctan2(x, z) * 3, y))
    afro = person.afro * (1 + 0.06 * _noise(9 * np.arctan2(x, z), 2.4 * y))
    return edge * np.maximum(person.hair_volume + top + curl + afro - parting, 0.08)


def beard_offset(beard_map: np.ndarray, person) -> np.ndarray:
    """How far a beard stands off the skin, cm [N]."""
    return np.clip(beard_map * 1.4 - 0.3, 0, 1) * person.beard_length


def curtain(person, scale: np.ndarray):
    """The hanging part of long hair.

    Args:
        scale: [3] how much wider, higher and deeper this head is than the mean.

    Returns:
        vertices [N, 3] cm, canonical [N, 3], faces [T, 3]; empty where hair is short.
    """
    if person.hair_length < 0.05:
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
    bottom = 3.0 - 17.0 * person.hair_length
    v = np.linspace(0, 1, ROWS)[:, None]
    y = 11.5 + (bottom - 11.5) * v
    # narrower opening towards the parting on top
    opening = person.hair_opening * np.clip(0.62 + 0.38 * (11.5 - y) / 4.5, 0.5, 1.0)
    u = np.linspace(0, 1, COLUMNS)[None]
    theta = opening + (2 * np.pi - 2 * opening) * u  # from the person's left cheek around the back
    thick = 0.5 + 0.9 * person.hair_volume + 0.6 * person.hair_curl
    dome = np.sqrt(np.clip(1 - (np.maximum(y - 4.0, 0) / (10.6 + person.hair_top)) ** 2, 0.02, 1))
    hang = np.clip((4.0 - y) / 12, 0, 1)
    wave = person.hair_curl * 0.45 * _noise(4 * theta, 0.9 * y) + 0.12 * np.sin(14 * theta)
    side = (8.1 + thick - 0.9 * hang) * dome + wave
    depth = (9.6 + thick - 2.0 * hang) * dome + wave
    x = side * np.sin(theta)
    z = 0.6 + depth * np.cos(theta) * np.where(np.cos(theta) > 0, 0.72, 1.0)
    vertices = np.stack([x, np.broadcast_to(y, x.shape), z], -1).reshape(-1, 3) * scale
    canonical = np.stack([theta * 6, np.broadcast_to(y, x.shape), np.broadcast_to(u, x.shape)], -1).reshape(
        -1, 3
    )
    return vertices.astype(np.float32), canonical.astype(np.float32), grid_faces(ROWS, COLUMNS)


def garment(neck_y: float, neck_z: float):
    """Shoulders and a collar, cm: vertices [N, 3], faces [T, 3]."""
    rows, columns = 14, 48
    v = np.linspace(0, 1, rows)[:, None]
    theta = np.linspace(0, 2 * np.pi, columns)[None]
    width, depth = 6.6 + 15 * v**0.8, 6.2 + 5.5 * v**0.8
    x = width * np.sin(theta)
    z = neck_z + depth * np.cos(theta)
    y = neck_y - 1.3 * v**0.6 - 6.5 * v**2 + 0 * theta + 0.5 * np.cos(theta) * (1 - v) * -1.6
    return np.stack([x, y, z], -1).reshape(-1, 3).astype(np.float32), grid_faces(rows, columns)


def fringe(person, vertices: np.ndarray):
    """Hair that falls over the forehead, laid over the head as it is.

    Args:
        vertices: [V, 3] cm, the head with its hair.

    Returns:
        vertices [N, 3] cm, canonical [N, 3], faces [T, 3]; empty where there is no fringe.
    """
    if person.fringe < 0.06:
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
    rows, columns, axis = 16, 40, 1.5  # axis: depth (cm) of the upright line the angles turn about
    theta = np.linspace(-1.05, 1.05, columns)
    near = vertices[(vertices[:, 2] > 1.0) & (vertices[:, 1] > 4.0)]
    around = np.arctan2(near[:, 0], near[:, 2] - axis)
    radius = np.hypot(near[:, 0], near[:, 2] - axis)
    top = 12.4
    # swept to one side; shorter towards the temples; ends in uneven locks
    reach = (top - 6.9) * person.fringe * (1 - 0.35 * (theta / 1.05) ** 2 + 0.3 * person.fringe_sweep * theta)
    reach = reach + person.fringe * (0.25 * np.sin(17 * theta) + 0.18 * np.sin(29 * theta + 1))
    v = np.linspace(0, 1, rows)[:, None]
    y = top - np.maximum(reach, 0.3)[None] * v
    out = np.empty(y.shape)
    for i in range(rows):
        for j in range(columns):
            close = (np.abs(around - theta[j]) < 0.10) & (np.abs(near[:, 1] - y[i, j]) < 0.8)
            out[i, j] = radius[close].max() if close.any() else np.nan
    out = np.where(np.isnan(out), np.nanmean(out), out) + 0.28 + 0.35 * (1 - v)
    x, z = out * np.sin(theta), axis + out * np.cos(theta)
    canonical = np.stack([np.broadcast_to(theta * 14, y.shape), y, np.broadcast_to(v, y.shape)], -1)
    points = np.stack([x, y, z], -1).reshape(-1, 3)
    return points.astype(np.float32), canonical.reshape(-1, 3).astype(np.float32), grid_faces(rows, columns)


def bun(person, vertices: np.ndarray):
    """A knot of hair on the crown; the arguments and results are those of `fringe`."""
    if person.bun < 0.4:
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
    rows, columns, r = 14, 24, person.bun
    middle = vertices[np.abs(vertices[:, 0]) < 2.0]
    centre = np.array([0.0, middle[:, 1].max() + 0.45 * r, -0.5])
    polar, turn = np.linspace(0, np.pi, rows)[:, None], np.linspace(0, 2 * np.pi, columns)[None]
    lumps = 1 + 0.05 * np.sin(5 * turn + 3 * polar)
    x = r * 1.15 * np.sin(polar) * np.sin(turn) * lumps
    y = r * np.cos(polar) * lumps + 0 * turn
    z = r * 1.15 * np.sin(polar) * np.cos(turn) * lumps
    points = (np.stack([x, y, z], -1) + centre).reshape(-1, 3)
    canonical = np.stack([turn * 5 + 3 * polar, polar * 6 + 0 * turn, 0 * turn + 0 * polar], -1)
    return points.astype(np.float32), canonical.reshape(-1, 3).astype(np.float32), grid_faces(rows, columns)
