"""The file a personalization leaves behind: a few hundred kilobytes that turn a prior into one person's
model.

One .safetensors: the personal tensors, the anchors, and metadata that says which prior they belong to.
Everything is checked before it is used; nothing in the file can be executed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import safetensors
import torch
from torch import Tensor

from my3dgen.errors import My3DGenError
from my3dgen.models.eg3d.generator import Generator
from my3dgen.models.eg3d.lora import LoraOptions, own_tensors
from my3dgen.personal.anchors import Anchors
from my3dgen.priors.files import write_safetensors
from my3dgen.priors.prior import Prior

FORMAT, VERSION = "my3dgen-adapter", "1"
MAX_BYTES = 64 * 1024**2  # rank 64 on FFHQ is 56 MB
MAX_LAYERS = 64  # latent vectors per anchor; EG3D has 14
MAX_ANCHOR_VALUES = 8_000_000  # of all anchors together; 1,000 of EG3D's have 7 million
_DTYPES = {"float32": torch.float32, "float16": torch.float16}
_PERSON = "person."  # prefix of the personal tensors' names in the file; they are LoraOptions' otherwise
_ANCHORS = ("anchors.ws", "anchors.cameras")


@dataclass(frozen=True, eq=False)
class Adapter:
    """A person's tensors and anchors, and the prior they belong to."""

    prior_name: str  # for messages; the hash is what counts
    prior_sha256: str  # of the prior's file, 64 hex digits
    options: LoraOptions  # rank, alpha, layout and what else was trained
    tensors: Mapping[str, Tensor] = field(repr=False)  # float32, named as `lora.own_shapes` names them
    anchors: Anchors = field(repr=False)  # the person's latents and cameras, [N, L, w_dim] and [N, 25]

    @classmethod
    def from_view(cls, personal: Generator, prior: Prior, options: LoraOptions, anchors: Anchors) -> Adapter:
        """What a trainable view (`lora.view(..., trainable=True)`) has learned, copied."""
        tensors = {
            name: p.detach().to("cpu", torch.float32, copy=True) for name, p in own_tensors(personal).items()
        }
        anchors = Anchors(anchors.ws.cpu(), anchors.cameras.cpu(), anchors.sources)
        return cls(prior.name, prior.sha256, options, tensors, anchors)

    @property
    def rank(self) -> int:
        return self.options.rank

    @property
    def alpha(self) -> float:
        return self.options.alpha

    @property
    def layout(self) -> str:
        return self.options.layout

    @property
    def trainable_parameters(self) -> int:
        """How many numbers were trained."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    @property
    def bytes(self) -> int:
        """Size of the personal tensors in float32, without the anchors."""
        return 4 * self.trainable_parameters

    def save(self, path: str | Path, dtype: str = "float32") -> None:
        """Write the file, whole or not at all. dtype "float16" halves the personal tensors; anchors stay
        float32.

        Of the anchors' sources only the file names are kept: a folder's name may say more about somebody than
        they meant to share. Raises `My3DGenError` where the values do not fit the dtype or the path cannot be
        written.
        """
        if dtype not in _DTYPES:
            raise My3DGenError(f"An adapter is stored as float32 or float16, not {dtype!r}.")
        stored = {
            _PERSON + name: value.to("cpu", _DTYPES[dtype]).contiguous()
            for name, value in self.tensors.items()
        }
        for name, value in stored.items():
            if not torch.isfinite(value).all():
                raise My3DGenError(
                    f"{name} holds values that {dtype} cannot store; the training has diverged."
                )
        ws = self.anchors.ws.cpu()
        if bool((ws == ws[:, :1]).all()):  # one latent for all layers, as projection to W gives: keep it once
            ws = ws[:, :1]
        stored |= {"anchors.ws": ws.contiguous(), "anchors.cameras": self.anchors.cameras.cpu().contiguous()}
        metadata = {
            "format": FORMAT,
            "version": VERSION,
            "prior": self.prior_name,
            "prior_sha256": self.prior_sha256,
            "options": json.dumps(self.options.to_dict()),
            # for whoever looks into the file; what is read are the options
            "rank": str(self.options.rank),
            "alpha": str(self.options.alpha),
            "layout": self.options.layout,
            "layers": str(self.anchors.ws.shape[1]),
            "sources": json.dumps([_file_name(source) for source in self.anchors.sources]),
        }
        write_safetensors(Path(path), stored, metadata)


def load_adapter(path: str | Path) -> Adapter:
    """Read and check an adapter. Whether it fits a prior is checked by `Prior.personalized`.

    Raises `My3DGenError` where the file is missing, too large, damaged, of another kind, or holds values that
    are not finite.
    """
    try:
        path = Path(path)
        size = path.stat().st_size if path.is_file() else None
    except TypeError as error:
        raise My3DGenError(f"An adapter is read from a file's path; got {type(path).__name__!r}.") from error
    except OSError as error:
        raise My3DGenError(f"{path} cannot be read ({error.strerror}).") from error
    if size is None:
        raise My3DGenError(f"{path} is not a file; give the path of an adapter (.safetensors).")
    if size > MAX_BYTES:
        raise My3DGenError(f"{path} has {size} bytes; an adapter has at most {MAX_BYTES}.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
                raise My3DGenError(
                    f"{path} is a {metadata.get('format', 'plain')[:40]!r} file (version "
                    f"{metadata.get('version', 'none')[:10]!r}); expected a {FORMAT!r} file of version "
                    f"{VERSION}, as `python -m my3dgen personalize` writes."
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return _checked(metadata, tensors)
    except My3DGenError as error:
        raise error if str(path) in str(error) else My3DGenError(f"{path}: {error}") from error
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, OSError, RecursionError) as error:
        raise My3DGenError(
            f"{path} cannot be read as an adapter ({str(error)[:200]}); get the file again."
        ) from error


def _checked(metadata: Mapping[str, str], tensors: dict[str, Tensor]) -> Adapter:
    """The adapter in a file's contents, once all of it is as it should be."""
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES.values():
            raise My3DGenError(
                f"{name[:120]!r} is {tensor.dtype}, expected float32 or float16; the file is not ours."
            )
        if not torch.isfinite(tensor).all():
            raise My3DGenError(f"{name[:120]!r} holds values that are not finite; personalize again.")
    if not re.fullmatch("[0-9a-f]{64}", metadata["prior_sha256"]):
        raise My3DGenError("the prior's SHA-256 in it is not 64 hex digits; the file is damaged.")
    options = LoraOptions(**_table(metadata["options"], dict))
    ws, cameras = (tensors.pop(name).float() for name in _ANCHORS)
    layers = int(metadata["layers"])
    if not 1 <= layers <= MAX_LAYERS or ws.ndim != 3 or ws.shape[1] not in (1, layers):
        raise My3DGenError(
            f"its anchors have shape {tuple(ws.shape)} for {layers} layers; the file is damaged."
        )
    if not len(ws) or ws.numel() * layers // ws.shape[1] > MAX_ANCHOR_VALUES:
        raise My3DGenError(
            f"its anchors have shape {tuple(ws.shape)} for {layers} layers; expected at least one, and at most "
            f"{MAX_ANCHOR_VALUES} numbers in all."
        )
    sources = _table(metadata.get("sources", "[]"), list)
    anchors = Anchors(
        ws.repeat(1, layers // ws.shape[1], 1), cameras, tuple(str(name)[:255] for name in sources)
    )
    foreign = [name for name in tensors if not name.startswith(_PERSON)]
    if foreign or not tensors:
        raise My3DGenError(
            f"it holds {'unknown tensors' if foreign else 'no personal tensors'}; the file is not ours."
        )
    own = {name.removeprefix(_PERSON): tensor.float() for name, tensor in tensors.items()}
    return Adapter(metadata.get("prior", "unknown")[:80], metadata["prior_sha256"], options, own, anchors)


def _table(text: str, kind: type) -> Any:
    value = json.loads(text)
    if not isinstance(value, kind):
        raise My3DGenError("its metadata is not in our format; the file is damaged.")
    return value


def _file_name(source: str) -> str:
    return PureWindowsPath(PurePosixPath(source).name).name
