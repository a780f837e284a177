"""Style-modulated convolutions: StyleGAN2's mapping and synthesis networks, as EG3D uses them.

Parameter names and shapes are the official ones, so official weights load without renaming. Every parameter
of the synthesis layers may carry a leading batch dimension: `lora.view` uses that to run different people in
one batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from my3dgen.models.eg3d.config import GeneratorConfig

SQRT2 = 2**0.5


def resample_filter() -> Tensor:
    """The binomial filter [1, 3, 3, 1] as the 4x4 table official files carry as a buffer (sum 1)."""
    row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return torch.outer(row, row)


def fast_layout(x: Tensor) -> Tensor:
    """Pictures with channels last in memory, which makes convolutions on a CPU up to three times faster."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x.contiguous()


class FullyConnected(nn.Module):
    """Equalised fully connected layer: y = x (g W)^T + lr_mul b, g = lr_mul / sqrt(inputs).

    `lora`, where set, adds a low-rank update to the output (see `lora.py`).
    """

    def __init__(self, inputs: int, outputs: int, lr_mul: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_mul)
        self.bias = nn.Parameter(torch.full((outputs,), float(bias)))
        self.weight_gain = lr_mul / inputs**0.5
        self.bias_gain = lr_mul
        self.lora: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs] or [B, N, inputs] -> the same with `outputs` last."""
        weight, bias = self.scaled()
        if weight.ndim == 2 and bias.ndim == 1:
            y = F.linear(x, weight, bias)
        else:  # every row of the batch has its own layer
            rows = x if x.ndim == 3 else x.unsqueeze(1)
            y = rows @ weight.transpose(-1, -2) + bias.reshape(-1, 1, bias.shape[-1])
            y = y if x.ndim == 3 else y.squeeze(1)
        return y if self.lora is None else y + self.lora(x)

    def columns(self, x: Tensor) -> Tensor:
        """The same on columns, for very many points (no update): [B, inputs, N] -> [B, outputs, N]."""
        weight, bias = self.scaled()
        shape = (len(x), -1, -1)
        weight = weight.expand(*shape) if weight.ndim == 2 else weight
        return torch.baddbmm(bias.reshape(-1, bias.shape[-1], 1).expand(*shape), weight, x)

    def scaled(self) -> tuple[Tensor, Tensor]:
        """Weight and bias in force."""
        return self.weight * self.weight_gain, self.bias * self.bias_gain


def normalise(x: Tensor) -> Tensor:
    """Scale each row to a mean square of 1."""
    return x * (x.square().mean(dim=-1, keepdim=True) + 1e-8).rsqrt()


def activated(x: Tensor) -> Tensor:
    """Leaky ReLU with the gain that keeps the mean square of its input."""
    return F.leaky_relu(x, 0.2) * SQRT2


class MappingNetwork(nn.Module):
    """z and camera -> latent w, repeated for every layer."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config = config
        self.num_layers = config.mapping_layers
        inputs = config.z_dim
        if config.c_dim:
            self.embed = FullyConnected(config.c_dim, config.w_dim)
            inputs += config.w_dim
        for i in range(self.num_layers):
            layer = FullyConnected(inputs if i == 0 else config.w_dim, config.w_dim, lr_mul=0.01)
            setattr(self, f"fc{i}", layer)
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(
        self, z: Tensor, c: Tensor | None, truncation_psi: float = 1, truncation_cutoff: int | None = None
    ) -> Tensor:
        """z [B, z_dim], c [B, 25] (ignored where c_dim is 0) -> ws [B, num_ws, w_dim]."""
        x = normalise(z.float())
        if self.config.c_dim:
            c = c.float() * (0.0 if self.config.c_gen_conditioning_zero else self.config.c_scale)
            x = torch.cat([x, normalise(self.embed(c)).expand(len(x), -1)], dim=1)
        for i in range(self.num_layers):
            x = activated(getattr(self, f"fc{i}")(x))
        ws = x.unsqueeze(1).repeat(1, self.config.num_ws, 1)
        if truncation_psi != 1:
            cut = slice(None, truncation_cutoff)
            ws[:, cut] = self.w_avg.lerp(ws[:, cut], truncation_psi)
        return ws


