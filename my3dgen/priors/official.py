"""Official EG3D snapshots, and those of the authors' My3DGen, as generators of ours.

Sizes, rendering options and super-resolution widths come from the tensors and the options in the file; G_ema
is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from my3dgen.errors import My3DGenError
from my3dgen.models.eg3d import lora
from my3dgen.models.eg3d.config import SR_KINDS, GeneratorConfig
from my3dgen.models.eg3d.generator import Generator
from my3dgen.models.eg3d.lora import LoraOptions
from my3dgen.priors import files, pickles

# My3DGen's snapshots wrap layers in layers; without these steps their names are the official ones.
_WRAPPERS = {
    "synthesis_block",
    "synthesis_layer",
    "to_rgb_layer",
    "fully_connected_layer",
    "superresolution_module",
}
_UPDATES = ("lora_A", "lora_B")
_MAX_DEPTH, _MAX_MODULES = 24, 10_000  # a generator has some 120 modules


@dataclass
class _Contents:
    """What was found in a network: by name without the wrappers."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)  # plain values of each module
    classes: dict[str, str] = field(default_factory=dict)  # innermost class name of each module
    modules: int = 0  # modules visited


@dataclass(frozen=True)
class Split:
    """A snapshot of the authors' My3DGen taken apart."""

    base: (
        Generator  # without the low-rank pairs; what else was trained is still the person's (no copy is kept)
    )
    tensors: dict[str, Tensor]  # the person's, named as `lora.own_shapes` names them
    options: LoraOptions  # rank, alpha, layout


def load_official(path: Path) -> Generator:
    """The generator of an official .pkl; a snapshot of My3DGen's gives the personalized one. Nothing is executed.

    Raises `My3DGenError` where it is no such snapshot or uses options this renderer does not have.
    """
    with _described(path):
        contents = _read(path)
        _take_pairs(contents, kept=True)
        config = _config(contents)
    return files.build(config, contents.tensors, str(path))


def split(path: Path) -> Split:
    """The base and the low-rank update of a snapshot of My3DGen's.

    Biases, constant and noise strengths, which the release trains along, are in both: with the update they are
    the whole person on any copy of the base. Raises `My3DGenError` where there are no pairs, or as `load_official`.
    """
    with _described(path):
        contents = _read(path)
        pairs = _take_pairs(contents, kept=False)
        config = _config(contents)
        if not pairs:
            raise My3DGenError("it holds no low-rank pairs, so there is no adapter to take out.")
        options, tensors = _person(contents, pairs)
    base = files.build(config, contents.tensors, str(path))
    state = base.state_dict()
    others = [name for name in lora.own_shapes(base, options) if ".lora." not in name]
    tensors |= {name: state[name].clone() for name in others}
    lora.check_tensors(base, options, tensors)
    return Split(base, tensors, options)


def _read(path: Path) -> _Contents:
    data = pickles.load(path)
    network = data.get("G_ema") if isinstance(data, dict) else None
    if not isinstance(network, pickles.Stub):
        raise My3DGenError(
            f"{path} cannot be read as an EG3D snapshot: it is a pickle, but has no network G_ema; use an official "
            "file."
        )
    contents = _Contents()
    _walk(network, (), contents, 0)
    contents.tensors.pop("dataset_label_std", None)
    return contents


# what reading a strange file may end in
_STRANGE = (LookupError, ArithmeticError, TypeError, ValueError, AttributeError, RuntimeError, StopIteration)


@contextmanager
def _described(path: Path) -> Iterator[None]:
    """Whatever a strange file leads to becomes one sentence that names the file."""
    try:
        yield
    except My3DGenError as error:
        raise error if str(path) in str(error) else My3DGenError(f"{path}: {error}") from error
    except _STRANGE as error:
        raise My3DGenError(
            f"{path} is not the snapshot of an EG3D generator ({type(error).__name__}: {str(error)[:150]})."
        ) from error


