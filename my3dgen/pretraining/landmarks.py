"""Training of the 68-landmark predictor: dlib's regression trees on drawn people, boxes from dlib's own detector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import dlib
import numpy as np
import torch

from my3dgen.personal.images import to_uint8
from my3dgen.pretraining.people_data import Shards
from my3dgen.priors import load_prior
from my3dgen.writing import replacing


@dataclass(frozen=True)
class LandmarkOptions:
    """dlib's training options that matter for size and precision."""

    data: str = "data/train"  # shards
    out: str = "assets/landmarks68.dat"
    people: int = 2400  # pictures to train on
    mixed: bool = (
        False  # also worn pictures and the prior's renders: better on those, worse on real photographs
    )
    trees: int = 200  # trees a cascade level
    depth: int = 3
    cascade: int = 10
    oversampling: int = 8
    nu: float = 0.1
    feature_pool: int = 500
    threads: int = 1
    seed: int = 0


def worn(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A grey picture as a bad camera or a soft model shows it: blurred, noisy, under- or overexposed."""
    side = int(rng.uniform(70, 300))
    image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    image = cv2.resize(image, (512, 512), interpolation=cv2.INTER_CUBIC).astype(np.float32) / 255
    image = np.clip(image, 0, 1) ** np.exp(rng.uniform(-0.4, 0.4)) + rng.normal(
        0, rng.uniform(0, 0.03), image.shape
    )
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def examples(o: LandmarkOptions):
    """Grey pictures of 512 px and dlib's full_object_detection lists, boxes as the detector gives them.

    `mixed` makes a third of them worn and renders a third with the current prior.
    """
    rng = np.random.default_rng(o.seed)
    shards = Shards(o.data)
    detector = dlib.get_frontal_face_detector()
    prior = load_prior("heads", device="cpu") if o.mixed else None
    images, shapes = [], []
    while len(images) < o.people:
        shard = shards.data[rng.integers(len(shards.data))]
        i, v = rng.integers(len(shard["z"])), rng.integers(2)
        image, points = shard["image"][i, v], shard["landmarks"][i, v] * 2
        kind = len(images) % 3 if o.mixed else 0
        if kind == 2:
            w = prior.generator.mapping(torch.from_numpy(shard["z"][i])[None], None)[0]
            image = to_uint8(prior.render(w, torch.from_numpy(shard["camera"][i, v])))
        # twice as large: dlib keeps training points as whole pixels
        image = cv2.resize(image, (512, 512), interpolation=cv2.INTER_CUBIC)
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if kind == 1:
            image = worn(image, rng)
        found = detector(image, 0)
        if len(found) != 1:
            continue
        images.append(np.ascontiguousarray(image))
        shapes.append(
            [dlib.full_object_detection(found[0], [dlib.point(round(x), round(y)) for x, y in points])]
        )
    return images, shapes


def train(o: LandmarkOptions) -> dict[str, float]:
    """Train and write the predictor. Returns its mean error on its own pictures, in pixels of 512."""
    images, shapes = examples(o)
    options = dlib.shape_predictor_training_options()
    options.num_trees_per_cascade_level = o.trees
    options.tree_depth = o.depth
    options.cascade_depth = o.cascade
    options.oversampling_amount = o.oversampling
    options.oversampling_translation_jitter = 0.1
    options.nu = o.nu
    options.feature_pool_size = o.feature_pool
    options.num_test_splits = 30
    options.num_threads = o.threads
    options.random_seed = str(o.seed)
    options.be_verbose = True
    predictor = dlib.train_shape_predictor(images, shapes, options)
    with replacing(o.out) as file:
        predictor.save(str(file))
    return {
        "error": dlib.test_shape_predictor(images, shapes, predictor),
        "bytes": Path(o.out).stat().st_size,
    }
