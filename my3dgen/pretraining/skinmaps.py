"""What lies where on the mean face, seen from the front: soft maps that the shader looks up by canonical x, y."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

STEP = 0.05  # cm a cell
X0, Y0 = -11.0, -13.0
WIDTH, HEIGHT = 440, 560
CHANNELS = (
    "lips",
    "brow_distance",
    "brow_along",
    "lash",
    "blush",
    "beard",
    "moustache",
    "under_eye",
    "wrinkle",
    "freckle",
    "mottle",
    "age_spots",
    "eye_shadow",
)


def _polyline_distance(points: np.ndarray, xy: np.ndarray):
    """Distance to an open polyline and the position along it (0..1)."""
    best = np.full(xy.shape[:-1], 1e9, np.float32)
    along = np.zeros_like(best)
    n = len(points) - 1
    for i in range(n):
        a, b = points[i], points[i + 1]
        t = np.clip(((xy - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
        d = np.linalg.norm(xy - a - t[..., None] * (b - a), axis=-1)
        better = d < best
        best = np.where(better, d, best)
        along = np.where(better, (i + t) / n, along)
    return best, along


def _polygon_inside(points: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Signed distance to a closed polygon, positive inside, cm."""
    mask = np.zeros(xy.shape[:-1], np.uint8)
    cells = ((points - [X0, Y0]) / STEP).astype(np.int32)
    cv2.fillPoly(mask, [cells], 1)
    inside = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    outside = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5)
    return (inside - outside) * STEP


def _soft(x, low, high):
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def maps(landmarks: np.ndarray) -> np.ndarray:
    """All channels, float32 [C, HEIGHT, WIDTH], from the mean face's 68 landmarks [68, 3] in cm."""
    return _maps(tuple(map(tuple, np.round(landmarks[:, :2].astype(float), 4))))


