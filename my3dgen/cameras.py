"""Cameras in EG3D's frame.

World: y up, the face looks along +z, the person's left is +x (the right half of a front picture).
A camera is EG3D's 25 numbers: a 4x4 camera-to-world matrix (row-major, OpenCV axes: x right, y down,
z forward) and a 3x3 matrix of intrinsics for a picture of width and height 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from my3dgen.errors import My3DGenError, shown

RADIUS = 2.7  # distance of every camera from the world's origin
FOCAL = 4.2647  # focal length in picture widths (2985.29 / 700)
PIVOT = (0.0, 0.0, 0.2)  # where the default cameras look: the middle of the head

Vector = Sequence[float] | np.ndarray | Tensor


def camera(yaw: float, pitch: float, roll: float = 0.0, pivot: Vector | None = None) -> Tensor:
    """A camera on the sphere of radius 2.7 about the origin that looks at `pivot`.

    yaw: radians; > 0 turns the camera to the person's left (+x), so that the picture shows more of
        the person's left cheek.
    pitch: radians, the exact elevation of the camera; > 0 is above the face. Within +-pi/2; from about
        1.45 on the camera passes over the pivot, and an upright picture turns about its middle.
    roll: radians; > 0 turns the camera clockwise as the photographer sees it, and so the picture the
        other way.
    pivot: 3 numbers; default (0, 0, 0.2).
    Returns float32 [25]. At yaw = pitch = 0 the camera is at (0, 0, 2.7).
    """
    _require_finite(yaw=yaw, pitch=pitch, roll=roll)
    if abs(pitch) > math.pi / 2 + 1e-6:
        raise My3DGenError(f"The pitch is {pitch:.3f}; it must lie between -pi/2 and pi/2 radians.")
    horizontal = math.cos(pitch)
    origin = RADIUS * np.array(
        [horizontal * math.sin(yaw), math.sin(pitch), horizontal * math.cos(yaw)], np.float64
    )
    rotation = _look_at(origin, _vector(pivot)) @ _roll(roll)
    return from_pose(rotation, origin)


def look_at_sampler(
    yaw_offset: float, pitch_offset: float, pivot: Vector | None = None, radius: float = RADIUS
) -> Tensor:
    """The camera EG3D's look-at sampler gives for these offsets from pi/2.

    The pitch is the sampler's own: its sign is the reverse of `camera`'s and the elevation is
    asin(2 * offset / pi), about 0.64 of it. The yaw is an angle. Published novel views (yaw +-0.35,
    pitch +-0.25) are meant this way. Returns float32 [25].
    """
    _require_finite(yaw_offset=yaw_offset, pitch_offset=pitch_offset, radius=radius)
    height = float(np.clip(-2.0 * pitch_offset / math.pi, -1.0, 1.0))
    horizontal = math.sqrt(1.0 - height * height)
    origin = radius * np.array(
        [horizontal * math.sin(yaw_offset), height, horizontal * math.cos(yaw_offset)], np.float64
    )
    return from_pose(_look_at(origin, _vector(pivot)), origin)


def from_pose(rotation: np.ndarray, origin: np.ndarray, focal: float = FOCAL) -> Tensor:
    """rotation [3, 3] camera-to-world (OpenCV axes) and origin [3] -> camera float32 [25]."""
    extrinsics = np.eye(4)
    extrinsics[:3, :3], extrinsics[:3, 3] = rotation, origin
    intrinsics = np.array([[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]])
    flat = np.concatenate([extrinsics.ravel(), intrinsics.ravel()])
    return torch.from_numpy(flat.astype(np.float32))


def split(c: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
    """Cameras [..., 25] -> camera-to-world [..., 4, 4] and intrinsics [..., 3, 3]."""
    c = _tensor(c)
    if c.shape[-1] != 25:
        raise My3DGenError(f"A camera has 25 numbers in its last dimension; got shape {tuple(c.shape)}.")
    return c[..., :16].unflatten(-1, (4, 4)), c[..., 16:].unflatten(-1, (3, 3))


def mirror(c: Tensor | np.ndarray) -> Tensor:
    """Cameras [..., 25] of pictures -> the cameras of the left-right flipped pictures.

    Pose entries [0,1], [0,2], [1,0], [2,0], [0,3] change sign (EG3D's data preparation); skew changes
    sign and the centre goes to 1 - cx, which leaves standard intrinsics as they are.
    """
    c = _tensor(c)
    sign = torch.ones(25, dtype=c.dtype, device=c.device)
    sign[[1, 2, 3, 4, 8, 17, 18]] = -1.0
    shift = torch.zeros(25, dtype=c.dtype, device=c.device)
    shift[18] = 1.0
    return c * sign + shift


def project_points(points: Tensor | np.ndarray, c: Tensor | np.ndarray) -> Tensor:
    """World points [N, 3] -> where they appear, [N, 2]: x right, y down, the picture is [0, 1]^2.

    Multiply by the size for pixels (pixel i covers i..i+1). Points behind the camera give NaN.
    Differentiable in both arguments; batches [..., N, 3] with [..., 25] work too.
    """
    c = _tensor(c)
    points = _tensor(points).to(c)
    extrinsics, intrinsics = split(c)
    rotation, origin = extrinsics[..., :3, :3], extrinsics[..., None, :3, 3]
    local = (points - origin) @ rotation  # rows are R^T (X - origin)
    depth = local[..., 2:]
    flat = local / torch.where(depth > 1e-6, depth, torch.full_like(depth, torch.nan))
    return (flat @ intrinsics.transpose(-1, -2))[..., :2]


def angles(c: Tensor | np.ndarray) -> tuple[float, float, float]:
    """One camera [25] -> (yaw, pitch, roll) in radians, the inverse of `camera`."""
    extrinsics = split(c)[0].double().cpu().numpy()
    rotation, origin = extrinsics[:3, :3], extrinsics[:3, 3]
    yaw = math.atan2(origin[0], origin[2])
    pitch = math.asin(float(np.clip(origin[1] / max(np.linalg.norm(origin), 1e-9), -1.0, 1.0)))
    level = _look_at(origin, origin + rotation[:, 2])
    relative = level.T @ rotation
    return yaw, pitch, math.atan2(relative[1, 0], relative[0, 0])


def orbit(frames: int = 60, yaw: float = 0.6, pitch: float = 0.2, pivot: Vector | None = None) -> Tensor:
    """A closed path around the front view for turntable films: cameras [frames, 25].

    yaw, pitch: the widest angles of the ellipse, radians. The first frame faces the person's yaw 0.
    """
    if frames < 1:
        raise My3DGenError(f"A path needs at least one frame; got {frames}.")
    turn = [2.0 * math.pi * i / frames for i in range(frames)]
    return torch.stack([camera(yaw * math.sin(t), pitch * math.cos(t), pivot=pivot) for t in turn])


def grid(yaws: Sequence[float], pitches: Sequence[float], pivot: Vector | None = None) -> Tensor:
    """Every pair of the given angles (radians, as in `camera`): cameras [P, Y, 25]."""
    rows = [torch.stack([camera(yaw, pitch, pivot=pivot) for yaw in yaws]) for pitch in pitches]
    return torch.stack(rows)


def _look_at(origin: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Camera-to-world rotation [3, 3] (x right, y down, z forward) that keeps the world's up upright."""
    if np.linalg.norm(target - origin) < 1e-6:
        raise My3DGenError(
            f"A camera at {origin.tolist()} cannot look at itself; choose another pivot or radius."
        )
    forward = _normalised(target - origin)
    up = np.array([0.0, 1.0, 0.0])
    if np.linalg.norm(np.cross(up, forward)) < 1e-6:  # straight up or down: the face's back is "up"
        up = np.array([0.0, 0.0, math.copysign(1.0, forward[1])])
    right = -_normalised(np.cross(up, forward))
    return np.stack([right, np.cross(forward, right), forward], axis=1)


def _roll(roll: float) -> np.ndarray:
    """Rotation about the camera's own viewing axis (y points down, so > 0 is clockwise)."""
    cos, sin = math.cos(roll), math.sin(roll)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def _normalised(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _vector(pivot: Vector | None) -> np.ndarray:
    try:
        values = np.asarray(PIVOT if pivot is None else pivot, np.float64).ravel()
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.shape != (3,) or not np.isfinite(values).all():
        raise My3DGenError(f"A pivot is 3 finite numbers (x, y, z); got {shown(pivot)}.")
    return values


def _tensor(values: Tensor | np.ndarray) -> Tensor:
    tensor = torch.as_tensor(values)
    return tensor if tensor.is_floating_point() else tensor.float()


def _require_finite(**values: float) -> None:
    for name, value in values.items():
        try:
            finite = math.isfinite(value)
        except (TypeError, ValueError, OverflowError):
            finite = False
        if not finite:
            raise My3DGenError(f"{name} is {shown(value)}; it must be a finite number of radians.")
