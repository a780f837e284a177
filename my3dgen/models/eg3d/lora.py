"""Low-rank personal updates of a generator (LoRA; My3DGen, section 3.2).

Adapted are the kernels of every synthesis layer and ToRGB, of backbone and super-resolution, and their style
layers ("affine"): 52 layers in EG3D. A pair A, B adds W = W0 + scale * reshape(B A), scale = alpha / rank.
The update of a style layer is added to its output and not multiplied by the layer's gain.

A *view* is a generator whose frozen tensors are the base's own (the same memory) and whose personal tensors
are its own. The base is never touched. A view of several rows runs different people, or none, in one batch.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

from my3dgen.errors import My3DGenError, shown
from my3dgen.models.eg3d.generator import Generator
from my3dgen.models.eg3d.stylegan2 import FullyConnected, SynthesisBlock, SynthesisLayer, ToRGB

_CONST = re.compile(r"\.b\d+\.lora\.[AB]$")  # a pair on a block itself is one on its constant
LAYOUTS = ("latest", "v1")
TRAINABLE = ("release", "lowrank", "full")
MAX_RANK = 64
MAX_CONST = 16  # a learned constant wider than this is too large to own outright: it gets a low-rank pair


@dataclass(frozen=True)
class LoraOptions:
    """What a personalization trains."""

    rank: int = 1  # r: rank of a style layer's update, r*k of a k x k kernel's
    alpha: float = 1.0  # the update is scaled by alpha / rank
    layout: str = "latest"  # "latest": A (rk, I k k), B (O, rk); "v1" (loralib's): A (rk, I k), B (O k, rk)
    # "lowrank": the pairs; "release": also biases, constant and noise strengths, as the authors' release
    # does; "full": no pairs, every tensor but the mapping's is tuned
    trainable: str = "release"
    const_rank: int = 8  # rank of the pair on a constant wider than 16 (`heads`); EG3D's is owned whole
    decoder: bool = False  # the decoder is tuned, too (the paper's text says so, its release does not)

    def __post_init__(self) -> None:
        whole = isinstance(self.rank, Integral) and not isinstance(self.rank, bool)
        if not (whole and 1 <= self.rank <= MAX_RANK):
            raise My3DGenError(
                f"The rank is {shown(self.rank)}; it must be a whole number from 1 to {MAX_RANK}."
            )
        number = isinstance(self.alpha, Real) and not isinstance(self.alpha, bool)
        if not (number and 0 < self.alpha <= 1e6):
            raise My3DGenError(f"alpha is {shown(self.alpha)}; it must be a positive number.")
        if not (isinstance(self.const_rank, Integral) and 0 <= self.const_rank <= MAX_RANK):
            raise My3DGenError(
                f"const_rank is {shown(self.const_rank)}; it must be a whole number from 0 to {MAX_RANK}."
            )
        if self.layout not in LAYOUTS:
            raise My3DGenError(f"The layout is {shown(self.layout)}; it must be one of {', '.join(LAYOUTS)}.")
        if self.trainable not in TRAINABLE:
            raise My3DGenError(
                f"trainable is {shown(self.trainable)}; it must be one of {', '.join(TRAINABLE)}."
            )

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class KernelUpdate(nn.Module):
    """The update of a convolution's kernel. A leading dimension of A and B holds one pair per batch row."""

    def __init__(self, a: Tensor, b: Tensor, scale: float, shape: Sequence[int]):
        super().__init__()
        self.A, self.B, self.scale, self.shape = nn.Parameter(a), nn.Parameter(b), scale, tuple(shape)

    def forward(self) -> Tensor:
        """[O, I, k, k] or [rows, O, I, k, k]. Either layout is the product, reshaped."""
        return (self.B @ self.A).reshape(*self.A.shape[:-2], *self.shape) * self.scale


def _scale(name: str, options: LoraOptions) -> float:
    """Scale of a pair: the constant's has a rank of its own and counts in full."""
    return 1.0 if _CONST.search(name) else options.scale


class LinearUpdate(nn.Module):
    """What the update of a fully connected layer adds to its output."""

    def __init__(self, a: Tensor, b: Tensor, scale: float):
        super().__init__()
        self.A, self.B, self.scale = nn.Parameter(a), nn.Parameter(b), scale

    def forward(self, x: Tensor) -> Tensor:
        """x [B, inputs] -> [B, outputs]."""
        if self.A.ndim == 2:
            return x @ self.A.t() @ self.B.t() * self.scale
        return (self.B @ (self.A @ x.unsqueeze(-1))).squeeze(-1) * self.scale


