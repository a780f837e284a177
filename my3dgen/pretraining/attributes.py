"""Training of the attribute scorer, and the editing directions of the current prior with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from my3dgen.cameras import angles
from my3dgen.errors import My3DGenError
from my3dgen.models import attributes
from my3dgen.models.perceptual import TRAINED_AT, load_trunk, trunk_sha256
from my3dgen.personal import directions
from my3dgen.pretraining import facekit, people, render
from my3dgen.pretraining.dataset import random_camera
from my3dgen.pretraining.encoder import as_cropped
from my3dgen.pretraining.people_data import Shards
from my3dgen.priors.files import write_safetensors

FIRST_SEED = 2_000_000  # of the people it is checked on; no shard comes near


@dataclass(frozen=True)
class AttributeOptions:
    """Fit of the scorer and of the directions, both to the truth behind z."""

    data: str = "data/train"  # shards
    out: str = "assets"  # attributes.safetensors and directions.safetensors go here
    views: int = 4000  # pictures from the shards
    renders: int = 1400  # the prior's own front views of random people, with the labels of the same z
    held_renders: int = 200  # of these, kept for checking the scorer
    held_people: int = 60  # drawn anew for checking the scorer
    ridge: float = 30.0  # strength of the regularisation
    seed: int = 0


def labels(z: np.ndarray, camera: np.ndarray | None = None) -> list[float]:
    """What the scorer should say of a person z [Z_DIM] seen by a camera [25] (None: from the front)."""
    person = people.decode(z)
    yaw = 0.0 if camera is None else angles(torch.from_numpy(camera))[0]
    dark = 1 - float(person.hair @ np.array([0.299, 0.587, 0.114]))
    values = {"smile": person.smile, "age": person.age, "yaw": yaw, "beard": person.beard, "hair_dark": dark}
    return [values[name] for name in attributes.NAMES]


def train(prior, o: AttributeOptions) -> dict:
    """Fit and write the scorer, then the prior's directions.

    Returns Spearman correlations of score and truth on people it never saw: drawn ones ("drawn") and renders of
    the prior ("prior").

    Raises:
        My3DGenError: where the prior was trained on people of another layout, or there are no shards.
    """
    if prior.config.z_dim != people.Z_DIM:
        raise My3DGenError(
            f"the prior {prior.name!r} takes {prior.config.z_dim} numbers, a person has {people.Z_DIM}: it was not "
            "trained on these people, so its renders have no labels. Train and export the prior first"
        )
    search = directions.DirectionOptions(samples=o.renders, seed=o.seed)
    z = directions.sample_z(prior, o.renders, o.seed)
    w = directions.map_z(prior, z)
    rendered = directions.describe_renders(prior, w, search)
    rendered_truth = torch.tensor([labels(row) for row in z.numpy()])
    drawn, drawn_truth = _from_shards(o)
    keep = slice(o.held_renders, None)
    weight, bias = ridge(
        torch.cat([drawn, rendered[keep]]), torch.cat([drawn_truth, rendered_truth[keep]]), o.ridge
    )
    folder = Path(o.out)
    write_safetensors(
        folder / attributes.FILE,
        {"weight": weight.half().contiguous(), "bias": bias.float().contiguous()},
        {"format": attributes.FORMAT, "prior_sha256": prior.sha256, "trunk_sha256": trunk_sha256()},
    )
    scorer = attributes.AttributeScorer(load_trunk(), weight.half().float(), bias.float())
    train_directions(prior, str(folder / directions.FILE), seed=o.seed)
    held = slice(None, o.held_renders)
    return {
        "drawn": correlations(scorer, *_fresh(o.held_people)),
        "prior": correlations(scorer, rendered[held], rendered_truth[held]),
    }


def train_directions(prior, out: str, samples: int = 20_000, share: float = 0.1, seed: int = 0) -> dict:
    """Only the directions. Returns how far strength 1 goes, in units of w_std.

    InterFaceGAN's recipe with the truth in place of a scorer: whoever z decodes into is labelled already, so no
    picture is needed and the classes are clean. The scorer stays an independent judge of the result.
    """
    z = directions.sample_z(prior, samples, seed)
    truth = torch.tensor([labels(row) for row in z.numpy()])
    scores = {name: truth[:, k] for k, name in enumerate(attributes.NAMES)}
    o = directions.DirectionOptions(samples=samples, share=share, regularisation=0.02, seed=seed)
    found = directions.separate(prior, directions.map_z(prior, z), scores, o)
    directions.save(Path(out), prior, found)
    return {name: round(d.scale / prior.w_std, 4) for name, d in found.items()}


def ridge(x: Tensor, y: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Linear map [K, D] and offset [K] from features [N, D] to labels [N, K]."""
    x, y = x.double(), y.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    a, b = x - mean_x, y - mean_y
    # the dual form: fewer pictures than features is the usual case when trying things out
    amount = strength * a.square().mean() * len(a) / 100
    if len(a) < a.shape[1]:
        weight = (a.T @ torch.linalg.solve(a @ a.T + amount * torch.eye(len(a), dtype=a.dtype), b)).T
    else:
        weight = torch.linalg.solve(a.T @ a + amount * torch.eye(a.shape[1], dtype=a.dtype), a.T @ b).T
    return weight, mean_y - weight @ mean_x


def correlations(scorer: attributes.AttributeScorer, features: Tensor, truth: Tensor) -> dict[str, float]:
    """Spearman's rank correlation of scores and labels [N, K]; attributes that do not vary are left out."""
    scores = scorer.read(features.float())
    out = {}
    for k, name in enumerate(attributes.NAMES):
        if float(truth[:, k].std()) > 0:
            out[name] = round(float(spearmanr(scores[name], truth[:, k]).statistic), 3)
    return out


@torch.no_grad()
def _describe(crops: list[np.ndarray]) -> Tensor:
    images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert images.shape[-1] == TRAINED_AT
    return load_trunk().describe(images)


def _from_shards(o: AttributeOptions) -> tuple[Tensor, Tensor]:
    """Descriptions and labels of random views, cropped as photos are."""
    rng, shards = np.random.default_rng(o.seed), Shards(o.data)
    features, truth = [], []
    for start in range(0, o.views, 50):
        crops = []
        for _ in range(min(50, o.views - start)):
            shard = shards.data[rng.integers(len(shards.data))]
            i, v = rng.integers(len(shard["z"])), rng.integers(shard["camera"].shape[1])
            crops.append(as_cropped(shard["image"][i, v], shard["landmarks"][i, v], rng))
            truth.append(labels(shard["z"][i], shard["camera"][i, v]))
        features.append(_describe(crops))
    return torch.cat(features), torch.tensor(truth)


def _fresh(count: int) -> tuple[Tensor, Tensor]:
    """The same of people drawn now, whom neither the trunk nor the scorer has seen."""
    kit, crops, truth = facekit.load(), [], []
    for i in range(count):
        rng = np.random.default_rng(FIRST_SEED + i)
        z, camera = people.sample(rng), random_camera(rng)
        person = people.decode(z)
        view = render.draw(kit, person, render.build(kit, person), camera, 256, 2)
        crops.append(as_cropped(view.image, view.landmarks, rng))
        truth.append(labels(z, camera))
    return _describe(crops), torch.tensor(truth)
