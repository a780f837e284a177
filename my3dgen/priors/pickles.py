"""Reading a pickle without running anything in it.

A pickle names classes and functions and says what to call them with. Here every name but a handful becomes an
inert stub that remembers what it was given; the handful are functions of ours that build tensors, numbers and
dictionaries.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from my3dgen.errors import My3DGenError

MAX_BYTES = 8 * 1024**3  # My3DGen's snapshots reach 2.4 GB
MAX_MEMO = 50_000_000  # entries of a pickle's memo table; a single opcode could ask for billions

_SCALARS = {
    "f8": "<d",
    "f4": "<f",
    "f2": "<e",
    "i8": "<q",
    "i4": "<i",
    "i2": "<h",
    "i1": "<b",
    "u1": "<B",
    "b1": "<?",
}


class Stub(dict):
    """Stands for an object of any class. As a dict it takes what dict subclasses are filled with."""

    class_name = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> Stub:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}

    def append(self, item: Any) -> None:
        """List subclasses are filled one by one; nobody needs their items."""

    def extend(self, items: Any) -> None:
        """See `append`."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def load(path: Path) -> Any:
    """The contents of a pickle, with stubs for everything but plain data and tensors.

    Raises `My3DGenError` where it is not a pickle, is damaged, or would need absurd amounts of memory.
    """
    if path.stat().st_size > MAX_BYTES:
        raise My3DGenError(f"{path} has {path.stat().st_size} bytes, more than any snapshot; it is not one.")
    try:
        with open(path, "rb") as file:
            _check_memo(file)
            file.seek(0)
            return _Reader(file).load()
    except My3DGenError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        what = f"{type(error).__name__}: {str(error)[:150]}"
        raise My3DGenError(f"{path} cannot be read as a snapshot ({what}); get the file again.") from error


def _check_memo(file: io.BufferedReader) -> None:
    """The memo table is an array as long as the largest index used, so that index is checked beforehand."""
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument) > MAX_MEMO:
            raise ValueError("the memo table would be too large")


class _Call:
    """One of our functions as a pickle sees it: it can be called and not be changed."""

    def __init__(self, function: Any):
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("it tries to change how it is read")


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (function := _ALLOWED.get((module, name))) is not None:
            return _Call(function)
        return type("Stub", (Stub,), {"class_name": name})

    def persistent_load(self, pid: Any) -> Any:
        raise ValueError("it refers to data outside the file")


def _persistent_object(meta: Any) -> Stub:
    """Official networks: only name and state are kept; the source text beside them is never looked at."""
    stub = type("Stub", (Stub,), {"class_name": str(meta["class_name"])})()
    stub.__setstate__(meta["state"])
    return stub


def _storage(data: bytes) -> Any:
    if data[:2] == b"PK":
        raise ValueError("it holds an archive in place of a tensor's values")
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _tensor(storage: Any, offset: int, size: tuple, stride: tuple, *_ignored: Any) -> Tensor:
    values = torch.tensor([], dtype=storage.dtype)
    numbers = storage._untyped_storage  # the public way to it warns that typed storages will go
    if not (len(size) == len(stride) and offset >= 0 and all(n >= 0 for n in (*size, *stride))):
        raise ValueError("a tensor has an impossible shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if all(size) and (last + 1) * values.element_size() > numbers.nbytes():
        raise ValueError("a tensor is larger than its values")
    return values.set_(numbers, offset, tuple(size), tuple(stride))


def _parameter(data: Tensor, *_ignored: Any) -> Tensor:
    return data


class _Dtype:
    """numpy.dtype("f8") and its like, as far as scalars need it."""

    def __init__(self, name: str, *_ignored: Any):
        self.layout = _SCALARS[str(name).lstrip("<=|")]

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ("<", "=", "|"):
            raise ValueError("a number has a byte order of another machine")


def _scalar(dtype: _Dtype, data: bytes) -> float | int | bool:
    return struct.unpack(dtype.layout, data)[0]


_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent_object,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}
