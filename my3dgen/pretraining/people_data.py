"""Batches for training the prior from shards that `dataset.write_shards` wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from my3dgen.errors import My3DGenError
from my3dgen.pretraining import people
from my3dgen.pretraining.shading import EYE, GARMENT, GLASSES, HAIR, MOUTH, TEETH, WALL


@dataclass
class Batch:
    """Rendered views as tensors."""

    z: Tensor  # [B, Z_DIM]
    camera: Tensor  # [B, 25]
    image: Tensor  # [B, 3, S, S] in [-1, 1]
    depth: Tensor  # [B, S, S] distance along the ray
    part: Tensor  # [B, S, S] uint8
    landmarks: Tensor  # [B, 68, 2] pixels of S

    def to(self, device: str) -> Batch:
        """The same on a device."""
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))

    def rows(self, index: Tensor) -> Batch:
        """Some of the views."""
        return Batch(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


class Shards:
    """All shards of a folder in memory; `refresh` takes in shards written since.

    Args:
        often: z [Z_DIM] -> how often a person is in `batch`, against others; none: all alike.
    """

    def __init__(self, folder: str, often: Callable[[np.ndarray], float] | None = None):
        self.folder, self.loaded, self.data = Path(folder), set(), []
        self.often, self.people, self.chances = often or (lambda z: 1.0), [], np.zeros(0)
        self.refresh()
        if not self.data:
            raise My3DGenError(f"{folder} holds no shards; run `python -m my3dgen.pretraining render` first")

    def refresh(self) -> None:
        for path in sorted(self.folder.glob("heads_?????.npz")):
            if path.name not in self.loaded:
                with np.load(path) as f:
                    self.data.append({k: f[k] for k in f.files})
                self.loaded.add(path.name)
                shard = self.data[-1]
                self.people += [(shard, i) for i in range(len(shard["z"]))]
                self.chances = np.append(self.chances, [self.often(z) for z in shard["z"]])

    def batch(self, rng: np.random.Generator, size: int, views: int = 1) -> Batch:
        """`views` random views of each of `size` random people, a person's views side by side."""
        rows = []
        for k in rng.choice(len(self.people), size, p=self.chances / self.chances.sum()):
            shard, i = self.people[k]
            rows += [(shard, i, v) for v in rng.permutation(shard["camera"].shape[1])[:views]]
        return self.rows(rows)

    @staticmethod
    def rows(rows: Sequence[tuple[dict, int, int]]) -> Batch:
        """Chosen views: (an element of `data`, person, view) each."""

        def stack(name, per_view=True):
            return torch.from_numpy(np.stack([s[name][i, v] if per_view else s[name][i] for s, i, v in rows]))

        return Batch(
            z=stack("z", per_view=False),
            camera=stack("camera"),
            image=stack("image").permute(0, 3, 1, 2).float() / 127.5 - 1,
            depth=stack("depth").float(),
            part=stack("part"),
            landmarks=stack("landmarks"),
        )


# what each of these adds to how often somebody is seen
EXTRA = {
    "fair hair": 4.0,
    "beard": 1.5,
    "light eyes": 1.0,
    "long hair": 0.6,
    "open mouth": 0.5,
    "glasses": 0.4,
}


def rarity(z: np.ndarray) -> float:
    """How often the prior sees a person against a plain one: what is seldom seen is drawn like everybody's."""
    person = people.decode(z)
    there = {  # the shares are those of random people
        "fair hair": person.hair.mean() > 0.3 and person.age < 0.6,  # 5%
        "beard": person.beard > 0.3,  # 12%
        "light eyes": person.iris[2] > person.iris[0],  # 10%
        "long hair": person.hair_length > 0.15,  # 33%
        "open mouth": person.expression["jawOpen"] > 0.12,  # 24%
        "glasses": person.glasses > 0,  # 21%
    }
    return 1.0 + sum(EXTRA[trait] for trait, seen in there.items() if seen)


# how often a pixel of a part is looked at, against one of bare skin: eyes, teeth and frames cover few pixels, and
# what is seldom seen stays the average of everybody (by number in facekit.MATERIALS)
ATTENTION = np.ones(8, np.float32)
ATTENTION[[MOUTH, TEETH, EYE, HAIR, GARMENT, WALL, GLASSES]] = 3, 5, 7, 1.3, 3, 0.25, 6

RIM = 2  # pixels from the picture's edge


def pick_pixels(batch: Batch, rng: np.random.Generator, count: int) -> Tensor:
    """Flat pixel indices [B, count]: a third around brows, eyes, nose and mouth, the others by their part's attention."""
    size = batch.image.shape[-1]
    out = np.empty((len(batch.z), count), np.int64)
    third = count // 3
    parts = batch.part.flatten(1).cpu().numpy()
    for row, points, part in zip(out, batch.landmarks.cpu().numpy(), parts, strict=True):
        chances = np.cumsum(ATTENTION[part], dtype=np.float64)
        row[third:] = np.searchsorted(chances, rng.random(count - third) * chances[-1], side="right")
        # normal clouds about random features, so that lids, brows and lips are seen often
        centre = points[rng.integers(17, 68, third)]
        xy = np.clip(centre + rng.normal(0, size * 0.018, (third, 2)), 0, size - 1).astype(np.int64)
        row[:third] = xy[:, 1] * size + xy[:, 0]
    return torch.from_numpy(np.minimum(out, size * size - 1))


def attention(batch: Batch) -> Tensor:
    """Weight of every pixel in a loss over whole pictures [B, 1, S, S]: 1 on the wall, about 3 on skin, 6 at the rim.

    Convolutions see zeros beyond the rim, which shows as a thin frame unless somebody looks at it.
    """
    weights = torch.from_numpy(1 + 2 * np.sqrt(ATTENTION) * (np.arange(8) != WALL)).float()
    weights = weights.to(batch.part.device)[batch.part.long()][:, None]
    rim = torch.ones(batch.part.shape[-2:], dtype=torch.bool, device=batch.part.device)
    rim[RIM:-RIM, RIM:-RIM] = False
    return weights.masked_fill(rim, 6.0)
