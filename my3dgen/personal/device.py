"""What a device does well in fits."""

from __future__ import annotations

import torch

# What one photo of 512 px takes with gradients. Measured on a CPU: 3.1 GiB, and 2.3 GiB in half precision.
PHOTO_BYTES = 3.5 * 2**30
SHARE = 0.8  # of the free memory that a fit may count on; pictures are drawn beside it


def half_pays(device: torch.device) -> bool:
    """Whether a device is a GPU that computes in bfloat16 by itself (older ones imitate it, slowly)."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def photos_at_once(device: torch.device, side: int) -> int:
    """How many photos of `side` pixels a fit renders together: as many as a GPU's free memory holds, elsewhere one.

    Each photo has its own loss, so their number changes no result; on a CPU more would only cost memory.
    """
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    # what PyTorch keeps for itself after earlier fits is free to this one as well
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(1, int(SHARE * free / (PHOTO_BYTES * (side / 512) ** 2)))
