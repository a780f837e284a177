"""The whole generator: latent -> tri-planes -> volume render -> super-resolved picture (EG3D)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from my3dgen.models.eg3d.config import GeneratorConfig
from my3dgen.models.eg3d.stylegan2 import MappingNetwork, SynthesisNetwork
from my3dgen.models.eg3d.superresolution import SuperResolution
from my3dgen.models.eg3d.volume import Decoder, VolumeRenderer, sample_planes

BACKBONE = "backbone.synthesis."  # where the backbone's tensors are in the state dict


class Backbone(nn.Module):
    """Mapping and tri-plane synthesis, under the names official files use."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.synthesis = SynthesisNetwork(config)
        self.mapping = MappingNetwork(config)


class Generator(nn.Module):
    """A tri-plane face generator. Its state dict has the official tensor names and shapes.

    Rendering has no hidden randomness: the same input gives the same pixels, unless a `rng` is passed or
    noise_mode is "random". Cameras are EG3D's 25 numbers (see `volume.make_rays`).
    """

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.decoder = Decoder(config)
        self.renderer = VolumeRenderer(config)
        self.superresolution = SuperResolution(config)

    @property
    def num_ws(self) -> int:
        """Number of latent vectors per picture."""
        return self.config.num_ws

    def mapping(
        self, z: Tensor, c: Tensor | None, truncation_psi: float = 1, truncation_cutoff: int | None = None
    ) -> Tensor:
        """z [B, z_dim], c [B, 25] (None where the model is not pose-conditioned) -> ws [B, num_ws, w_dim]."""
        return self.backbone.mapping(z, c, truncation_psi, truncation_cutoff)

    def noise_maps(self) -> dict[str, Tensor]:
        """The backbone's fixed noise maps [r, r] by state-dict name (projection optimises such maps)."""
        return {
            BACKBONE + name: buffer
            for name, buffer in self.backbone.synthesis.named_buffers()
            if name.endswith("noise_const")
        }

    def planes(
        self, ws: Tensor, noise_mode: str = "const", noise: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """ws [B, num_ws, w_dim] -> tri-planes [B, 3, C, H, W].

        noise_mode: "const" (the model's own maps), "none" or "random" (the global random generator).
        noise: maps [r, r] or [B, r, r] used in "const" mode instead of the model's, named as in `noise_maps`.
        """
        maps = {key.removeprefix(BACKBONE): value for key, value in (noise or {}).items()}
        planes = self.backbone.synthesis(ws, noise_mode, maps)
        return planes.reshape(len(planes), 3, self.config.plane_channels, *planes.shape[-2:])

    def sample(self, planes: Tensor, points: Tensor) -> dict[str, Tensor]:
        """planes [B, 3, C, H, W], points [B, N, 3] -> {"sigma" [B, N, 1] raw density, "rgb" [B, N, F]}."""
        sigma, rgb = self.decoder(sample_planes(planes, points.transpose(1, 2), self.config))
        return {"sigma": sigma.unsqueeze(-1), "rgb": rgb.transpose(1, 2)}

    def synthesis(
        self,
        ws: Tensor,
        c: Tensor,
        neural_rendering_resolution: int | None = None,
        noise_mode: str = "const",
        planes: Tensor | None = None,
        noise: Mapping[str, Tensor] | None = None,
        rng: torch.Generator | None = None,
        half: bool = False,
    ) -> dict[str, Tensor]:
        """Render latents from cameras. Differentiable in ws, c, planes, noise and every parameter.

        ws [B, num_ws, w_dim], c [B, 25]; either may have a batch of 1, which is shared by the other's rows.
        neural_rendering_resolution R: side of the volume render, any size; None = the model's own.
        planes: from `planes(ws)`, to render one face from many cameras without computing them again.
        rng: draws the sample positions along the rays (training); None = fixed positions.
        half: super-resolution in bfloat16, for fits on a GPU; everything else is float32 always.

        Returns image [B, 3, out, out] and image_raw [B, 3, R, R] in about -1..1 (not clamped),
        image_depth [B, 1, R, R] (distance from the camera), features [B, F, R, R], opacity [B, 1, R, R] in
        0..1.
        """
        resolution = neural_rendering_resolution or self.config.neural_resolution
        if planes is None:
            planes = self.planes(ws, noise_mode, noise)
        size = max(len(ws), len(c), len(planes))
        ws, c = ws.expand(size, -1, -1), c.expand(size, -1)
        features, depth, opacity = self.renderer(planes, self.decoder, c, resolution, rng)
        return {
            "image": self.superresolution(features, ws, half),
            "image_raw": features[:, :3],
            "image_depth": depth,
            "features": features,
            "opacity": opacity,
        }