def _walk(module: pickles.Stub, path: tuple[str, ...], contents: _Contents, depth: int) -> None:
    """Collect tensors and plain values. Only `_modules` is followed: `_init_args` may hold stale copies."""
    contents.modules += 1
    if depth > _MAX_DEPTH or contents.modules > _MAX_MODULES:
        raise My3DGenError("it holds far more modules than an EG3D generator; it is not one.")
    state, prefix = module.state, ".".join(path)
    contents.classes[prefix] = module.class_name
    plain = {key: value for key, value in state.items() if not key.startswith("_")}
    contents.attributes.setdefault(prefix, {}).update(plain)
    for kind in ("_parameters", "_buffers"):
        for name, tensor in dict(state.get(kind) or {}).items():
            if tensor is None:
                continue
            key = ".".join((*path, str(name)))
            if not isinstance(tensor, pickles.LazyTensor) or key in contents.tensors:
                raise My3DGenError(f"{key[:120]!r} is not one tensor.")
            contents.tensors[key] = values = tensor.read()
            if not values.is_floating_point():
                raise My3DGenError(f"{key[:120]!r} does not hold floating-point numbers.")
    for name, child in dict(state.get("_modules") or {}).items():
        if not isinstance(child, pickles.Stub):
            continue
        repeated = path == ("backbone", "synthesis") and name == "synthesis"
        step = () if repeated or name in _WRAPPERS else (str(name),)
        _walk(child, path + step, contents, depth + 1)


@dataclass(frozen=True)
class _Pair:
    a: Tensor
    b: Tensor
    scale: float  # alpha / rank


def _take_pairs(contents: _Contents, kept: bool) -> dict[str, _Pair]:
    """Take My3DGen's low-rank pairs out, by layer; afterwards the weights contain them (`kept`) or do not."""
    tensors, pairs = contents.tensors, {}
    for name in [name for name in tensors if name.endswith(".lora_A")]:
        layer = name.removesuffix(".lora_A")
        a, b = (tensors.pop(f"{layer}.{part}").float() for part in _UPDATES)
        options = contents.attributes[layer]
        pairs[layer] = _Pair(a, b, float(options["scaling"]))
        if bool(options.get("merged")) == kept:
            continue
        weight = tensors[f"{layer}.weight"].float()
        fits = a.ndim == b.ndim == 2 and a.shape[0] == b.shape[1]
        # said before it is computed: small pairs can have a huge product
        if not fits or b.shape[0] * a.shape[1] != weight.numel():
            raise My3DGenError(
                f"{layer[:120]!r} has a low-rank pair of {list(b.shape)} and {list(a.shape)}, which is no update of its "
                f"weight {list(weight.shape)}."
            )
        scale = pairs[layer].scale if kept else -pairs[layer].scale
        if weight.ndim == 2:  # a style layer: its update does not get the layer's gain
            scale *= weight.shape[1] ** 0.5
        tensors[f"{layer}.weight"] = weight + (b @ a).reshape(weight.shape) * scale
    return pairs


def _person(contents: _Contents, pairs: Mapping[str, _Pair]) -> tuple[LoraOptions, dict[str, Tensor]]:
    """Options and tensors of the pairs. One scale serves all: where a layer's differs, its B is changed."""
    style = next(pair for layer, pair in pairs.items() if layer.endswith(".affine"))
    rank, scale = style.a.shape[0], style.scale
    layouts = set()
    for layer, pair in pairs.items():
        shape = contents.tensors[f"{layer}.weight"].shape
        if len(shape) == 4 and shape[-1] > 1:  # for single pixels and style layers both are the same
            layouts.add("latest" if pair.a.shape[1] == shape[1] * shape[2] * shape[3] else "v1")
    if len(layouts) != 1:
        raise My3DGenError("its low-rank pairs are of no layout this version knows.")
    options = LoraOptions(rank=rank, alpha=scale * rank, layout=layouts.pop())
    tensors = {f"{layer}.lora.A": pair.a.contiguous() for layer, pair in pairs.items()}
    tensors |= {
        f"{layer}.lora.B": (pair.b * (pair.scale / scale)).contiguous() for layer, pair in pairs.items()
    }
    return options, tensors


