"""A plain z-buffer: which triangle each pixel sees, and where in it."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, fastmath=True)
def draw(screen, faces, height, width):
    """Draw triangles, both sides, nearest first.

    Args:
        screen: float32 [V, 3] pixel x, pixel y (y down, pixel centres at .5) and 1/depth (<= 0: behind).
        faces: int32 [T, 3].

    Returns:
        1/depth [H, W] (0 where nothing is), triangle index [H, W] (-1), screen-space weights [H, W, 2]
        of the triangle's first two corners.
    """
    nearest = np.zeros((height, width), np.float32)
    index = np.full((height, width), -1, np.int32)
    weights = np.zeros((height, width, 2), np.float32)
    for t in range(faces.shape[0]):
        ax, ay, az = screen[faces[t, 0]]
        bx, by, bz = screen[faces[t, 1]]
        cx, cy, cz = screen[faces[t, 2]]
        if az <= 0 or bz <= 0 or cz <= 0:
            continue
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
            continue
        x0 = max(int(np.ceil(min(ax, bx, cx) - 0.5)), 0)
        x1 = min(int(np.floor(max(ax, bx, cx) - 0.5)), width - 1)
        y0 = max(int(np.ceil(min(ay, by, cy) - 0.5)), 0)
        y1 = min(int(np.floor(max(ay, by, cy) - 0.5)), height - 1)
        inverse = 1.0 / area
        for y in range(y0, y1 + 1):
            py = y + 0.5
            for x in range(x0, x1 + 1):
                px = x + 0.5
                wa = ((bx - px) * (cy - py) - (by - py) * (cx - px)) * inverse
                wb = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) * inverse
                wc = 1.0 - wa - wb
                if wa < 0 or wb < 0 or wc < 0:
                    continue
                z = wa * az + wb * bz + wc * cz
                if z > nearest[y, x]:
                    nearest[y, x] = z
                    index[y, x] = t
                    weights[y, x, 0] = wa
                    weights[y, x, 1] = wb
    return nearest, index, weights
