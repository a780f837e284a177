"""NVIDIA's sizes with random weights: a file of the official structure is loaded, personalized and saved."""

import dataclasses
import time

import numpy as np
import official_snapshot
import pytest
import torch

from my3dgen import cameras
from my3dgen.faces import Face
from my3dgen.faces.pose import mean_landmarks
from my3dgen.models.eg3d.config import CATS, FFHQ, GeneratorConfig
from my3dgen.models.eg3d.generator import Generator
from my3dgen.personal.adapter import load_adapter
from my3dgen.personal.anchors import Anchors
from my3dgen.personal.tune import TuneOptions, personalize
from my3dgen.priors import catalogue, load_prior

# Sizes of every tensor are the official ones; only fewer points are looked at, which takes most of the time.
QUICK = {"neural_resolution": 32, "depth_samples": 8, "importance_samples": 8}


def random_weights(config) -> Generator:
    torch.manual_seed(0)
    return Generator(config).eval().requires_grad_(False)


def as_read(config: GeneratorConfig) -> GeneratorConfig:
    """A file says how many channels each block has, not by which rule."""
    channels = {r: config.channels_at(r) for r in config.block_resolutions}
    return dataclasses.replace(config, channels=channels, base_channels=512)


@pytest.fixture(scope="module")
def ffhq(tmp_path_factory):
    """The file, and how long it took to load, in seconds of this process."""
    network = official_snapshot.network(random_weights(dataclasses.replace(FFHQ, **QUICK)))
    network.meta["state"]["rendering_kwargs"]["avg_camera_pivot"] = [0, 0, 0.2]
    path = official_snapshot.write(tmp_path_factory.mktemp("ffhq") / "ffhq.pkl", G_ema=network)
    start = time.process_time()
    prior = load_prior(path, "cpu")
    yield prior, time.process_time() - start
    catalogue._load.cache_clear()  # 120 MB that nobody needs again


def someone(seed: int) -> Face:
    """A crop of noise with a camera and the mean face's landmarks."""
    image = np.random.default_rng(seed).integers(0, 255, (512, 512, 3), np.uint8)
    camera = cameras.camera(0.1 * seed, 0.0).numpy()
    marks = mean_landmarks(camera)
    return Face(f"{seed}.png", image, np.ones((512, 512), bool), marks, camera)


def test_ffhq_loads_in_seconds(ffhq):
    prior, seconds = ffhq
    assert prior.config == as_read(dataclasses.replace(FFHQ, **QUICK))
    assert sum(p.numel() for p in prior.generator.parameters()) == 30_662_136
    assert seconds < 10


def test_cats_are_read_like_people(tmp_path):
    path = official_snapshot.write(tmp_path / "c.pkl", G_ema=official_snapshot.network(random_weights(CATS)))
    try:
        prior = load_prior(path, "cpu")
        assert prior.config == as_read(CATS)
        assert sum(p.numel() for p in prior.generator.parameters()) == 29_587_512
    finally:
        catalogue._load.cache_clear()


def test_ffhq_is_personalized_and_saved_in_a_mebibyte(ffhq, tmp_path):
    prior, _ = ffhq
    w = torch.randn(1, 512).expand(14, -1)
    face = someone(0)
    anchors = Anchors(w[None], torch.from_numpy(face.camera)[None])
    options = dataclasses.replace(TuneOptions.for_prior(prior), steps=1, batch=1)
    adapter = personalize(prior, [face], anchors, rank=1, options=options)
    assert adapter.trainable_parameters == 243_965
    changed = [name for name, t in adapter.tensors.items() if name.endswith("lora.B") and t.abs().max() > 0]
    assert len(changed) == 52  # every layer learned something
    adapter.save(tmp_path / "me.safetensors")
    anchor_bytes = 4 * (512 + 25)
    assert (tmp_path / "me.safetensors").stat().st_size - anchor_bytes <= 1_048_576
    me = prior.personalized(load_adapter(tmp_path / "me.safetensors"))
    picture = me.render(w, anchors.cameras[0])
    assert picture.shape == (3, 512, 512)
    assert torch.isfinite(picture).all()
