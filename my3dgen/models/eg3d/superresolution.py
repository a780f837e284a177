"""From the volume-rendered features to the final picture (EG3D, section 4.3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from my3dgen.models.eg3d.config import GeneratorConfig
from my3dgen.models.eg3d.stylegan2 import SynthesisBlock, fast_layout, resample_filter


class SuperResolution(nn.Module):
    """Two style-modulated blocks on the rendered features; all their layers use the last w."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config = config
        inputs, resolution = config.feature_channels, config.sr_input_resolution
        for i, (outputs, up) in enumerate(zip(config.sr_channels, config.sr_ups, strict=True)):
            resolution *= up
            block = SynthesisBlock(
                inputs, outputs, 3, config.w_dim, resolution, up=up, clamp=config.sr_conv_clamp
            )
            setattr(self, f"block{i}", block)
            inputs = outputs
        if config.sr_kind != "8XDC":  # a buffer of its own in those official modules; nothing reads it
            self.register_buffer("resample_filter", resample_filter())

    def forward(self, features: Tensor, ws: Tensor, half: bool = False) -> Tensor:
        """features [B, F, R, R] (the first three are a picture), ws [B, L, w_dim] -> [B, 3, out, out].

        half: convolutions in bfloat16. Official networks were trained with these blocks, and only these, in half
        precision; bfloat16 has float32's range, so gradients need no scaling.
        """
        wanted, got = self.config.sr_input_resolution, features.shape[-1]
        if got < wanted or (got > wanted and not self.config.sr_resizes_only_up):
            features = F.interpolate(
                features,
                size=(wanted, wanted),
                mode="bilinear",
                align_corners=False,
                antialias=self.config.sr_antialias,
            )
        return self.blocks(features, ws, half)

    def blocks(self, features: Tensor, ws: Tensor, half: bool = False) -> Tensor:
        """The two blocks alone, on features of any size, such as a window of a rendering."""
        last = ws[:, -1:].expand(-1, 3, -1)
        x, image = fast_layout(features.bfloat16() if half else features), features[:, :3]
        for block in (self.block0, self.block1):
            x, image = block(x, image, last, self.config.sr_noise_mode)
        return image
