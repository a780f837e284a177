"""Rays, tri-plane sampling and volume rendering (EG3D, section 4; NeRF's two-pass sampling)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from my3dgen.models.eg3d.config import GeneratorConfig
from my3dgen.models.eg3d.stylegan2 import FullyConnected

PORTION = 2**15  # points shaded at a time where no gradients are wanted


def make_rays(c: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """One ray through every pixel centre, row by row. Differentiable in the camera.

    c [B, 25]: camera-to-world 4x4 (OpenCV axes: x right, y down, z forward), then normalised intrinsics 3x3.
    Returns origins [B, 1, 3] and unit directions [B, R*R, 3].
    """
    pose, intrinsics = c[:, :16].reshape(-1, 4, 4), c[:, 16:25].reshape(-1, 3, 3)
    fx, fy, skew = intrinsics[:, 0, 0, None], intrinsics[:, 1, 1, None], intrinsics[:, 0, 1, None]
    cx, cy = intrinsics[:, 0, 2, None], intrinsics[:, 1, 2, None]
    centres = (torch.arange(resolution, device=c.device, dtype=c.dtype) + 0.5) / resolution
    v, u = (grid.reshape(1, -1) for grid in torch.meshgrid(centres, centres, indexing="ij"))
    x = (u - cx + cy * skew / fy - skew * v / fy) / fx
    y = (v - cy) / fy
    # Moving the pixel's point into the world and subtracting the origin rounds as EG3D does. Fine samples are
    # so sensitive to the last bit that rotating the direction alone would move single pixels by 1e-4.
    ones = torch.ones_like(x)
    ends = (pose[:, :3] @ torch.stack([x, y, ones, ones], dim=1)).transpose(1, 2)  # [B, R*R, 3]
    origins = pose[:, None, :3, 3]
    return origins, F.normalize(ends - origins, dim=-1)


class _CpuSoftplus(torch.autograd.Function):
    """-log(sigmoid(-x)): as exact as PyTorch's softplus to a few 1e-7, and three times faster on a CPU."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        y = x.neg().sigmoid_().clamp_(min=1e-30).log_().neg_()
        return torch.maximum(y, x, out=y)  # beyond about 69 the logarithm gives out and softplus(x) is x

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * torch.sigmoid(x)


class Softplus(nn.Module):
    """log(1 + exp(x)) of the decoder's hidden layer, where millions of values pass through it."""

    def forward(self, x: Tensor) -> Tensor:
        return _CpuSoftplus.apply(x) if x.device.type == "cpu" else F.softplus(x)


class Decoder(nn.Module):
    """The small network that turns plane features into density and colour features."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        lr_mul = config.decoder_lr_mul
        self.net = nn.Sequential(
            FullyConnected(config.plane_channels, config.decoder_hidden, lr_mul),
            Softplus(),
            FullyConnected(config.decoder_hidden, 1 + config.feature_channels, lr_mul),
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Plane features [B, C, N] -> raw density [B, N] and colour features [B, F, N], about 0 to 1."""
        first, activation, second = self.net
        out = second.columns(activation(first.columns(features)))
        return out[:, 0], torch.sigmoid(out[:, 1:]) * 1.002 - 0.001


def sample_planes(planes: Tensor, points: Tensor, config: GeneratorConfig) -> Tensor:
    """Mean of the three planes' features at points.

    planes [B, 3, C, H, W], points [B, 3, N] (x, y, z in world units) -> [B, C, N].
    """
    size, _, channels, height, width = planes.shape
    axes = (points * (2 / config.box_warp)).unbind(dim=1)
    grid = torch.stack([axes[axis] for pair in config.plane_axes for axis in pair], dim=1)  # [B, 6, N]
    features = F.grid_sample(
        planes.reshape(size * 3, channels, height, width),
        grid.reshape(size * 3, 1, 2, -1).transpose(2, 3),
        mode="bilinear",
        padding_mode=config.plane_padding,
        align_corners=False,
    )
    return features.reshape(size, 3, channels, -1).mean(dim=1)


def march(densities: Tensor, depths: Tensor) -> Tensor:
    """Weights of the intervals between depth-sorted samples: raw densities, depths [..., S] -> [..., S-1]."""
    # Where there is nothing, or no light is left, slopes would be numbers below 1e-38, which many processors compute
    # with a hundred times slower; cut off at 1e-13, they change no pixel and are zero.
    density = F.softplus(((densities[..., :-1] + densities[..., 1:]) / 2 - 1).clamp(min=-30))
    alpha = 1 - torch.exp(-density * (depths[..., 1:] - depths[..., :-1]))
    clear = torch.cumprod(
        1 - alpha[..., :-1] + 1e-10, dim=-1
    )  # light left before each interval but the first
    clear = clear.masked_fill(clear < 1e-13, 0.0)
    return alpha * F.pad(clear, (1, 0), value=1.0)


