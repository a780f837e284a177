"""LPIPS (Zhang et al. 2018) through the package of that name, for figures that can be compared with the papers'.

The package brings its own small weights, but the trunk under them is a download of torchvision's. It is used where
that file already lies in torch's cache, and never downloaded unasked.
"""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

TRUNK = "alexnet-owt-7be5be79.pth"  # torchvision's AlexNet (IMAGENET1K_V1)


class LPIPS(nn.Module):
    """The distance the papers report; 0 for equal pictures."""

    name = "lpips-alex"

    def __init__(self):
        super().__init__()
        import lpips

        self.net = lpips.LPIPS(net="alex", verbose=False)

    def forward(self, a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
        """Distance [B] between pictures [B, 3, S, S] in [-1, 1]; `mask` [B, 1, S, S] is 1 where they count.

        Both get the same where it is 0, and the distance is that of the share that is left.
        """
        if mask is None:
            return self.net(a, b).flatten()
        return self.net(torch.where(mask > 0, a, b), b).flatten() / mask.mean((1, 2, 3)).clamp(min=1e-6)


def trunk_file() -> Path:
    """Where torch keeps the trunk once it was downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / TRUNK


@cache
def _packages() -> bool:
    return find_spec("lpips") is not None and find_spec("torchvision") is not None


def load_lpips() -> LPIPS | None:
    """The distance, frozen, on the CPU; None where the package or its trunk is not on this computer."""
    path = trunk_file()
    return _load(path) if path.is_file() and _packages() else None


@lru_cache(maxsize=1)
def _load(_trunk: Path) -> LPIPS:
    return LPIPS().eval().requires_grad_(False)
