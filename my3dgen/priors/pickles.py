"""Reading a pickle without running anything in it, and without letting it take the machine.

A pickle is a program: it names classes and functions and says what to call them with. Ours is an interpreter of
that program in which nothing can be called but a handful of functions of ours that build tensors, numbers and
dictionaries. Every other name is an inert stub. Nothing is hashed but plain keys, nothing is compared or printed,
the number of steps is limited, and large values stay in the file until a tensor is asked for: so neither nested
lists nor memo tricks grow, and of several networks in a file only the one that is used is ever read.
"""

from __future__ import annotations

import pickletools
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from my3dgen.errors import My3DGenError
from my3dgen.priors.storages import BoundedFile, FarBytes, LazyTensor, Storage, what

MAX_BYTES = 8 * 1024**3  # My3DGen's snapshots reach 2.4 GB
MAX_STEPS = 500_000  # opcodes; a snapshot of My3DGen, stale copies and all, has about 200,000
MAX_BITS = 1024  # of a whole number
MAX_TEXT = 64 * 1024**2  # bytes of text and short byte strings in all; sources are some 100 kB
FAR = 4096  # byte strings longer than this stay in the file

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

    def __init__(self, class_name: str = "", state: Any = None):
        super().__init__()
        self.class_name = class_name
        self.state: dict = state if isinstance(state, dict) else {}


def load(path: Path) -> Any:
    """The contents of a pickle, with stubs for everything but plain data, and `LazyTensor`s.

    Raises `My3DGenError` where it is not a pickle, is damaged, or asks for more than any snapshot.
    """
    if path.stat().st_size > MAX_BYTES:
        raise My3DGenError(f"{path} has {path.stat().st_size} bytes, more than any snapshot; it is not one.")
    try:
        with open(path, "rb") as file:
            return _Machine(path).run(BoundedFile(file, path.stat().st_size))
    except Exception as error:  # a damaged pickle can raise anything
        raise My3DGenError(
            f"{path} cannot be read as a snapshot ({what(error)}); get the file again."
        ) from error


class _Class:
    """A name in the file that is none of ours: making one gives a stub."""

    def __init__(self, name: str):
        self.name = name


