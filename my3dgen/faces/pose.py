"""The camera of a face from its 68 landmarks: PnP against a small 3D model of landmarks in EG3D's frame.

Heads differ: a long nose or a raised brow passes for a nod of several degrees where one rigid face is
fitted. So the pose is solved together with the strongest ways in which landmarks differ, each held to
its natural spread (as the face reconstruction behind EG3D's own data does). On synthetic people this
brings the mean error of the rotation from 3.7 to about 1.2 degrees.
"""

from __future__ import annotations

import zipfile
from functools import lru_cache

import cv2
import numpy as np
from scipy.optimize import least_squares

from my3dgen import cameras
from my3dgen.assets import asset
from my3dgen.errors import My3DGenError
from my3dgen.faces.align import SIZE

MODEL = "face68.npz"  # in assets/, from pretraining/landmark_shapes.py
# How far each landmark is trusted: the contour (0-16) slides along the cheek as the head turns.
WEIGHTS_68 = np.array([0.4] * 17 + [0.7] * 10 + [1.0] * 41)
_NOISE = 3.0 / 512  # usual error of a landmark, in picture widths
_START = np.r_[27:36, 36:48, 48, 51, 54]  # nose, eyes, mouth corners: they hold still


@lru_cache(maxsize=1)
def model() -> tuple[np.ndarray, np.ndarray]:
    """The mean landmarks [68, 3] in EG3D's world and the modes [K, 68, 3], one standard deviation each.

    Made from USC ICT-FaceKit (MIT licence), laid onto EG3D's five standard points.
    """
    path = asset(MODEL)
    try:
        with np.load(path, allow_pickle=False) as data:
            return data["mean"].astype(np.float64), data["modes"].astype(np.float64)
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        raise My3DGenError(f"{path} is damaged; restore it from the repository.") from None


def mean_landmarks(camera: np.ndarray) -> np.ndarray:
    """Where a camera [25] sees the mean face's landmarks: float32 [68, 2] in crop pixels, for faces without their own."""
    return np.asarray(cameras.project_points(model()[0], camera), np.float32) * SIZE


def estimate(landmarks: np.ndarray, size: int = SIZE) -> tuple[np.ndarray, float]:
    """The EG3D camera of landmarks [68, 2] in crop pixels.

    The focal length is fixed to 4.2647; the found position is moved to distance 2.7 from the origin
    along its own direction (EG3D's data preparation calls this mode 'orig').
    Returns the camera float32 [25] and how badly the model fits: the RMS distance in pixels of 512
    (1 to 4 for a real face).
    Raises My3DGenError where the landmarks are not 68 finite points of a face in front of a camera.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (68, 2) or not np.isfinite(points).all():
        raise My3DGenError(f"A pose needs 68 finite landmarks [68, 2]; got shape {list(points.shape)}.")
    image = points / size - 0.5  # picture widths from the centre
    rotation, shift, error = _refine(*_start(image), image)
    centre = -rotation.T @ shift
    distance = np.linalg.norm(centre)
    if not np.isfinite(distance) or distance < 0.5 or (rotation @ [0.0, 0.0, -1.0])[2] < 0:
        raise My3DGenError("The landmarks do not look like a face seen from the front; is it really a face?")
    return cameras.from_pose(rotation.T, centre * (cameras.RADIUS / distance)).numpy(), error * 512


def _start(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World-to-camera rotation [3, 3] and shift [3] of the mean face, in closed form."""
    mean = model()[0]
    found, turn, shift = cv2.solvePnP(
        mean[_START], image[_START] / cameras.FOCAL, np.eye(3), None, flags=cv2.SOLVEPNP_SQPNP
    )
    rotation = cv2.Rodrigues(turn)[0] if found else np.eye(3)
    if not found or shift[2, 0] < 0.5 or rotation[2, 2] > 0:  # behind the camera, or seen from behind
        return np.diag([1.0, -1.0, -1.0]), np.array([0.0, 0.0, cameras.RADIUS])
    return rotation, shift[:, 0]


def _refine(
    rotation: np.ndarray, shift: np.ndarray, image: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Pose and shape that explain the landmarks best; the last value is the RMS distance left."""
    mean, modes = model()

    def distances(x: np.ndarray) -> np.ndarray:
        shape = mean + np.tensordot(x[6:], modes, 1)
        local = shape @ (cv2.Rodrigues(x[:3])[0] @ rotation).T + shift + x[3:6]
        return cameras.FOCAL * local[:, :2] / np.maximum(local[:, 2:], 1e-3) - image  # [68, 2]

    def misfit(x: np.ndarray) -> np.ndarray:
        lengths = distances(x) * (WEIGHTS_68[:, None] / _NOISE)
        # a landmark that is quite wrong (hair, a hand) pulls with constant force
        squared = (lengths**2).sum(1, keepdims=True)
        softened = lengths * np.sqrt(_soft(squared) / np.maximum(squared, 1e-12))
        return np.concatenate([softened.ravel(), x[6:]])

    x = least_squares(misfit, np.zeros(6 + len(modes)), method="lm", xtol=1e-10, ftol=1e-10).x
    error = np.sqrt((distances(x)[17:] ** 2).sum(1).mean())
    return cv2.Rodrigues(x[:3])[0] @ rotation, shift + x[3:6], float(error)


def _soft(squared: np.ndarray, width: float = 4.0) -> np.ndarray:
    """Huber-like: quadratic up to about `width` standard deviations, then linear."""
    return 2.0 * width**2 * (np.sqrt(1.0 + squared / width**2) - 1.0)