@torch.no_grad()
def importance_depths(depths: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Depths drawn where the first pass met something: inverse transform sampling of the smoothed weights.

    depths [M, D], weights [M, D-1], u [M, N] in [0, 1] -> [M, N].
    """
    weights = F.max_pool1d(weights.unsqueeze(1), 2, stride=1, padding=1)
    weights = F.avg_pool1d(weights, 2, stride=1).squeeze(1) + 0.01
    bins = (depths[:, :-1] + depths[:, 1:]) / 2  # [M, D-1]
    pdf = weights[:, 1:-1] + 1e-5
    pdf = pdf / pdf.sum(dim=-1, keepdim=True)
    cdf = F.pad(torch.cumsum(pdf, dim=-1), (1, 0))  # [M, D-2]
    above = torch.searchsorted(cdf, u.contiguous(), right=True)
    below = (above - 1).clamp(min=0)
    above = above.clamp(max=cdf.shape[-1] - 1)
    low, high = cdf.gather(-1, below), cdf.gather(-1, above)
    span = high - low
    span = torch.where(span < 1e-5, 1.0, span)
    start, stop = bins.gather(-1, below), bins.gather(-1, above)
    return start + (u - low) / span * (stop - start)


class VolumeRenderer(nn.Module):
    """Two-pass volume rendering of tri-planes. It has no parameters."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config = config

    def forward(
        self,
        planes: Tensor,
        decoder: nn.Module,
        c: Tensor,
        resolution: int,
        rng: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures of planes from cameras.

        planes [1 or B, 3, C, H, W], c [B, 25] ->
        features [B, F, R, R] in -1..1, depth, opacity [B, 1, R, R].

        Without `rng` samples sit at fixed places (jitter 0.5, importance u = linspace(0, 1, N)): the same
        input gives the same pixels. With it both are drawn from that generator, as training does.
        """
        size, rays, config = len(c), resolution * resolution, self.config
        origins, directions = make_rays(c, resolution)
        shape = (size, rays, config.depth_samples, 1)
        jitter = _uniform(shape, rng, c.device) if rng is not None else 0.5
        step = (config.ray_end - config.ray_start) / (config.depth_samples - 1)
        even = torch.linspace(config.ray_start, config.ray_end, config.depth_samples, device=c.device)
        depths = (even.unsqueeze(-1) + jitter * step).expand(shape)[..., 0]  # [B, M, D]
        density, colour = self._shade(planes, decoder, origins, directions, depths)
        if not config.importance_samples:
            return self._composite(march(density, depths), depths, [(None, colour)], resolution)

        count = config.importance_samples
        if rng is not None:
            u = _uniform((size * rays, count), rng, c.device)
        else:
            u = torch.linspace(0, 1, count, device=c.device).expand(size * rays, count)
        weights = march(density.detach(), depths)
        finer = importance_depths(depths.flatten(0, 1), weights.flatten(0, 1), u).reshape(size, rays, count)
        fine_density, fine_colour = self._shade(planes, decoder, origins, directions, finer)
        depths, order = torch.sort(torch.cat([depths, finer], dim=-1), dim=-1, stable=True)
        density = torch.cat([density, fine_density], dim=-1).gather(-1, order)
        place = torch.argsort(order, dim=-1)  # where each sample went
        parts = [(place[..., :-count], colour), (place[..., -count:], fine_colour)]
        return self._composite(march(density, depths), depths, parts, resolution)

    def _shade(self, planes, decoder, origins, directions, depths) -> tuple[Tensor, Tensor]:
        """Density [B, M, S] and colour features [B, F, M, S] at depths [B, M, S] along the rays."""
        # Axes first: long runs of numbers of one kind. Planes shared by all cameras are sampled once, with
        # the cameras' points side by side.
        origins, directions = origins.permute(2, 0, 1), directions.permute(2, 0, 1)  # [3, B, 1 or M]
        points = origins.unsqueeze(-1) + depths * directions.unsqueeze(-1)  # [3, B, M, S]
        points = points.reshape(3, len(planes), -1).transpose(0, 1)
        # Without a graph to keep, small portions stay in the processor's cache and need little memory.
        portion = points.shape[-1] if torch.is_grad_enabled() else PORTION
        parts = [decoder(sample_planes(planes, part, self.config)) for part in points.split(portion, dim=-1)]
        density, colour = (torch.cat(values, dim=-1) for values in zip(*parts, strict=True))
        if len(planes) == len(depths):
            return density.reshape(depths.shape), colour.reshape(len(depths), -1, *depths.shape[1:])
        return density.reshape(depths.shape), colour.reshape(-1, *depths.shape).transpose(0, 1)

    def _composite(self, weights, depths, parts, resolution) -> tuple[Tensor, Tensor, Tensor]:
        """Sum along the rays. weights [B, M, S-1] and depths [B, M, S] of the sorted samples.

        parts: colours [B, F, M, S'] of some samples and those samples' places among the sorted [B, M, S']
        (None: as is).
        """
        total = weights.sum(dim=-1)  # [B, M]
        # An interval takes the mean colour of its two ends, so a sample counts half of both its intervals:
        # fetching these numbers for each sample spares sorting the colours.
        share = (F.pad(weights, (1, 0)) + F.pad(weights, (0, 1))) / 2
        shares = [share if place is None else share.gather(-1, place) for place, _ in parts]
        features = sum((part[1] * s.unsqueeze(1)).sum(-1) for s, part in zip(shares, parts, strict=True))
        if self.config.white_back:
            features = features + 1 - total.unsqueeze(1)
        middle = (depths[..., :-1] + depths[..., 1:]) / 2
        covered = total > 0
        depth = (weights * middle).sum(dim=-1) / torch.where(covered, total, 1.0)
        depth = torch.where(covered, depth, torch.inf).clamp(depths.min(), depths.max())
        shape = (len(total), -1, resolution, resolution)
        return (features * 2 - 1).reshape(shape), depth.reshape(shape), total.reshape(shape)


def _uniform(shape: tuple[int, ...], rng: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(shape, generator=rng, device=rng.device).to(device)