def _config(contents: _Contents) -> GeneratorConfig:
    tensors, attributes = contents.tensors, contents.attributes
    options = attributes[""]["rendering_kwargs"]
    _refuse_unknown(options)
    shape = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    blocks = _block_resolutions(shape)
    first, last = f"backbone.synthesis.b{blocks[0]}", f"backbone.synthesis.b{blocks[-1]}"
    w_dim = shape["backbone.mapping.w_avg"][0]
    c_dim = shape["backbone.mapping.embed.weight"][1] if "backbone.mapping.embed.weight" in shape else 0
    sr = "superresolution"
    sr_kind = contents.classes[sr].removeprefix("SuperresolutionHybrid")
    if sr_kind not in SR_KINDS:
        raise My3DGenError(
            f"its super-resolution {contents.classes[sr][:60]!r} is not one this version knows."
        )
    return GeneratorConfig(
        z_dim=shape["backbone.mapping.fc0.weight"][1] - (w_dim if c_dim else 0),
        c_dim=c_dim,
        w_dim=w_dim,
        mapping_layers=sum(f"backbone.mapping.fc{i}.weight" in shape for i in range(17)),
        c_scale=float(options.get("c_scale", 0)),
        c_gen_conditioning_zero=bool(options.get("c_gen_conditioning_zero", False)),
        base_resolution=blocks[0],
        base_channels=shape[f"{first}.const"][0],
        base_kernel=shape[f"{first}.conv1.weight"][-1],
        channels=tuple((r, shape[f"backbone.synthesis.b{r}.conv1.weight"][0]) for r in blocks),
        conv_clamp=_optional_float(attributes[f"{first}.conv1"].get("conv_clamp")),
        plane_resolution=blocks[-1],
        plane_channels=shape[f"{last}.torgb.weight"][0] // 3,
        plane_axes=_plane_axes(attributes.get("renderer", {}).get("plane_axes")),
        decoder_hidden=shape["decoder.net.0.weight"][0],
        decoder_lr_mul=float(options.get("decoder_lr_mul", 1)),
        feature_channels=shape["decoder.net.2.weight"][0] - 1,
        neural_resolution=int(attributes[""].get("neural_rendering_resolution", 64)),
        depth_samples=int(options["depth_resolution"]),
        importance_samples=int(options["depth_resolution_importance"]),
        ray_start=float(options["ray_start"]),
        ray_end=float(options["ray_end"]),
        box_warp=float(options["box_warp"]),
        white_back=bool(options.get("white_back", False)),
        sr_kind=sr_kind,
        sr_input_resolution=int(attributes[sr]["input_resolution"]),
        sr_channels=tuple(shape[f"{sr}.block{i}.conv1.weight"][0] for i in (0, 1)),
        sr_antialias=bool(options.get("sr_antialias", True)),
        sr_noise_mode=_text(options.get("superresolution_noise_mode", "none")),
        sr_conv_clamp=_optional_float(attributes[f"{sr}.block0.conv1"].get("conv_clamp")),
        output_resolution=shape[f"{sr}.block1.conv1.noise_const"][-1],
        camera_pivot=tuple(float(x) for x in options.get("avg_camera_pivot", (0, 0, 0.2))),
        camera_radius=float(options.get("avg_camera_radius", 2.7)),
    )


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    """Options that would change the picture and that this renderer does not have."""
    if options.get("disparity_space_sampling"):
        raise My3DGenError("it samples rays in disparity, which this version does not do.")
    if options.get("clamp_mode", "softplus") != "softplus":
        raise My3DGenError(f"its density activation {_text(options['clamp_mode'])!r} is not 'softplus'.")
    for name in ("ray_start", "ray_end"):
        if isinstance(options[name], str):
            raise My3DGenError(f"its {name} is {options[name][:40]!r}; this version needs a number.")


def _block_resolutions(shape: Mapping[str, tuple[int, ...]]) -> list[int]:
    names = {name.split(".")[2] for name in shape if name.startswith("backbone.synthesis.b")}
    resolutions = sorted(int(name.removeprefix("b")) for name in names)
    if not resolutions:
        raise My3DGenError("it has no tri-plane backbone.")
    return resolutions


def _plane_axes(table: Any) -> tuple[tuple[int, int], ...]:
    """Which world axes the planes' (u, v) are: the first two columns of the inverse of each plane's basis.

    EG3D's first files repeat the x-z plane, later ones do not; the table is in the file.
    """
    if not isinstance(table, pickles.LazyTensor):
        return GeneratorConfig.plane_axes
    if tuple(table.size) == (3, 3, 3):
        inverse, singular = torch.linalg.inv_ex(table.read().double())
        one_hot = torch.nn.functional.one_hot(inverse.argmax(dim=1), 3).transpose(1, 2)
        if not singular.any() and torch.allclose(inverse, one_hot.double(), atol=1e-6):
            return tuple(tuple(int(i) for i in plane.argmax(dim=0)[:2]) for plane in inverse)
    raise My3DGenError("its planes do not lie along the axes.")


def _text(value: Any) -> str:
    """A short text; anything else is only named, since printing nested lists can take for ever."""
    return value[:40] if isinstance(value, str) else type(value).__name__


def _optional_float(value: Any) -> float | None:
    return None if value is None else float(value)