def adapted_layers(generator: Generator) -> Iterator[tuple[str, nn.Module]]:
    """Name and module of every layer that gets a pair: convolutions and their style layers."""
    for name, module in generator.named_modules():
        if isinstance(module, (SynthesisLayer, ToRGB)):
            yield name, module
            yield f"{name}.affine", module.affine


def _constants(generator: Generator) -> Iterator[tuple[str, SynthesisBlock]]:
    """The block that starts from a learned constant."""
    for name, module in generator.named_modules():
        if isinstance(module, SynthesisBlock) and module.first:
            yield name, module


def own_shapes(generator: Generator, options: LoraOptions) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor a person owns under these options: all there is to train and save."""
    parameters = {name: tuple(p.shape) for name, p in generator.named_parameters()}
    if options.trainable == "full":
        kept_back = ("backbone.mapping.",)
        return {name: shape for name, shape in parameters.items() if not name.startswith(kept_back)}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in adapted_layers(generator):
        a, b = _pair_shapes(module, options)
        shapes[f"{name}.lora.A"], shapes[f"{name}.lora.B"] = a, b
        if options.trainable == "release":
            shapes[f"{name}.bias"] = parameters[f"{name}.bias"]
            if isinstance(module, SynthesisLayer):
                shapes[f"{name}.noise_strength"] = ()
    if options.trainable == "release":
        for name, module in _constants(generator):
            if module.const.shape[-1] <= MAX_CONST:
                shapes[f"{name}.const"] = parameters[f"{name}.const"]
            elif options.const_rank:
                channels, height, width = module.const.shape
                shapes[f"{name}.lora.A"] = (options.const_rank, height * width)
                shapes[f"{name}.lora.B"] = (channels, options.const_rank)
    if options.decoder:
        shapes |= {name: shape for name, shape in parameters.items() if name.startswith("decoder.")}
    return shapes


def _pair_shapes(module: nn.Module, options: LoraOptions) -> tuple[tuple[int, int], tuple[int, int]]:
    rank = options.rank
    if isinstance(module, FullyConnected):
        outputs, inputs = module.weight.shape
        return (rank, inputs), (outputs, rank)
    outputs, inputs, k, _ = module.weight.shape
    if options.layout == "v1":
        return (rank * k, inputs * k), (outputs * k, rank * k)
    return (rank * k, inputs * k * k), (outputs, rank * k)


def initial_tensors(generator: Generator, options: LoraOptions, seed: int = 0) -> dict[str, Tensor]:
    """Personal tensors that leave the generator as it is: A random, B zero, the others copies of the base's.

    A is U(+-1 / sqrt(columns)) (kaiming_uniform with a = sqrt 5), drawn on the CPU from `seed`.
    """
    rng = torch.Generator().manual_seed(seed)
    parameters = dict(generator.named_parameters())
    device = next(iter(parameters.values())).device
    tensors = {}
    for name, shape in own_shapes(generator, options).items():
        if name.endswith(".lora.A"):
            bound = shape[1] ** -0.5
            tensors[name] = (torch.rand(shape, generator=rng) * 2 * bound - bound).to(device)
        elif name.endswith(".lora.B"):
            tensors[name] = torch.zeros(shape, device=device)
        else:
            tensors[name] = parameters[name].detach().clone()
    return tensors


def check_tensors(generator: Generator, options: LoraOptions, tensors: Mapping[str, Tensor]) -> None:
    """Raise `My3DGenError` unless these are exactly the personal tensors of this generator."""
    expected = own_shapes(generator, options)
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        raise My3DGenError(
            f"The adapter does not fit this prior: {len(missing)} tensors missing, {len(unknown)} unknown "
            f"(for example {(missing or unknown)[0][:120]!r}). Use it with the prior it was made for."
        )
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise My3DGenError(
                f"The adapter does not fit this prior: {name} has shape {tuple(tensors[name].shape)}, "
                f"expected {shape}. Use it with the prior it was made for."
            )


def view(
    generator: Generator, tensors: Mapping[str, Tensor], options: LoraOptions, trainable: bool = False
) -> Generator:
    """The generator with a person's tensors in place.

    tensors: as `own_shapes` lists them; used as they are, not copied. trainable: they require gradients.
    """
    check_tensors(generator, options, tensors)
    return _install(generator, tensors, lambda name: _scale(name, options), trainable)


def rows_view(
    generator: Generator, rows: Sequence[tuple[Mapping[str, Tensor], LoraOptions] | None]
) -> Generator:
    """A generator for batches of exactly len(rows) in which row i is person i, or the base where rows[i] is
    None.

    Planes must come from the view's own `planes` (or `synthesis`) with that batch. People may differ in rank,
    alpha and trained set, not in layout.
    """
    people = [row for row in rows if row is not None]
    for tensors, options in people:
        check_tensors(generator, options, tensors)
    if len({options.layout for _, options in people}) > 1:
        raise My3DGenError(
            "Adapters of different layouts cannot share a batch; render them one after another."
        )
    parameters = dict(generator.named_parameters())
    stacked = {}
    for name in sorted({name for tensors, _ in people for name in tensors}):
        values = [None if row is None or name not in row[0] else _scaled(name, *row) for row in rows]
        like = next(value for value in values if value is not None)
        if ".lora." in name:  # no update: zeros; lower ranks are filled up with zeros
            axis = 0 if name.endswith(".A") else 1
            size = max(value.shape[axis] for value in values if value is not None)
            shape = (size, like.shape[1]) if axis == 0 else (like.shape[0], size)
            values = [_fill(value, like.new_zeros(shape)) for value in values]
        else:
            base = parameters[name].detach().to(like)
            values = [base if value is None else value for value in values]
        stacked[name] = torch.stack(values)
    return _install(generator, stacked, lambda name: 1.0, trainable=False)


def _scaled(name: str, tensors: Mapping[str, Tensor], options: LoraOptions) -> Tensor:
    return tensors[name] * _scale(name, options) if name.endswith(".lora.B") else tensors[name]


def _fill(value: Tensor | None, zeros: Tensor) -> Tensor:
    if value is not None:
        zeros[: value.shape[0], : value.shape[1]] = value
    return zeros


def own_tensors(personal: Generator) -> dict[str, nn.Parameter]:
    """The trainable tensors of a view made with `trainable=True`, by name."""
    return {name: p for name, p in personal.named_parameters() if p.requires_grad}


@torch.no_grad()
def merge(personal: Generator) -> dict[str, Tensor]:
    """A view's weights as a plain state dict, with the updates worked into the kernels.

    Style layers multiply their weight by a gain that the update does not get, so it is divided out.
    """
    state = {name: value for name, value in personal.state_dict().items() if ".lora." not in name}
    for name, module in adapted_layers(personal):
        update = module.lora
        if update is None:
            continue
        if update.A.ndim != 2:
            raise My3DGenError("A batch of several people cannot be merged; merge each person's own view.")
        if isinstance(module, FullyConnected):
            state[f"{name}.weight"] = module.weight + update.B @ update.A * (
                update.scale / module.weight_gain
            )
        else:
            state[f"{name}.weight"] = module.kernel()
    for name, block in _constants(personal):
        if block.lora is not None:
            state[f"{name}.const"] = block.const + block.lora()
    return {name: value.detach().clone() for name, value in state.items()}


def _install(
    generator: Generator, tensors: Mapping[str, Tensor], scale_of: Callable[[str], float], trainable: bool
) -> Generator:
    """A twin that shares the generator's tensors, with some of them replaced and the updates hooked in."""
    twin = twin_of(generator)
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        if path.endswith(".lora"):
            if leaf == "B":
                continue
            layer = twin.get_submodule(path.removesuffix(".lora"))
            a, b, scale = tensor.detach(), tensors[f"{path}.B"].detach(), scale_of(name)
            if isinstance(layer, FullyConnected):
                layer.lora = LinearUpdate(a, b, scale)
            else:
                shape = (layer.const if isinstance(layer, SynthesisBlock) else layer.weight).shape
                layer.lora = KernelUpdate(a, b, scale, shape)
            layer.lora.requires_grad_(trainable)
        else:
            module = twin.get_submodule(path)
            module._parameters[leaf] = nn.Parameter(tensor.detach(), requires_grad=trainable)
    return twin


def twin_of(module: nn.Module) -> nn.Module:
    """New module objects around the same tensors; the twin's parameters need no gradients."""
    twin = module.__new__(type(module))
    twin.__dict__ = {key: copy.copy(v) if isinstance(v, dict) else v for key, v in module.__dict__.items()}
    twin._parameters = {
        name: None if p is None else nn.Parameter(p.detach(), requires_grad=False)
        for name, p in module._parameters.items()
    }
    twin._modules = {
        name: None if child is None else twin_of(child) for name, child in module._modules.items()
    }
    return twin