@lru_cache(maxsize=1)
def _maps(landmarks) -> np.ndarray:
    p = np.array(landmarks)
    gx, gy = np.meshgrid(X0 + (np.arange(WIDTH) + 0.5) * STEP, Y0 + (np.arange(HEIGHT) + 0.5) * STEP)
    xy = np.stack([gx, gy], -1)
    ax = np.abs(gx)
    mirrored = np.stack([ax, gy], -1)
    rng = np.random.default_rng(7)

    lips = _soft(_polygon_inside(p[48:60], xy), -0.08, 0.12)
    brow = p[22:27][:, :2] + [0, -0.12]
    brow_distance, brow_along = _polyline_distance(brow, mirrored)
    upper_lid = p[[42, 43, 44, 45]]
    lid, lid_along = _polyline_distance(upper_lid, mirrored)
    lash = np.exp(-((lid / (0.10 + 0.06 * lid_along)) ** 2))
    lower_lid = p[[42, 47, 46, 45]]
    lash = np.maximum(lash, 0.35 * np.exp(-((_polyline_distance(lower_lid, mirrored)[0] / 0.08) ** 2)))
    blush = np.exp(-(((ax - 4.9) / 2.0) ** 2) - ((gy + 0.2) / 1.8) ** 2) + 0.7 * np.exp(
        -((ax / 1.3) ** 2) - ((gy - 0.4) / 1.2) ** 2
    )

    jaw = p[0:17]
    jaw_distance, _ = _polyline_distance(jaw, xy)
    below = _soft(np.interp(ax, [0, 2.5, 4.5, 6.3, 7.4], [-5.2, -4.6, -3.0, -0.8, 3.0]) - gy, -0.5, 0.9)
    around = np.exp(
        -(
            (
                np.maximum(
                    _polyline_distance(np.array([[2.6, -1.6], [3.0, -3.4], [2.4, -5.2]]), mirrored)[0] - 0.5,
                    0,
                )
                / 0.5
            )
            ** 2
        )
    )
    beard = np.maximum(below, around * _soft(-gy, 1.4, 3.0)) * _soft(gy, -12.5, -10)
    beard = np.maximum(beard, np.exp(-(np.maximum(jaw_distance - 1.3, 0) ** 2)) * _soft(1.5 - gy, 0, 2))
    beard *= 1 - _soft(_polygon_inside(p[48:60], xy), -0.25, 0.0)
    moustache = np.exp(
        -((np.maximum(np.abs(gy + 1.95 + 0.07 * ax * ax * 0.9) - 0.3, 0) / 0.22) ** 2)
    ) * _soft(3.1 - ax, 0, 0.8)
    moustache *= 1 - _soft(_polygon_inside(p[48:60], xy), -0.12, 0.05)
    soul_patch = np.exp(-((gx / 0.7) ** 2) - ((gy + 5.2) / 0.5) ** 2)
    moustache = np.maximum(moustache, 0.8 * soul_patch)

    under_eye = np.exp(-((_polyline_distance(lower_lid + [0.1, -0.75], mirrored)[0] / 0.35) ** 2))
    fold = np.array([[1.55, 0.2], [2.5, -1.2], [3.1, -2.6], [3.2, -3.8]])
    fold_distance, fold_along = _polyline_distance(fold, mirrored)
    wrinkle = np.exp(-((fold_distance / 0.16) ** 2)) * _soft(1 - fold_along, 0, 0.4)
    for y in (7.4, 8.3, 9.2):
        wrinkle += 0.5 * np.exp(-(((gy - y - 0.25 * np.cos(gx * 0.8)) / 0.1) ** 2)) * _soft(4.2 - ax, 0, 1.5)
    for k in (-0.5, 0.0, 0.5):
        foot = np.array([[4.9, 3.3 + 0.5 * k], [6.1, 3.3 + 1.7 * k]])
        wrinkle += 0.6 * np.exp(-((_polyline_distance(foot, mirrored)[0] / 0.08) ** 2))
    wrinkle += 0.5 * np.exp(-(((ax - 0.55) / 0.1) ** 2)) * _soft(gy, 4.6, 5.2) * _soft(6.9 - gy, 0, 0.6)
    for line, width, depth in (
        (lower_lid + [0.15, -0.85], 0.11, 0.8),  # the lower edge of the bags under the eyes
        (np.array([[2.9, -4.2], [3.3, -5.6], [3.2, -6.6]]), 0.18, 0.5),  # from the mouth's corners down
        (np.array([[4.3, 0.6], [4.9, -1.4], [4.7, -3.2]]), 0.3, 0.22),  # the fold of the cheek
        (np.array([[0.0, -6.35], [1.2, -6.2]]), 0.12, 0.5),  # above the chin
    ):
        distance, along = _polyline_distance(line, mirrored)
        wrinkle += depth * np.exp(-((distance / width) ** 2)) * _soft(0.5 - np.abs(along - 0.5), 0, 0.25)
    wrinkle = np.minimum(wrinkle, 1.0)
    eye_shadow = np.exp(-((lid / 0.55) ** 2)) * _soft(gy - p[42:46, 1].mean(), -0.1, 0.3)

    spots = np.zeros((HEIGHT, WIDTH), np.float32)
    where = np.exp(-(((ax - 2.8) / 2.6) ** 2) - ((gy - 0.8) / 1.9) ** 2)
    for _ in range(900):
        i, j = rng.integers(0, HEIGHT), rng.integers(0, WIDTH)
        if rng.random() < where[i, j] + 0.03:
            cv2.circle(spots, (int(j), int(i)), int(rng.integers(1, 3)), float(rng.uniform(0.4, 1)), -1)
    freckle = cv2.GaussianBlur(spots, (0, 0), 0.8)
    age_spots = np.zeros((HEIGHT, WIDTH), np.float32)
    for _ in range(60):
        i, j = rng.integers(0, HEIGHT), rng.integers(0, WIDTH)
        cv2.circle(age_spots, (int(j), int(i)), int(rng.integers(3, 7)), float(rng.uniform(0.4, 1)), -1)
    age_spots = cv2.GaussianBlur(age_spots, (0, 0), 2.0)
    mottle = np.zeros((HEIGHT, WIDTH), np.float32)
    for sigma, gain in ((3, 0.5), (9, 1.0), (24, 1.3)):
        n = cv2.GaussianBlur(rng.standard_normal((HEIGHT, WIDTH)).astype(np.float32), (0, 0), sigma)
        mottle += gain * n / n.std()
    mottle /= mottle.std()
    out = [
        lips,
        brow_distance,
        brow_along,
        lash,
        blush,
        beard,
        moustache,
        under_eye,
        wrinkle,
        freckle,
        mottle,
        age_spots,
        eye_shadow,
    ]
    return np.ascontiguousarray(np.stack(out).astype(np.float32))


def look_up(channel: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Nearest cell of one channel at canonical points [N, 2]."""
    j = np.clip(((xy[:, 0] - X0) / STEP).astype(int), 0, WIDTH - 1)
    i = np.clip(((xy[:, 1] - Y0) / STEP).astype(int), 0, HEIGHT - 1)
    return channel[i, j]
