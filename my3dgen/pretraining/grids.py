"""Sheets of triangles over a grid of points."""

from __future__ import annotations

import numpy as np


def grid_faces(rows: int, columns: int) -> np.ndarray:
    """Triangles [2 (rows - 1) (columns - 1), 3] of a grid stored row by row."""
    i = np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)[None]
    i = i.ravel()
    return np.concatenate(
        [np.stack([i, i + 1, i + columns], 1), np.stack([i + 1, i + columns + 1, i + columns], 1)]
    ).astype(np.int32)