def modulated_conv(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    bias: Tensor | None = None,
    demodulate: bool = True,
    gain: float = 1.0,
    up: int = 1,
) -> Tensor:
    """Convolution whose input channels are scaled per sample, its output channels normalised (StyleGAN2,
    section 2.2).

    x [B, I, H, W]; styles [B, I]; weight [O, I, k, k] and bias [O], or [B, O, I, k, k] and [B, O] per sample.
    Returns gain * convolution + bias, [B, O, H, W], or [B, O, 2H+1, 2W+1] before filtering where `up` is 2.
    It is computed and returned in x's precision; kernels are scaled and normalised in their own before that.

    Scaling kernels and scaling activations give the same numbers; whichever holds fewer values is scaled.
    """
    size, per_sample = len(x), weight.ndim == 5
    outputs, inputs, kernel = weight.shape[-4], weight.shape[-3], weight.shape[-1]
    scale = None  # [B, O]
    if demodulate:
        energy = weight.square().sum(dim=(-2, -1))  # [(B,) O, I]
        squares = styles.square()
        total = (energy @ squares.unsqueeze(-1)).squeeze(-1) if per_sample else squares @ energy.t()
        scale = (total + 1e-8).rsqrt() * gain

    values = x.shape[-2] * x.shape[-1] * (inputs + outputs * up * up)
    if per_sample or outputs * inputs * kernel * kernel <= values:
        kernels = weight * styles[:, None, :, None, None]  # [B, O, I, k, k]
        if scale is not None:
            kernels = kernels * scale[:, :, None, None, None]
        biases = [None] * size if bias is None else bias.expand(size, -1)
        if size == 1:
            return _conv(x, kernels[0], biases[0], up)
        return torch.cat([_conv(x[i : i + 1], kernels[i], biases[i], up) for i in range(size)])
    y = _conv(x * styles.to(x.dtype)[:, :, None, None], weight, None, up)
    if scale is not None:
        y = y * scale.to(x.dtype)[:, :, None, None]
    return y if bias is None else y + bias.to(x.dtype).reshape(-1, outputs, 1, 1)


def _conv(x: Tensor, weight: Tensor, bias: Tensor | None, up: int) -> Tensor:
    weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    if up == 2:
        return F.conv_transpose2d(x, weight.transpose(0, 1), bias, stride=2)
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def smooth(x: Tensor, taps: Tensor) -> Tensor:
    """Filter after an upsampling convolution: pad 1, filter, gain 4; [B, C, 2H+1, 2W+1] -> [B, C, 2H, 2W]."""
    channels = x.shape[1]
    return F.conv2d(x, (taps * 4).to(x.dtype).expand(channels, 1, 4, 4), padding=1, groups=channels)


def upsample_image(x: Tensor, taps: Tensor) -> Tensor:
    """Double an image: zero-stuff, pad (2, 1), filter, gain 4; [B, C, H, W] -> [B, C, 2H, 2W]."""
    channels = x.shape[1]
    kernel = (taps * 4).expand(channels, 1, 4, 4)
    return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=channels)


class _ModulatedLayer(nn.Module):
    """What SynthesisLayer and ToRGB share: kernel, bias, style and an optional low-rank update."""

    def __init__(self, inputs: int, outputs: int, kernel: int, w_dim: int, clamp: float | None):
        super().__init__()
        self.clamp = clamp
        self.affine = FullyConnected(w_dim, inputs, bias=1)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.lora: nn.Module | None = None

    def kernel(self) -> Tensor:
        """The kernel in force: [O, I, k, k], or [B, O, I, k, k] where rows differ."""
        return self.weight if self.lora is None else self.weight + self.lora()

    def limit(self, x: Tensor) -> Tensor:
        return x if self.clamp is None else F.hardtanh(x, -self.clamp, self.clamp)


class SynthesisLayer(_ModulatedLayer):
    """Modulated convolution, noise, bias, leaky ReLU."""

    def __init__(
        self, inputs: int, outputs: int, w_dim: int, resolution: int, kernel: int = 3, up: int = 1, clamp=None
    ):
        super().__init__(inputs, outputs, kernel, w_dim, clamp)
        self.up, self.resolution = up, resolution
        self.register_buffer("resample_filter", resample_filter())
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.noise_strength = nn.Parameter(torch.zeros([]))

    def forward(self, x: Tensor, w: Tensor, noise_mode: str = "const", noise: Tensor | None = None) -> Tensor:
        """x [B, I, H, W], w [B, w_dim] -> [B, O, up H, up W].

        `noise` [up H, up W] or [B, up H, up W] is used in place of noise_const.
        """
        # The activation's gain is applied to what goes into the leaky ReLU: to kernel, bias and noise.
        bias = self.bias * SQRT2
        x = modulated_conv(
            x, self.kernel(), self.affine(w), bias if self.up == 1 else None, gain=SQRT2, up=self.up
        )
        if self.up == 2:
            x = smooth(x, self.resample_filter) + bias.to(x.dtype).reshape(-1, bias.shape[-1], 1, 1)
        if noise_mode != "none":
            if noise_mode == "random":
                noise = torch.randn(len(x), *x.shape[-2:], device=x.device, dtype=x.dtype)
            elif noise is None:
                noise = self.noise_const
            strength = self.noise_strength.reshape(-1, 1, 1, 1) * SQRT2
            x = x + (noise.reshape(-1, 1, *x.shape[-2:]) * strength).to(x.dtype)
        return self.limit(F.leaky_relu(x, 0.2))


