"""What a device does well in fits."""

from __future__ import annotations

import torch

PHOTO_BYTES = (
    3.5 * 2**30
)  # that one photo of 512 px takes with gradients (measured: 3.1 GB, 2.3 GB in half precision)


def half_pays(device: torch.device) -> bool:
    """Whether a device is a GPU that computes in bfloat16 by itself (older ones imitate it, slowly)."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def photos_at_once(device: torch.device, side: int) -> int:
    """How many photos of `side` pixels a fit renders together: as many as a GPU's free memory holds, elsewhere one.

    Each photo has its own loss, so their number changes no result; on a CPU more would only cost memory.
    """
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, int(free / (PHOTO_BYTES * (side / 512) ** 2)))
