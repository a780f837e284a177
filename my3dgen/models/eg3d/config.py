"""Everything about the sizes and the rendering of one tri-plane generator."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from my3dgen.errors import My3DGenError

SR_KINDS = ("8XDC", "8X", "4X", "2X")


@dataclass(frozen=True)
class GeneratorConfig:
    """Sizes and rendering options of a generator; the defaults are EG3D's FFHQ 512-128 model.

    It travels with the weights (`to_dict` / `from_dict`), so nothing about sizes is assumed when a file is
    read. Values that make no sense, or that would need absurd amounts of memory, raise `My3DGenError`.
    """

    # Mapping network
    z_dim: int = 512  # length of the random input z
    c_dim: int = 25  # length of the camera given to the mapping; 0 = not conditioned on the pose
    w_dim: int = 512  # length of one latent vector w
    mapping_layers: int = 2  # fully connected layers fc0, fc1, ...
    c_scale: float = 1.0  # factor on the camera before it is embedded
    c_gen_conditioning_zero: bool = False  # the mapping sees zeros instead of the camera

    # Tri-plane backbone
    base_resolution: int = 4  # side of the learned constant
    base_channels: int | None = None  # channels of the learned constant; None = those of its block
    base_kernel: int = 3  # kernel of the first block's convolution (1 or 3)
    channel_base: int = 32768  # channels at resolution r: min(channel_base / r, channel_max)
    channel_max: int = 512  # upper limit of that rule
    channels: tuple[tuple[int, int], ...] | None = None  # (resolution, channels) pairs overriding the rule
    conv_clamp: float | None = None  # backbone activations are clamped to +- this

    # Planes and decoder
    plane_resolution: int = 256  # side of each of the three planes
    plane_channels: int = 32  # features on each plane
    plane_axes: tuple[tuple[int, int], ...] = ((0, 1), (0, 2), (2, 0))  # (u, v) axes; EG3D repeats x-z
    plane_padding: str = "zeros"  # outside the box a plane reads "zeros" or its "border" value
    decoder_hidden: int = 64  # width of the decoder's hidden layer
    decoder_lr_mul: float = 1.0  # learning-rate multiplier of the decoder's equalised layers
    feature_channels: int = 32  # colour features per point; the first three are RGB

    # Volume rendering
    neural_resolution: int = 64  # side of the volume-rendered picture
    depth_samples: int = 48  # stratified samples per ray
    importance_samples: int = 48  # further samples where the first ones met something; 0 = one pass
    ray_start: float = 2.25  # nearest sample, in units of the box, from the camera
    ray_end: float = 3.3  # farthest sample
    box_warp: float = 1.0  # side of the cube the planes cover
    white_back: bool = False  # what no sample covers is white (ShapeNet models) rather than black

    # Super-resolution
    sr_kind: str = "8XDC"  # EG3D's module: "8XDC", "8X", "4X" or "2X"; ours is the plainest, "8XDC"
    sr_input_resolution: int = 128  # renders of another size are resized to this first
    sr_channels: tuple[int, int] = (256, 128)  # channels of the two blocks
    sr_antialias: bool = True  # antialias that resize
    sr_noise_mode: str = "none"  # noise of the super-resolution layers
    sr_conv_clamp: float | None = 256.0  # activations are clamped to +- this
    output_resolution: int = 512  # side of the final picture

    # The camera the mapping and the projection call frontal
    camera_pivot: tuple[float, float, float] = (0.0, 0.0, 0.2)  # the point it looks at
    camera_radius: float = 2.7  # its distance from the origin

    def __post_init__(self) -> None:
        channels = self.channels
        if isinstance(channels, Mapping):
            channels = tuple(channels.items())
        if channels is not None:
            channels = tuple(sorted((int(r), int(c)) for r, c in channels))
        for name, value in {
            "channels": channels,
            "plane_axes": tuple(tuple(pair) for pair in self.plane_axes),
            "sr_channels": tuple(self.sr_channels),
            "camera_pivot": tuple(float(x) for x in self.camera_pivot),
        }.items():
            object.__setattr__(self, name, value)  # JSON gives lists and dicts
        _check(self)

    @property
    def block_resolutions(self) -> tuple[int, ...]:
        """Resolutions of the backbone's blocks, coarse to fine."""
        sizes = [self.base_resolution]
        while sizes[-1] < self.plane_resolution:
            sizes.append(sizes[-1] * 2)
        return tuple(sizes)

    @property
    def num_ws(self) -> int:
        """Number of latent vectors: one per convolution and one for the last tri-plane output."""
        return 2 * len(self.block_resolutions)

    @property
    def sr_ups(self) -> tuple[int, int]:
        """Upsampling factor of each super-resolution block (x2 in all happens in the second)."""
        return (2, 2) if self.output_resolution == 4 * self.sr_input_resolution else (1, 2)

    @property
    def sr_resizes_only_up(self) -> bool:
        """EG3D's 4X module keeps renders larger than its input size; the others resize any other size."""
        return self.sr_kind == "4X"

    def channels_at(self, resolution: int) -> int:
        """Channels of the backbone block at a resolution."""
        return dict(self.channels or ()).get(
            resolution, max(1, min(self.channel_base // resolution, self.channel_max))
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GeneratorConfig:
        """The configuration written by `to_dict`; unknown or unusable entries raise `My3DGenError`."""
        names = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - names) if isinstance(values, Mapping) else ["(not a table)"]
        if unknown:
            raise My3DGenError(
                f"The generator's configuration has entries this version does not know: "
                f"{', '.join(unknown)[:200]}; update my3dgen or use a file made for it."
            )
        try:
            return cls(**values)
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise My3DGenError(
                f"The generator's configuration cannot be used ({error}); the file is damaged or not ours."
            ) from error


def _check(config: GeneratorConfig) -> None:
    """Refuse nonsense and sizes no face model has: the values may come from somebody's file."""

    def need(ok: bool, what: str) -> None:
        if not ok:
            raise My3DGenError(f"The generator's configuration cannot be used: {what}.")

    def whole(name: str, low: int, high: int) -> None:
        value = getattr(config, name)
        ok = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        need(ok, f"{name} is {value!r}, expected a whole number from {low} to {high}")

    def number(name: str, low: float, high: float, optional: bool = False) -> None:
        value = getattr(config, name)
        ok = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
        need(ok or (optional and value is None), f"{name} is {value!r}, expected {low:g} to {high:g}")

    for name in ("z_dim", "w_dim", "decoder_hidden", "feature_channels", "plane_channels", "channel_max"):
        whole(name, 1, 4096)
    whole("channel_base", 1, 2**20)
    whole("c_dim", 0, 25)
    whole("mapping_layers", 1, 16)
    for name in ("depth_samples", "importance_samples"):
        whole(name, 3 if name == "depth_samples" else 0, 1024)
    for name in ("base_resolution", "plane_resolution", "neural_resolution", "sr_input_resolution"):
        whole(name, 1, 1024)
    whole("output_resolution", 2, 2048)
    for name in ("c_scale", "decoder_lr_mul"):
        number(name, -1e3, 1e3)
    for name in ("ray_start", "ray_end", "box_warp", "camera_radius"):
        number(name, 1e-3, 1e3)
    for name in ("conv_clamp", "sr_conv_clamp"):
        number(name, 1e-3, 1e9, optional=True)
    need(config.ray_start < config.ray_end, "ray_start must be smaller than ray_end")
    need(config.base_kernel in (1, 3), f"base_kernel is {config.base_kernel!r}, expected 1 or 3")
    need(
        config.block_resolutions[-1] == config.plane_resolution,
        "base_resolution must double to plane_resolution",
    )
    widths = [config.channels_at(r) for r in config.block_resolutions] + [*config.sr_channels]
    widths.append(config.base_channels if config.base_channels is not None else 1)
    need(all(isinstance(n, int) and 1 <= n <= 4096 for n in widths), "channel counts must be from 1 to 4096")
    need(len(config.sr_channels) == 2, "sr_channels must have two entries")
    need(config.feature_channels >= 3, "feature_channels must be at least 3 (RGB comes first)")
    axes = config.plane_axes
    need(
        len(axes) == 3 and all(len(pair) == 2 and set(pair) <= {0, 1, 2} for pair in axes),
        f"plane_axes is {axes!r}, expected three pairs of axes",
    )
    need(config.plane_padding in ("zeros", "border"), f"plane_padding is {config.plane_padding!r}")
    need(config.sr_kind in SR_KINDS, f"sr_kind is {config.sr_kind!r}, expected one of {', '.join(SR_KINDS)}")
    need(config.sr_noise_mode in ("none", "const", "random"), f"sr_noise_mode is {config.sr_noise_mode!r}")
    need(len(config.camera_pivot) == 3, "camera_pivot must have three entries")
    factor = config.output_resolution / config.sr_input_resolution
    need(
        factor in (2, 4), f"output_resolution must be 2 or 4 times sr_input_resolution, not {factor:g} times"
    )


FFHQ = GeneratorConfig(neural_resolution=128)

CATS = dataclasses.replace(FFHQ, sr_kind="8X", sr_channels=(128, 64), camera_pivot=(0.0, 0.0, -0.06))

# Our own small prior: the first 64 pixels of structure are a learned basis, which keeps it fast on a CPU.
HEADS = GeneratorConfig(
    z_dim=119,
    c_dim=0,
    w_dim=368,
    mapping_layers=3,
    base_resolution=64,
    base_channels=240,
    base_kernel=1,
    channels=((64, 176), (128, 72)),
    plane_resolution=128,
    plane_channels=24,
    plane_axes=((0, 1), (0, 2), (2, 1)),
    plane_padding="border",
    decoder_hidden=32,
    feature_channels=16,
    neural_resolution=64,
    depth_samples=24,
    importance_samples=24,
    ray_start=2.2,
    ray_end=3.6,  # the wall behind the head, seen from the side
    sr_input_resolution=64,
    sr_channels=(64, 32),
    output_resolution=256,
)