class ToRGB(_ModulatedLayer):
    """Modulated 1x1 convolution to the planes or the picture, without normalisation."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, clamp: float | None = None):
        super().__init__(inputs, outputs, 1, w_dim, clamp)
        self.style_gain = inputs**-0.5

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x [B, I, H, W], w [B, w_dim] -> [B, O, H, W]."""
        styles = self.affine(w) * self.style_gain
        return self.limit(modulated_conv(x, self.kernel(), styles, self.bias, demodulate=False))


class SynthesisBlock(nn.Module):
    """One resolution: one or two convolutions and a picture ("skip" architecture)."""

    def __init__(
        self,
        inputs: int | None,
        outputs: int,
        image_channels: int,
        w_dim: int,
        resolution: int,
        up: int = 2,
        kernel: int = 3,
        clamp: float | None = None,
        const_channels: int | None = None,
    ):
        """`inputs` None makes the first block, which starts from a learned constant of `const_channels`."""
        super().__init__()
        self.up, self.first = up, inputs is None
        self.register_buffer("resample_filter", resample_filter())
        if self.first:
            self.const = nn.Parameter(torch.randn(const_channels or outputs, resolution, resolution))
            self.lora: nn.Module | None = None  # an update of the constant
            self.conv1 = SynthesisLayer(
                const_channels or outputs, outputs, w_dim, resolution, kernel, clamp=clamp
            )
        else:
            self.conv0 = SynthesisLayer(inputs, outputs, w_dim, resolution, up=up, clamp=clamp)
            self.conv1 = SynthesisLayer(outputs, outputs, w_dim, resolution, clamp=clamp)
        self.torgb = ToRGB(outputs, image_channels, w_dim, clamp)

    @property
    def num_convs(self) -> int:
        return 1 if self.first else 2

    def forward(
        self,
        x: Tensor | None,
        image: Tensor | None,
        ws: Tensor,
        noise_mode: str = "const",
        noise: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """x [B, I, H, W], image [B, C, H, W], ws [B, convolutions + 1, w_dim] -> both at this resolution.

        x stays in its precision, the picture is summed up in that of ws.

        `noise`: maps by name within the block ("conv0.noise_const").
        """
        noise = noise or {}
        if self.first:
            const = self.const if self.lora is None else self.const + self.lora()
            x = fast_layout(const.reshape(-1, *const.shape[-3:])).expand(len(ws), -1, -1, -1)
        else:
            x = self.conv0(x, ws[:, 0], noise_mode, noise.get("conv0.noise_const"))
        x = self.conv1(x, ws[:, self.num_convs - 1], noise_mode, noise.get("conv1.noise_const"))
        y = self.torgb(x, ws[:, self.num_convs]).to(ws.dtype)
        if image is not None:
            y = y + (upsample_image(image, self.resample_filter) if self.up == 2 else image)
        return x, y


class SynthesisNetwork(nn.Module):
    """ws -> the 3 C channels of the tri-planes."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.resolutions = config.block_resolutions
        inputs = None
        for resolution in self.resolutions:
            outputs = config.channels_at(resolution)
            block = SynthesisBlock(
                inputs,
                outputs,
                image_channels=3 * config.plane_channels,
                w_dim=config.w_dim,
                resolution=resolution,
                kernel=config.base_kernel if inputs is None else 3,
                clamp=config.conv_clamp,
                const_channels=config.base_channels,
            )
            setattr(self, f"b{resolution}", block)
            inputs = outputs

    def forward(
        self, ws: Tensor, noise_mode: str = "const", noise: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """ws [B, num_ws, w_dim] -> [B, 3 C, H, W]; `noise`: maps by name ("b8.conv0.noise_const")."""
        x = image = None
        index = 0
        for resolution in self.resolutions:
            block = getattr(self, f"b{resolution}")
            prefix = f"b{resolution}."
            maps = {key[len(prefix) :]: m for key, m in (noise or {}).items() if key.startswith(prefix)}
            x, image = block(x, image, ws[:, index : index + block.num_convs + 1], noise_mode, maps)
            index += block.num_convs  # the next block's first convolution shares its w with this ToRGB
        return image
