"""Rendered people on disk: shards that training reads, and single photos with marks for examples and tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from my3dgen.cameras import camera as orbit_camera
from my3dgen.pretraining import facekit, people, render
from my3dgen.writing import replacing


def random_camera(rng: np.random.Generator, spread: float = 1.0) -> np.ndarray:
    """A camera as photos have them: mostly frontal, float32 [25]."""
    yaw = np.clip(rng.normal(0, 0.33 * spread), -0.85, 0.85)
    pitch = np.clip(rng.normal(0, 0.17 * spread), -0.45, 0.45)
    pivot = np.array([0, 0, 0.2]) + rng.normal(0, 0.008, 3)
    return np.asarray(orbit_camera(yaw, pitch, rng.normal(0, 0.04), pivot=pivot), np.float32)


def write_shard(
    path: str, seed: int, people_count: int, views: int = 2, size: int = 256, supersample: int = 2
) -> None:
    """Draw `people_count` random people from `views` cameras each and write one uncompressed `.npz`.

    Holds z [N, Z_DIM] float32, camera [N, V, 25], image [N, V, S, S, 3] uint8, depth [N, V, S, S] float16,
    part [N, V, S, S] uint8, landmarks [N, V, 68, 2] float32 (pixels of S).
    """
    kit = facekit.load()
    rng = np.random.default_rng(seed)
    shape = (people_count, views)
    out = {
        "z": np.empty((people_count, people.Z_DIM), np.float32),
        "camera": np.empty((*shape, 25), np.float32),
        "image": np.empty((*shape, size, size, 3), np.uint8),
        "depth": np.empty((*shape, size, size), np.float16),
        "part": np.empty((*shape, size, size), np.uint8),
        "landmarks": np.empty((*shape, 68, 2), np.float32),
    }
    for i in range(people_count):
        out["z"][i] = people.sample(rng)
        person = people.decode(out["z"][i])
        head = render.build(kit, person)
        for j in range(views):
            out["camera"][i, j] = random_camera(rng)
            view = render.draw(kit, person, head, out["camera"][i, j], size, supersample)
            for name in ("image", "depth", "part", "landmarks"):
                out[name][i, j] = getattr(view, name)
    with replacing(path) as file:
        np.savez(file, **out)


def write_shards(folder: str, first: int, count: int, people_count: int = 250, **options) -> None:
    """Shards `first .. first + count - 1`; the shard's number is its seed. Shards that exist are kept."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for k in range(first, first + count):
        path = Path(folder) / f"heads_{k:05d}.npz"
        if not path.exists():
            write_shard(str(path), seed=k, people_count=people_count, **options)
            print(f"wrote {path}", flush=True)
