"""The values of a pickle's tensors: left in the file until they are asked for, and then looked at first."""

from __future__ import annotations

import io
import math
import pickletools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from my3dgen.errors import My3DGenError

MAX_VALUE = 256 * 1024**2  # bytes of one tensor; FFHQ's largest has 9 MB
MAX_LINE = 64 * 1024  # bytes of a name or a number written as text
MAX_HEADER_STEPS = 200  # opcodes of the header of a tensor's values; there are some 60

# All that the header of a bare storage needs (five small pickles, as torch's older format has them).
_HEADER_STEPS = {
    *("PROTO", "STOP", "LONG1", "BININT", "BININT1", "BININT2", "BINUNICODE", "NONE", "NEWTRUE", "NEWFALSE"),
    *("EMPTY_DICT", "EMPTY_LIST", "MARK", "TUPLE", "SETITEM", "SETITEMS", "APPEND", "APPENDS", "GLOBAL"),
    *("BINPUT", "BINGET", "BINPERSID"),
}


class BoundedFile:
    """A file that never makes room for more than it has: a length in a pickle is only a claim."""

    def __init__(self, file: BinaryIO, size: int):
        self._file, self._size, self.tell = file, size, file.tell

    def read(self, count: int) -> bytes:
        if count > MAX_VALUE:
            raise ValueError("it holds a value larger than any in a snapshot")
        if count > self._size - self._file.tell():
            raise EOFError("the file ends early")
        return self._file.read(count)

    def readline(self) -> bytes:
        return self._file.readline(MAX_LINE)


@dataclass(frozen=True, eq=False)
class FarBytes:
    """A long byte string that stays in the file."""

    path: Path
    start: int
    length: int
    head: bytes  # its first two

    def read(self) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return file.read(self.length)


@dataclass(eq=False)
class Storage:
    """The values that one or several tensors show. Raises `ValueError` where they are an archive."""

    data: bytes | FarBytes
    _read: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        head = self.data[:2] if isinstance(self.data, bytes) else self.data.head
        if head == b"PK":
            raise ValueError("it holds an archive in place of a tensor's values")

    def read(self) -> Any:
        """torch's storage."""
        if self._read is None:
            data = self.data if isinstance(self.data, bytes) else self.data.read()
            _check_storage(data)
            self._read = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return self._read


@dataclass(eq=False)
class LazyTensor:
    """A tensor whose values are read when it is asked for."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self) -> Tensor:
        """The tensor. Raises `My3DGenError` where its values are not there or not only values."""
        try:
            return self._view(self.storage.read())
        except Exception as error:  # what claims to be values can be anything
            raise My3DGenError(f"a tensor in it cannot be read ({what(error)})") from error

    def _view(self, storage: Any) -> Tensor:
        numbers = storage._untyped_storage  # the public way to it warns that typed storages will go
        values = torch.tensor([], dtype=storage.dtype)
        last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        most = max(last + 1, math.prod(self.size))  # no value counts twice: repeats grow when they are copied
        if all(self.size) and most * values.element_size() > numbers.nbytes():
            raise ValueError("it is larger than its values")
        return values.set_(numbers, self.offset, self.size, self.stride)


def _check_storage(data: bytes) -> None:
    """Only then does torch read it (with weights_only): its header is short and claims no more than there is."""
    header, steps = io.BytesIO(data), 0
    for part in range(5):
        tuples = 0
        for opcode, argument, _ in pickletools.genops(BoundedFile(header, len(data))):
            steps, tuples = steps + 1, tuples + (opcode.name == "TUPLE")
            if opcode.name not in _HEADER_STEPS or steps > MAX_HEADER_STEPS or tuples > 1:
                raise ValueError("it holds more than values")
            if part and isinstance(argument, int) and argument > max(len(data), 2**16):
                raise ValueError("it is larger than its bytes")


def what(error: Exception) -> str:
    """An error of somebody's file in few words on one line."""
    return f"{type(error).__name__}: {' '.join(str(error)[:150].split())}"
