"""Writes pickles of the structure official snapshots have, from a generator of ours and without their code."""

from __future__ import annotations

import pickle
import sys
import types
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from my3dgen.models.eg3d import lora
from my3dgen.models.eg3d.generator import Generator

SOURCE = "raise RuntimeError('embedded source was executed')"


def _reconstruct_persistent_obj(meta: dict) -> None:
    exec(meta["module_src"])


class Persistent:
    """Pickled as official networks are: a function, the source text and the state."""

    def __init__(self, class_name: str, state: dict[str, Any]):
        self.meta = {
            "type": "class", "version": 6, "module_src": SOURCE, "class_name": class_name, "state": state,
        }  # fmt: skip

    def __reduce__(self):
        return _reconstruct_persistent_obj, (self.meta,)


@contextmanager
def official_names():
    """Let pickle find the function under the name official files use."""
    module = types.ModuleType("torch_utils.persistence")
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj
    names = {"torch_utils": types.ModuleType("torch_utils"), "torch_utils.persistence": module}
    before = _reconstruct_persistent_obj.__module__
    sys.modules.update(names)
    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    try:
        yield
    finally:
        _reconstruct_persistent_obj.__module__ = before
        for name in names:
            del sys.modules[name]


def state(children: dict[str, Any] | None = None, tensors=None, buffers=None, **plain: Any) -> dict[str, Any]:
    parameters = {name: nn.Parameter(value.detach().clone()) for name, value in (tensors or {}).items()}
    return {
        "training": False,
        "_parameters": OrderedDict(parameters),
        "_buffers": OrderedDict(buffers or {}),
        "_modules": OrderedDict(children or {}),
        "_init_args": (Persistent("Stale", {"_modules": {}}),),
        **plain,
    }


def network(generator: Generator, wrap: bool = False, merged: bool = True, **options: Any) -> Persistent:
    """The generator as an official network; `wrap`: a view, as the authors' My3DGen pickles it."""
    config = generator.config
    rendering = {
        "depth_resolution": np.float64(config.depth_samples).astype(np.int64),
        "depth_resolution_importance": config.importance_samples, "ray_start": np.float64(config.ray_start),
        "ray_end": config.ray_end, "box_warp": config.box_warp, "c_scale": config.c_scale,
        "clamp_mode": "softplus", "disparity_space_sampling": False, "avg_camera_pivot": [0, 0, -0.06],
    } | options  # fmt: skip

    def pack(module: nn.Module, name: str) -> Any:
        children = {key: pack(child, key) for key, child in module.named_children() if key != "lora"}
        plain = {}
        if isinstance(module, lora.SynthesisLayer):
            plain["conv_clamp"] = module.clamp
        if name == "superresolution":
            plain["input_resolution"] = config.sr_input_resolution
        kind = type(module).__name__
        if name == "superresolution":
            kind = f"SuperresolutionHybrid{config.sr_kind}"
        tensors, buffers = dict(module._parameters), dict(module._buffers)
        update = getattr(module, "lora", None)
        if update is not None and merged and isinstance(module, lora.FullyConnected):
            change = update.B @ update.A * (update.scale / module.weight_gain)
            tensors["weight"] = module.weight + change
        elif update is not None and merged:
            tensors["weight"] = module.kernel()
        packed = Persistent(kind, state(children, tensors, buffers, **plain))
        inner = {
            lora.FullyConnected: "fully_connected_layer", lora.SynthesisLayer: "synthesis_layer",
            lora.ToRGB: "to_rgb_layer",
        }.get(type(module))  # fmt: skip
        if update is not None and inner:
            pair = {"lora_A": update.A, "lora_B": update.B}
            more = {
                "r": len(update.A),
                "lora_alpha": 1,
                "merge_weights": True,
                "scaling": update.scale,
                "merged": merged,
            }
            stale = {key: torch.zeros_like(value) for key, value in tensors.items() if value is not None}
            more["_init_args"] = (Persistent(kind, state({}, stale)), Persistent(kind, state({}, pair)))
            return Persistent("Wrapper", state({inner: packed}, pair, **more))
        if wrap and kind == "SynthesisBlock":
            return Persistent("Wrapper", state({"synthesis_block": packed}))
        if wrap and name == "superresolution":
            return Persistent("Wrapper", state({"superresolution_module": packed}))
        if wrap and kind == "SynthesisNetwork":
            return Persistent("LoraNet", state({"synthesis": packed}))
        return packed

    children = {name: pack(child, name) for name, child in generator.named_children() if name != "renderer"}
    more = {"rendering_kwargs": rendering, "neural_rendering_resolution": config.neural_resolution}
    buffers = {"dataset_label_std": torch.ones(25)}
    return Persistent("TriPlaneGenerator", state(children, {}, buffers, **more))


def write(path: Path, **networks: Any) -> Path:
    """A snapshot with these entries (G_ema, G, ...)."""
    with official_names(), open(path, "wb") as file:
        pickle.dump({"training_set_kwargs": None, "augment_pipe": None, **networks}, file)
    return path
