"""A person's photos as points in the prior's latent space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from my3dgen.errors import My3DGenError


@dataclass(frozen=True, eq=False)
class Anchors:
    """What projection returns and every later task starts from."""

    ws: Tensor  # float32 [N, L, w_dim], one latent per photo
    cameras: Tensor  # float32 [N, 25], the refined camera of each
    sources: tuple[str, ...] = ()  # the photo each came from; empty where unknown

    def __post_init__(self) -> None:
        for name, value, shape in (("ws", self.ws, "[N, L, w_dim]"), ("cameras", self.cameras, "[N, 25]")):
            if (
                not isinstance(value, Tensor)
                or value.ndim != shape.count(",") + 1
                or not torch.isfinite(value).all()
            ):
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise My3DGenError(f"The anchors' {name} must be finite numbers of shape {shape}; got {got}.")
            object.__setattr__(self, name, value.detach().to(torch.float32))
        if len(self.ws) != len(self.cameras) or self.cameras.shape[1] != 25:
            raise My3DGenError(
                f"Anchors need one camera of 25 numbers for each latent; got ws {tuple(self.ws.shape)} and "
                f"cameras {tuple(self.cameras.shape)}."
            )
        object.__setattr__(self, "sources", tuple(str(source) for source in self.sources))
        if self.sources and len(self.sources) != len(self.ws):
            raise My3DGenError(
                f"Got {len(self.sources)} sources for {len(self.ws)} anchors; give one each, or none."
            )

    def require_fit(self, prior) -> Anchors:
        """These anchors.

        Raises:
            My3DGenError: where there are none, or the prior's latents have other sizes.
        """
        if len(self) == 0 or tuple(self.ws.shape[1:]) != (prior.num_ws, prior.config.w_dim):
            raise My3DGenError(
                f"The anchors have shape {list(self.ws.shape)}, the prior {prior.name!r} needs "
                f"[N, {prior.num_ws}, {prior.config.w_dim}] with at least one; project with this prior."
            )
        return self

    def __len__(self) -> int:
        return len(self.ws)
