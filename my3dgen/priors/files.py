"""Our own prior format: one .safetensors with the generator's tensors and its configuration as metadata."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from my3dgen.assets import sha256
from my3dgen.errors import My3DGenError
from my3dgen.models.eg3d.config import GeneratorConfig
from my3dgen.models.eg3d.generator import Generator
from my3dgen.writing import replacing

FORMAT, VERSION = "my3dgen-prior", "1"
MAX_VALUES = 150_000_000  # in one generator; FFHQ has 31 million
MAX_BYTES = 2 * 1024**3  # a generator of 30 million values is 126 MB


def build(config: GeneratorConfig, state: Mapping[str, Tensor], source: str) -> Generator:
    """A generator holding these weights, which must be exactly the tensors its configuration asks for.

    `source` names them in error messages.
    """
    with torch.device("meta"):  # nothing is drawn or allocated only to be replaced
        generator = Generator(config)
    expected = {name: tuple(tensor.shape) for name, tensor in generator.state_dict().items()}
    if sum(map(math.prod, expected.values())) > MAX_VALUES:
        raise My3DGenError(f"{source} describes a generator larger than any we know; it is not one.")
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unknown:
        raise My3DGenError(
            f"{source} does not hold the generator it describes: {len(missing)} tensors are missing and "
            f"{len(unknown)} unknown (for example {(missing or unknown)[0][:120]!r}); get the file again."
        )
    ready = {}
    for name, shape in expected.items():
        tensor = state[name]
        if tuple(tensor.shape) != shape:
            raise My3DGenError(
                f"{source} does not hold the generator it describes: {name} has shape {tuple(tensor.shape)}, "
                f"expected {shape}; get the file again."
            )
        ready[name] = tensor.to(torch.float32).contiguous()
        if not torch.isfinite(ready[name]).all():
            raise My3DGenError(f"{source} holds values that are not finite (in {name}); get the file again.")
    generator.load_state_dict(ready, assign=True)
    return generator.eval().requires_grad_(False)


def save_prior(
    path: str | Path,
    generator: Generator,
    name: str,
    dtype: str = "float32",
    source_sha256: str | None = None,
) -> None:
    """Write a generator. dtype "float16" halves the file; reading gives float32 either way.

    source_sha256: of the file these very weights were converted from. The prior then goes by that hash, so that
    an adapter fits the published file and its conversions alike; None: by the hash of the file written.
    Raises `My3DGenError` where the folder cannot be written or a value does not fit the dtype.
    """
    kinds = {"float32": torch.float32, "float16": torch.float16}
    if dtype not in kinds:
        raise My3DGenError(f"A prior is stored as float32 or float16, not {dtype!r}.")
    state = {
        key: value.detach().to("cpu", kinds[dtype]).contiguous()
        for key, value in generator.state_dict().items()
    }
    for key, value in state.items():
        if not torch.isfinite(value).all():
            raise My3DGenError(
                f"{key} holds values that {dtype} cannot store; use float32 and check the training."
            )
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "config": json.dumps(generator.config.to_dict()),
    }
    if source_sha256 is not None:
        metadata["source_sha256"] = source_sha256
    write_safetensors(Path(path), state, metadata)


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a .safetensors whole or not at all: readers never see half a file."""
    with replacing(path) as file:
        file.write_bytes(safetensors.torch.save(dict(tensors), metadata=dict(metadata)))


def load_prior_file(path: Path) -> tuple[Generator, str, str]:
    """Read our format: the generator, its name and the hash it goes by (see `save_prior`).

    Raises `My3DGenError` where the file is not one of ours.
    """
    if path.stat().st_size > MAX_BYTES:
        raise My3DGenError(f"{path} has {path.stat().st_size} bytes, more than any prior; it is not one.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
                raise My3DGenError(
                    f"{path} is a {metadata.get('format', 'plain')[:40]!r} file (version "
                    f"{metadata.get('version', 'none')[:10]!r}); expected a {FORMAT!r} file of version "
                    f"{VERSION}, as `python -m my3dgen convert` writes."
                )
            config = GeneratorConfig.from_dict(json.loads(metadata.get("config", "null")))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (safetensors.SafetensorError, ValueError, OSError, RecursionError) as error:
        raise My3DGenError(
            f"{path} cannot be read as a prior ({str(error)[:200]}); get the file again."
        ) from error
    wrong = [name for name, tensor in state.items() if tensor.dtype not in (torch.float32, torch.float16)]
    if wrong:
        raise My3DGenError(
            f"{path} holds {state[wrong[0]].dtype} in {wrong[0][:120]!r}; expected float32 or float16."
        )
    digest = metadata.get("source_sha256") or sha256(path)
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise My3DGenError(f"{path} names a SHA-256 that is not 64 hex digits; get the file again.")
    return build(config, state, str(path)), metadata.get("name", path.stem)[:80], digest
