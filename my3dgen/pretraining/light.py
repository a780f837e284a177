"""Light as nine spherical harmonics a colour, with a key light for highlights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Light:
    """One lighting of a scene."""

    sh: np.ndarray  # [9, 3] radiance
    key: np.ndarray  # [3] unit vector towards the key light
    key_colour: np.ndarray  # [3] linear RGB


def basis(d: np.ndarray) -> np.ndarray:
    """The nine real spherical harmonics of orders 0 to 2 for unit vectors d [N, 3] -> [N, 9]."""
    x, y, z = d[:, 0], d[:, 1], d[:, 2]
    return np.stack(
        [
            np.full_like(x, 0.282095),
            0.488603 * y,
            0.488603 * z,
            0.488603 * x,
            1.092548 * x * y,
            1.092548 * y * z,
            0.315392 * (3 * z * z - 1),
            1.092548 * x * z,
            0.546274 * (x * x - y * y),
        ],
        1,
    )


# a cosine lobe's share of each order (Ramamoorthi and Hanrahan 2001)
COSINE = np.array([np.pi] + [2 * np.pi / 3] * 3 + [np.pi / 4] * 5, np.float32)


def irradiance(light: Light, normals: np.ndarray, openness: np.ndarray, unshadowed: np.ndarray) -> np.ndarray:
    """Light arriving at vertices [V, 3]: exact for the person's own normals, shadowed as on the mean head."""
    free = (basis(normals) * COSINE) @ light.sh
    full = unshadowed @ light.sh
    share = np.clip((openness @ light.sh) / np.maximum(full, 1e-3), 0.12, 1.0)
    return np.maximum(free, 0.02) * share / np.pi


def from_key(direction, strength, colour, ambient, sky, ground) -> Light:
    """A soft key light from `direction` over an ambient that runs from `ground` to `sky` colour."""
    d = np.asarray(direction, np.float32)
    d = d / np.linalg.norm(d)
    colour = np.asarray(colour, np.float32)
    sh = np.zeros((9, 3), np.float32)
    sh[0] = ambient * (np.asarray(sky) + np.asarray(ground)) / 2 / 0.282095
    sh[1] = ambient * (np.asarray(sky) - np.asarray(ground)) / 2 / 0.488603 * 0.6
    # a broad area light: a delta lobe with its second order halved, so that nothing rings below zero
    lobe = basis(d[None])[0] * np.array([1] + [1] * 3 + [0.55] * 5, np.float32)
    sh += strength * lobe[:, None] * colour
    return Light(sh, d, colour * strength)
