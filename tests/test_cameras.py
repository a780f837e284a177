"""Cameras: EG3D's sampler, directions as one says them, mirroring, projection."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from my3dgen import cameras
from my3dgen.errors import My3DGenError

FIXTURE = Path(__file__).parent / "fixtures" / "eg3d_tiny_expected.npz"
ANGLES = [(0.0, 0.0, 0.0), (0.3, 0.2, 0.1), (-0.7, -0.4, -0.3), (1.2, 0.9, 0.5), (-2.5, 0.1, 0.0)]


@pytest.mark.parametrize(("key", "pivot"), [("lookat_pivot0", (0, 0, 0)), ("lookat_pivot02", (0, 0, 0.2))])
def test_look_at_sampler_is_eg3ds(key, pivot):
    with np.load(FIXTURE) as expected:
        for (yaw, pitch), matrix in zip(expected["lookat_yaw_pitch"], expected[key], strict=True):
            c = cameras.look_at_sampler(float(yaw), float(pitch), pivot=pivot)
            np.testing.assert_allclose(cameras.split(c)[0].numpy(), matrix, atol=1e-6)


def test_look_at_sampler_pitch_is_not_an_angle():
    origin = cameras.split(cameras.look_at_sampler(0.0, 0.25))[0][:3, 3]
    assert math.asin(-float(origin[1]) / 2.7) == pytest.approx(0.160, abs=1e-3)


def test_front_camera():
    c = cameras.camera(0, 0)
    assert c.dtype == torch.float32 and c.shape == (25,)
    extrinsics, intrinsics = cameras.split(c)
    np.testing.assert_allclose(extrinsics[:3, 3].numpy(), [0, 0, 2.7], atol=1e-7)
    np.testing.assert_allclose(extrinsics[:3, :3].numpy(), np.diag([1, -1, -1]), atol=1e-7)
    expected = [[4.2647, 0, 0.5], [0, 4.2647, 0.5], [0, 0, 1]]
    np.testing.assert_allclose(intrinsics.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("angles", ANGLES)
def test_camera_is_where_its_angles_say(angles):
    yaw, pitch, _ = angles
    c = cameras.camera(*angles)
    extrinsics, _ = cameras.split(c)
    rotation, origin = extrinsics[:3, :3].double(), extrinsics[:3, 3].double()
    assert float(origin.norm()) == pytest.approx(2.7, abs=1e-6)
    assert math.asin(float(origin[1]) / 2.7) == pytest.approx(pitch, abs=1e-6)
    assert float(origin[0]) == pytest.approx(2.7 * math.cos(pitch) * math.sin(yaw), abs=1e-6)
    np.testing.assert_allclose((rotation.T @ rotation).numpy(), np.eye(3), atol=1e-6)
    assert float(torch.linalg.det(rotation)) == pytest.approx(1.0, abs=1e-6)
    centre = cameras.project_points(torch.tensor([cameras.PIVOT]), c)
    np.testing.assert_allclose(centre.numpy(), [[0.5, 0.5]], atol=1e-6)
    np.testing.assert_allclose(cameras.angles(c), angles, atol=1e-6)


def test_directions_are_the_persons():
    # the person's left is +x: from the left one sees the left ear in front of the head's middle
    left_ear, right_ear = np.array([[0.2, 0.0, 0.0]]), np.array([[-0.2, 0.0, 0.0]])
    c = cameras.camera(0.4, 0.0)
    depth = (
        (cameras.split(c)[0][:3, 3].numpy() - left_ear)[0],
        (cameras.split(c)[0][:3, 3].numpy() - right_ear)[0],
    )
    assert np.linalg.norm(depth[0]) < np.linalg.norm(depth[1])
    front = cameras.project_points(
        np.concatenate([left_ear, right_ear, [[0.0, 0.2, 0.2]]]), cameras.camera(0, 0)
    )
    assert front[0, 0] > 0.5 > front[1, 0]  # a picture shows the person's left on its right
    assert front[2, 1] < 0.5  # and up is up
    rolled = cameras.project_points(np.array([[0.0, 0.2, 0.2]]), cameras.camera(0, 0, roll=0.3))
    assert rolled[0, 0] < 0.5  # a camera turned clockwise turns its picture the other way


def test_projection_inverts_the_rays():
    c = cameras.camera(0.3, -0.2, 0.1)
    c[16:] = torch.tensor([4.0, 0.1, 0.52, 0.0, 4.4, 0.47, 0.0, 0.0, 1.0])
    extrinsics, intrinsics = (m.double() for m in cameras.split(c))
    u, v = torch.rand(2, 20, dtype=torch.float64)
    fx, sk, cx, fy, cy = (intrinsics[i] for i in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2)))
    x = (u - cx + cy * sk / fy - sk * v / fy) / fx  # EG3D's ray sampler
    rays = torch.stack([x, (v - cy) / fy, torch.ones_like(u)], -1)
    points = extrinsics[:3, 3] + 2.5 * rays @ extrinsics[:3, :3].T
    seen = cameras.project_points(points, c.double())
    np.testing.assert_allclose(seen.numpy(), torch.stack([u, v], -1).numpy(), atol=1e-6)


@pytest.mark.parametrize("angles", ANGLES[:3])
def test_mirrored_camera_sees_the_mirrored_picture(angles):
    c = cameras.camera(*angles, pivot=(0.03, -0.02, 0.2))
    c[16:] = torch.tensor([4.0, 0.1, 0.52, 0.0, 4.4, 0.47, 0.0, 0.0, 1.0])
    points = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)) * 0.2
    seen = cameras.project_points(points, c)
    mirrored = cameras.project_points(points * torch.tensor([-1.0, 1.0, 1.0]), cameras.mirror(c))
    np.testing.assert_allclose(mirrored[:, 0].numpy(), 1 - seen[:, 0].numpy(), atol=1e-5)
    np.testing.assert_allclose(mirrored[:, 1].numpy(), seen[:, 1].numpy(), atol=1e-5)
    np.testing.assert_allclose(cameras.mirror(cameras.mirror(c)).numpy(), c.numpy(), atol=1e-6)


def test_mirror_negates_the_published_entries():
    c = cameras.camera(0.3, 0.2, 0.1)
    changed = (cameras.mirror(c) * c < 0).nonzero().ravel().tolist()
    assert changed == [1, 2, 3, 4, 8]
    np.testing.assert_allclose(cameras.mirror(cameras.camera(0.3, 0.2)), cameras.camera(-0.3, 0.2), atol=1e-6)


def test_paths_and_grids():
    path = cameras.orbit(12, yaw=0.5, pitch=0.2)
    assert path.shape == (12, 25)
    assert cameras.angles(path[3])[0] == pytest.approx(0.5, abs=1e-5)
    views = cameras.grid([-0.4, 0.0, 0.4], [0.1, -0.1])
    assert views.shape == (2, 3, 25)
    assert cameras.angles(views[1, 2])[:2] == pytest.approx((0.4, -0.1), abs=1e-5)
    both = cameras.project_points(torch.zeros(2, 7, 3), views[0, :2])
    assert both.shape == (2, 7, 2)


def test_behind_the_camera_is_nowhere():
    assert torch.isnan(cameras.project_points(torch.tensor([[0.0, 0.0, 5.0]]), cameras.camera(0, 0))).any()


@pytest.mark.parametrize(
    "call",
    [
        lambda: cameras.camera(float("nan"), 0),
        lambda: cameras.camera(0, 2.0),
        lambda: cameras.camera(0, 0, pivot=(1, 2)),
        lambda: cameras.camera(0, 0, pivot="abc"),
        lambda: cameras.camera("a", 0),
        lambda: cameras.camera(None, 0),
        lambda: cameras.orbit(0),
        lambda: cameras.split(torch.zeros(24)),
    ],
)
def test_unusable_arguments_are_named(call):
    with pytest.raises(My3DGenError):
        call()


def test_a_camera_cannot_look_at_itself():
    with pytest.raises(My3DGenError, match="cannot look at itself"):
        cameras.camera(0, 0, pivot=(0, 0, 2.7))