_KEYS = (str, int, float, bool, type(None))
_NOTHING = {"PROTO", "FRAME"}
_VALUES = {
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": Stub}  # nobody needs the items of a set
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_BYTES = {"SHORT_BINBYTES": 2, "BINBYTES": 5, "BINBYTES8": 9}  # bytes of the opcode and its length


class _Machine:
    """One run of a pickle. Opcodes that are not here (persistent ids, extensions, buffers) are refused."""

    def __init__(self, path: Path):
        self.path, self.stack, self.marks, self.memo = path, [], [], {}
        self.names: dict[str, _Class] = {}
        self.text = 0

    def run(self, file: BoundedFile) -> Any:
        for step, (opcode, argument, position) in enumerate(pickletools.genops(file)):
            if step > MAX_STEPS:
                raise ValueError("it has more steps than any snapshot")
            name = opcode.name
            if isinstance(argument, (str, bytes)):
                self.text += len(argument) if len(argument) <= FAR or name not in _BYTES else 0
                if self.text > MAX_TEXT:
                    raise ValueError("it holds more text than any snapshot")
            if isinstance(argument, int) and argument.bit_length() > MAX_BITS:
                raise ValueError("it holds a larger number than any snapshot")
            if name == "STOP":
                return self.stack.pop()
            if name in _VALUES:
                self.stack.append(argument)
            elif name in _BYTES:
                far = len(argument) > FAR
                start = position + _BYTES[name]
                value = FarBytes(self.path, start, len(argument), argument[:2]) if far else argument
                self.stack.append(value)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name in _EMPTY:
                self.stack.append(_EMPTY[name]())
            elif name in _TUPLES:
                count = _TUPLES[name]
                self.stack[-count:] = [tuple(self.stack[-count:])]
            elif name in _STEPS:
                _STEPS[name](self, argument)
            elif name not in _NOTHING:
                raise ValueError(f"it uses {name}, which no snapshot does")
        raise EOFError("the file ends early")

    def mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def since_mark(self) -> list:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def pop_mark(self, _: Any) -> None:
        self.since_mark()

    def pop(self, _: Any) -> None:
        self.stack.pop()

    def tuple(self, _: Any) -> None:
        items = tuple(self.since_mark())
        self.stack.append(items)

    def list(self, _: Any) -> None:
        items = self.since_mark()
        self.stack.append(items)

    def dict(self, _: Any) -> None:
        items = self.since_mark()
        self.stack.append({})
        self._fill(items)

    def frozenset(self, _: Any) -> None:
        self.since_mark()
        self.stack.append(Stub("frozenset"))

    def append(self, _: Any) -> None:
        item = self.stack.pop()
        self._extend([item])

    def appends(self, _: Any) -> None:
        self._extend(self.since_mark())

    def _extend(self, items: list) -> None:
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif not isinstance(target, Stub):
            raise ValueError("it fills what is no list")

    def setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def setitems(self, _: Any) -> None:
        self._fill(self.since_mark())

    def _fill(self, items: list) -> None:
        """Keys that are not plain are left out: hashing nested tuples can take for ever."""
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise ValueError("it fills what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) in _KEYS:
                target[key] = value

    def put(self, index: Any) -> None:
        self.memo[int(index)] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, index: Any) -> None:
        self.stack.append(self.memo[int(index)])

    def named(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._push_name(module, name)

    def stack_named(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (type(name) is str and type(module) is str):
            raise ValueError("a name in it is no text")
        self._push_name(module, name)

    def _push_name(self, module: str, name: str) -> None:
        found = _ALLOWED.get((module, name))
        if found is None:
            found = self.names.setdefault(name, _Class(name))
        self.stack.append(found)

    def reduce(self, _: Any) -> None:
        arguments, what = self.stack.pop(), self.stack.pop()
        if isinstance(what, _Class):
            self.stack.append(Stub(what.name))
        elif isinstance(what, _Function) and type(arguments) is tuple:
            self.stack.append(what.run(*arguments))
        else:
            raise ValueError("it calls what cannot be called")

    def new(self, _: Any) -> None:
        self.stack.pop()
        self._new()

    def new_with_keywords(self, _: Any) -> None:
        del self.stack[-2:]
        self._new()

    def _new(self) -> None:
        what = self.stack.pop()
        if not isinstance(what, _Class):
            raise ValueError("it makes one of what is no class")
        self.stack.append(Stub(what.name))

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Stub):
            target.state = state if type(state) is dict else {}
        elif isinstance(target, _Dtype):
            target.set_state(state)
        elif type(target) is not OrderedDict:  # attributes of a dictionary: nobody needs them
            raise ValueError("it tries to change how it is read")


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    **{"MARK": _Machine.mark, "POP_MARK": _Machine.pop_mark, "POP": _Machine.pop},
    **{"TUPLE": _Machine.tuple, "LIST": _Machine.list, "DICT": _Machine.dict},
    **{"FROZENSET": _Machine.frozenset, "ADDITEMS": _Machine.pop_mark},
    **{"APPEND": _Machine.append, "APPENDS": _Machine.appends},
    **{"SETITEM": _Machine.setitem, "SETITEMS": _Machine.setitems},
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    **{"MEMOIZE": _Machine.memoize, "GLOBAL": _Machine.named, "STACK_GLOBAL": _Machine.stack_named},
    **{"REDUCE": _Machine.reduce, "BUILD": _Machine.build},
    **{"NEWOBJ": _Machine.new, "NEWOBJ_EX": _Machine.new_with_keywords},
}


# ---------------------------------------------------------------- what a pickle may call


def _persistent_object(meta: Any) -> Stub:
    """Official networks: only name and state are kept; the source text beside them is never looked at."""
    name, state = meta["class_name"], meta["state"]
    if not (type(name) is str and type(state) is dict):
        raise ValueError("a network in it has no name or no state")
    return Stub(name[:200], state)


def _storage(data: Any) -> Storage:
    if not isinstance(data, (bytes, FarBytes)):
        raise ValueError("a tensor's values are no bytes")
    return Storage(data)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_ignored: Any) -> LazyTensor:
    numbers = (offset, *size, *stride)
    if not (isinstance(storage, Storage) and len(size) == len(stride) and len(size) <= 8):
        raise ValueError("a tensor has no values or an impossible shape")
    if not all(type(n) is int and 0 <= n < 2**48 for n in numbers):
        raise ValueError("a tensor has an impossible shape")
    return LazyTensor(storage, offset, tuple(size), tuple(stride))


def _parameter(data: Any, *_ignored: Any) -> Any:
    return data


def _ordered(*_ignored: Any) -> OrderedDict:
    return OrderedDict()


class _Dtype:
    """numpy.dtype("f8") and its like, as far as scalars need it."""

    def __init__(self, name: Any, *_ignored: Any):
        if type(name) is not str:
            raise ValueError("a kind of number has no name")
        self.layout = _SCALARS[name.lstrip("<=|")]

    def set_state(self, state: Any) -> None:
        if not (type(state) is tuple and len(state) > 1 and type(state[1]) is str and state[1] in "<=|"):
            raise ValueError("a number has a byte order of another machine")


def _scalar(dtype: Any, data: Any) -> float | int | bool:
    if not (isinstance(dtype, _Dtype) and isinstance(data, bytes)):
        raise ValueError("a number has no bytes")
    return struct.unpack(dtype.layout, data)[0]


@dataclass(frozen=True)
class _Function:
    """One of our functions as a pickle sees it."""

    run: Callable[..., Any]


_ALLOWED = {
    ("collections", "OrderedDict"): _Function(_ordered),
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _Function(_persistent_object),
    ("torch.storage", "_load_from_bytes"): _Function(_storage),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Function(_parameter),
    ("numpy", "dtype"): _Function(_Dtype),
    ("numpy.core.multiarray", "scalar"): _Function(_scalar),
    ("numpy._core.multiarray", "scalar"): _Function(_scalar),
}
