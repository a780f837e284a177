"""The tiny official model and its reference values, shared by several tests. Loaded once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from my3dgen.models.eg3d.config import GeneratorConfig
from my3dgen.priors import Prior, load_prior

FIXTURES = Path(__file__).parent / "fixtures"
RAW_TOLERANCE = 1e-4  # raw render, depth, planes
IMAGE_TOLERANCE = 2e-4  # final picture
SMALL = GeneratorConfig(  # sizes that are fast to run with random weights
    z_dim=8, w_dim=16, channel_base=512, channel_max=8, plane_resolution=32, plane_channels=4,
    decoder_hidden=8, feature_channels=6, neural_resolution=16, depth_samples=8, importance_samples=8,
    sr_input_resolution=16, sr_channels=(8, 4), output_resolution=64,
)  # fmt: skip


def tiny_prior() -> Prior:
    return load_prior(FIXTURES / "eg3d_tiny.pkl", device="cpu")


@cache
def reference(name: str = "eg3d_tiny_expected") -> dict[str, Tensor]:
    with np.load(FIXTURES / f"{name}.npz") as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}


def assert_close(got: Tensor, expected: Tensor, tolerance: float, what: str = "") -> None:
    assert got.shape == expected.shape, what
    error = (got - expected).abs().max().item()
    assert error <= tolerance, f"{what}: off by {error:.2e}, allowed {tolerance:.0e}"


def assert_matches(rule: str, out: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Compare whatever the reference holds of a rendering rule."""
    image = out["image"]
    summary = {
        "image_raw": (out["image_raw"], RAW_TOLERANCE),
        "image_depth": (out["image_depth"], RAW_TOLERANCE),
        "image_stride4": (image[..., ::4, ::4], IMAGE_TOLERANCE),
        "image_crop_center": (image[..., 224:288, 224:288], IMAGE_TOLERANCE),
        "image_crop_corner": (image[..., :32, :32], IMAGE_TOLERANCE),
        "image_mean": (image.mean((2, 3)), IMAGE_TOLERANCE),
        "image_std": (image.std((2, 3)), IMAGE_TOLERANCE),
        "image_row_mean": (image.mean((1, 3)), IMAGE_TOLERANCE),
        "image_col_mean": (image.mean((1, 2)), IMAGE_TOLERANCE),
    }
    checked = 0
    for name, (got, tolerance) in summary.items():
        if (key := f"{rule}_{name}") in expected:
            assert_close(got, expected[key], tolerance, key)
            checked += 1
    assert checked >= 4
