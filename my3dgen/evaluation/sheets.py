"""Contact sheets: rows of pictures with a label each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np


def comparison_sheet(rows: Mapping[str, Sequence[np.ndarray]], size: int = 256) -> np.ndarray:
    """One row of pictures for each name, labelled on its left; uint8 [H, W, 3]."""
    strips = []
    for name, images in rows.items():
        label = np.full((size, 120, 3), 255, np.uint8)
        cv2.putText(label, name, (6, size // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (30, 30, 30), 1, cv2.LINE_AA)
        pictures = [cv2.resize(i, (size, size), interpolation=cv2.INTER_AREA) for i in images]
        strips.append(np.concatenate([label, *pictures], 1))
    return np.concatenate(strips)


def grid(images: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Pictures of one size in rows of `columns`; the last row is filled with white."""
    blank = np.full_like(images[0], 255)
    rows = [list(images[i : i + columns]) for i in range(0, len(images), columns)]
    rows[-1] += [blank] * (columns - len(rows[-1]))
    return np.concatenate([np.concatenate(row, 1) for row in rows])
