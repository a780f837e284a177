"""EG3D's crop from landmarks, and the camera that belongs to it."""

import numpy as np
import pytest
import skimage.data

from my3dgen import cameras
from my3dgen.errors import My3DGenError
from my3dgen.faces.align import STANDARD_FIVE, align, five_points, place
from my3dgen.faces.face import MIRRORED_68, mirror_landmarks
from my3dgen.faces.pose import estimate, model

PERSON = skimage.data.astronaut()  # uint8 [512, 512, 3], one face


# --- crop ----------------------------------------------------------------------------------------


def standard_points() -> np.ndarray:
    """The five points where the crop puts them, seen by a camera far away."""
    return STANDARD_FIVE[:, :2] * [1, -1] * (300 * 512 / 700) + 256


def test_points_in_standard_position_are_left_alone():
    placement = place(standard_points())
    assert abs(placement.scale - 1) < 1e-9 and np.abs(placement.offset).max() < 1e-6
    noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)
    landmarks = np.repeat(standard_points(), [6, 6, 1, 1, 1], axis=0)
    full = np.zeros((68, 2))
    full[36:48], full[30], full[48], full[54] = landmarks[:12], landmarks[12], landmarks[13], landmarks[14]
    crop = align(noise, full)
    assert crop.valid.all() and np.abs(crop.image.astype(int) - noise).max() <= 1


@pytest.mark.parametrize(
    ("scale", "shift"), [(1.0, (40.0, -30.0)), (3.3, (200.5, 100.25)), (0.4, (10.0, 20.0))]
)
def test_the_crop_follows_the_face(scale, shift):
    points = standard_points() * scale + shift
    placement = place(points)
    np.testing.assert_allclose(placement.to_crop(points), standard_points(), atol=1e-3)
    np.testing.assert_allclose(placement.to_photo(placement.to_crop(points)), points, atol=1e-3)


def full_landmarks(points: np.ndarray) -> np.ndarray:
    full = np.zeros((68, 2))
    full[36:42], full[42:48], full[[30, 48, 54]] = points[0], points[1], points[2:]
    return full


def test_pixels_land_where_the_points_say_and_the_outside_is_marked():
    rows, columns = np.mgrid[:900, :700]
    ramp = np.stack([columns * 255 // 700, rows * 255 // 900, columns * 0], -1).astype(np.uint8)
    points = standard_points() * 1.5 + [-100, 150]  # reaches over the left border
    crop = align(ramp, full_landmarks(points))
    seen = crop.placement.to_photo(np.mgrid[:512, :512][::-1].transpose(1, 2, 0) + 0.5)
    inside = (seen[..., 0] > 2) & (seen[..., 0] < 698) & (seen[..., 1] > 2) & (seen[..., 1] < 898)
    expected = (seen - 0.5) * [255 / 700, 255 / 900]
    assert np.abs(crop.image[..., :2] - expected)[inside].max() < 2.5
    assert crop.valid[inside].mean() > 0.99
    assert not crop.valid[seen[..., 0] < 0].any()
    assert crop.image[~crop.valid].std() < 100  # filled from the photo, not black


def test_shrinking_is_antialiased():
    checks = np.kron(np.indices((1024, 1024)).sum(0) % 2, np.ones((2, 2)))
    photo = np.repeat(checks[..., None] * 255, 3, -1).astype(np.uint8)
    crop = align(photo, full_landmarks(standard_points() * 4))
    assert crop.image[50:-50, 50:-50].std() < 6


def test_absurd_landmarks_are_refused():
    with pytest.raises(My3DGenError):
        align(PERSON, full_landmarks(standard_points() * 50))
    with pytest.raises(My3DGenError):
        align(PERSON, full_landmarks(standard_points() + 5000))


# --- pose ----------------------------------------------------------------------------------------


def seen_by(angles, noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    c = cameras.camera(*angles)
    points = cameras.project_points(model()[0], c.double()).numpy() * 512
    return c.numpy(), points + np.random.default_rng(seed).standard_normal((68, 2)) * noise


def degrees_between(a: np.ndarray, b: np.ndarray) -> float:
    turn = a[:16].reshape(4, 4)[:3, :3].T @ b[:16].reshape(4, 4)[:3, :3]
    return float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))


POSES = [(0, 0, 0), (0.35, 0.2, 0.1), (-0.5, -0.25, -0.2), (0.8, 0.1, 0), (-0.1, 0.45, 0.3)]


@pytest.mark.parametrize("angles", POSES)
def test_pose_is_exact_for_the_canonical_face(angles):
    c, points = seen_by(angles)
    found, error = estimate(points)
    np.testing.assert_allclose(found, c, atol=1e-3)
    assert error < 0.01 and found.dtype == np.float32


@pytest.mark.parametrize("angles", POSES)
def test_pose_bears_noise(angles):
    for seed in range(3):
        c, points = seen_by(angles, noise=1.0, seed=seed)
        found, _ = estimate(points)
        assert degrees_between(c, found) < 2.0
        assert np.linalg.norm(found[[3, 7, 11]]) == pytest.approx(2.7, abs=1e-4)


def test_pose_of_the_mirror_image_is_the_mirrored_pose():
    _, points = seen_by((0.3, -0.1, 0.1), noise=3.0)
    found, _ = estimate(points)
    mirrored, _ = estimate(mirror_landmarks(points, 512))
    np.testing.assert_allclose(mirrored, cameras.mirror(found).numpy(), atol=1e-4)


def test_pose_survives_a_wrong_landmark():
    c, points = seen_by((0.2, 0.1, 0.0))
    points[[19, 57]] += [60, -40]
    assert degrees_between(c, estimate(points)[0]) < 2.5


def test_canonical_face_stands_on_the_standard_points():
    mean, modes = model()
    five = 0.27 * STANDARD_FIVE + [0.0, 0.006, 0.161]  # where EG3D's preparation puts them
    assert np.abs(five_points(mean) - five).max() < 0.012
    flip = np.array([-1.0, 1.0, 1.0])
    np.testing.assert_allclose(mean[MIRRORED_68] * flip, mean, atol=1e-6)
    for mode in modes:
        flipped = mode[MIRRORED_68] * flip
        assert min(np.abs(flipped - mode).max(), np.abs(flipped + mode).max()) < 2e-5


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((68, 2), np.nan)])
def test_pose_needs_68_finite_points(points):
    with pytest.raises(My3DGenError):
        estimate(points)
