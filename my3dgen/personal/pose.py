"""Small corrections to cameras that keep them on the orbit, differentiable."""

from __future__ import annotations

import torch
from torch import Tensor


def rotation(vector: Tensor) -> Tensor:
    """Rotation matrices [N, 3, 3] from axis-angle vectors [N, 3]."""
    zero = torch.zeros_like(vector[:, 0])
    x, y, z = vector.unbind(1)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)
    return torch.linalg.matrix_exp(cross)


class Correction:
    """What a fit moves cameras by: where they stand and where they look, at rates of their own."""

    def __init__(self, count: int, device: torch.device):
        self.orbit, self.aim = (torch.zeros(count, 3, device=device, requires_grad=True) for _ in range(2))

    def variables(self) -> dict[str, Tensor]:
        """What an optimiser moves, by name."""
        return {"orbit": self.orbit, "aim": self.aim}

    def groups(self, camera_lr: float, aim_lr: float) -> list[dict]:
        """The optimiser's groups, as `Descent.anneal` reads them."""
        return [{"params": [self.orbit], "scale": camera_lr}, {"params": [self.aim], "scale": aim_lr}]

    def __call__(self, cameras: Tensor, rows=slice(None)) -> Tensor:
        """Cameras [N, 25], or some rows of them, where they are now."""
        return corrected(cameras[rows], self.orbit[rows], self.aim[rows])


def corrected(cameras: Tensor, orbit: Tensor, aim: Tensor) -> Tensor:
    """Turn cameras about the world's origin, then in their own place.

    Args:
        cameras: [N, 25].
        orbit: [N, 3] axis-angle in world axes; the distance from the origin stays exactly what it was.
        aim: [N, 3] axis-angle in the camera's own axes (tilt, pan, roll).
    """
    pose = cameras[:, :16].reshape(-1, 4, 4)
    turn = rotation(orbit)
    where = turn @ pose[:, :3, 3:]
    axes = turn @ pose[:, :3, :3] @ rotation(aim)
    top = torch.cat([axes, where], 2)
    return torch.cat([torch.cat([top, pose[:, 3:]], 1).flatten(1), cameras[:, 16:]], 1)
