"""Pickles that try to run something or to take the machine, written opcode by opcode."""

from __future__ import annotations

import io
import struct
import warnings

import official_snapshot
import torch
from test_official_pickle import as_global, opcodes, random_generator

DEPTH = 60  # doublings: whatever visits every copy never ends


def doubled(empty: bytes, pair: bytes) -> bytes:
    """A value whose two halves are the same value, and so on down."""
    level = b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + pair for i in range(DEPTH))
    return empty + level


TUPLES = doubled(b")", b"\x86")
LISTS = b"]" + b"".join(b"q" + bytes([i]) + b"0]" + (b"h" + bytes([i]) + b"a") * 2 for i in range(DEPTH))
LAUGHS = [[]]
for _ in range(DEPTH):
    LAUGHS = [LAUGHS, LAUGHS]


def values(header: bytes = b"", count: int = 4) -> bytes:
    """The bytes of a storage; `header` in place of its true one, or another count of values in that."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # typed storages will go, but the files have them
        torch.save(torch.ones(4).storage(), file, _use_new_zipfile_serialization=False)
    data = file.getvalue()
    if header:
        start = data.index(b"\x80\x02}")
        return data[:start] + header + data[start:]
    return data.replace(b"K\x04N", b"J" + struct.pack("<i", count) + b"N")


def tensor(data: bytes, size: bytes = b"K\x04\x85", stride: bytes = b"K\x01\x85") -> bytes:
    """A network whose one parameter is this tensor."""
    storage = (
        as_global("torch.storage", "_load_from_bytes") + b"B" + struct.pack("<I", len(data)) + data + b"\x85R"
    )
    inner = (
        as_global("torch._utils", "_rebuild_tensor_v2")
        + b"("
        + storage
        + b"K\x00"
        + size
        + stride
        + b"\x89}tR"
    )
    return network(text("_parameters") + b"}" + text("w") + inner + b"s")


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def network(state: bytes, name: bytes | None = None) -> bytes:
    """A file with a network G_ema whose state has these items."""
    make = as_global("torch_utils.persistence", "_reconstruct_persistent_obj")
    name = text("TriPlaneGenerator") if name is None else name
    meta = b"}(" + text("class_name") + name + text("state") + b"}(" + state + b"uu"
    return opcodes(b"}", text("G_ema"), make, meta, b"\x85R", b"s")


PERSISTENT = (
    b"(" + text("storage") + as_global("posix", "system") + text("touch executed") + text("cpu") + b"K\x04NtQ"
)
BOMBS = {
    "nested lists": opcodes(b"]" * 150_000, b"a" * 149_999),
    "nested tuples": opcodes(b")", b"\x85" * 150_000),
    "nested dictionaries": opcodes(b"}", (text("a") + b"}") * 80_000, b"s" * 80_000),
    "lists of twice the same list": network(text("x") + LISTS),
    "a key of tuples of twice the same tuple": network(TUPLES + b"K\x01"),
    "a set of such tuples": opcodes(b"\x8f(", TUPLES, b"\x90"),
    "a frozen set of them": opcodes(b"(", TUPLES, b"\x91"),
    "a name of them": opcodes(TUPLES, TUPLES, b"\x93"),
    "a class name of them": network(b"", LISTS),
    "a shape of them": tensor(values(), size=TUPLES, stride=TUPLES),
    "a number kind of them": opcodes(as_global("numpy", "dtype"), LISTS, b"\x85R"),
    "more steps than a snapshot has": opcodes(b"N0" * 700_000),
    "endless memo": opcodes(b"N", b"\x94" * 700_000),
    "classes without end": opcodes(*(f"ca\nb{i}\n0".encode() for i in range(150_000))),
    "text without end": opcodes(*(text("x" * 4_000) + b"0" for _ in range(20_000))),
    "a memo of billions": opcodes(b"]", b"r" + struct.pack("<I", 2**32 - 1)),
    "bytes that are not there": opcodes(b"\x8e" + struct.pack("<Q", 2**62)),
    "text that is not there": opcodes(b"\x8d" + struct.pack("<Q", 2**40)),
    "an array that is not there": opcodes(b"\x96" + struct.pack("<Q", 2**36)),
    "a frame that is not there": opcodes(b"\x95" + struct.pack("<Q", 2**62)),
    "a number of digits": opcodes(b"L" + b"9" * 10_000_000 + b"L\n"),
    "persistent ids": opcodes(b"(" * 1000, b"K\x01Q" * 1000),
    "a persistent id in text": opcodes(b"Posix.system\n"),
    "persistent ids inside values": tensor(values(header=b"\x80\x02" + PERSISTENT * 3 + b".")),
    "keys of tuples inside values": tensor(values(header=b"\x80\x02}" + TUPLES + b"K\x01s.")),
    "lists inside values": tensor(values(header=b"\x80\x02" + b"]" * 100_000 + b".")),
    "values that are not there": tensor(values(count=2**30)),
    "one value as many": tensor(values(), size=b"J\x00\x00\x00\x40\x85", stride=b"K\x00\x85"),
    "extensions": opcodes(b"\x82\x01"),
    "old objects": opcodes(b"(iposix\nsystem\n"),
}  # fmt: skip


EXPANDED = "weights of one value"
OPTIONS = {
    "clamp_mode": LAUGHS, "superresolution_noise_mode": LAUGHS, "ray_start": LAUGHS, "box_warp": LAUGHS,
    "avg_camera_pivot": LAUGHS, "c_scale": LAUGHS, "depth_resolution": 10**5000,
}  # fmt: skip


def in_a_network() -> dict[str, official_snapshot.Persistent]:
    """Whole networks that are fine but for one option, or for tensors that only seem to be large."""
    found = {
        name: official_snapshot.network(random_generator(), **{name: value})
        for name, value in OPTIONS.items()
    }
    expanded = official_snapshot.network(random_generator())
    mapping = expanded.meta["state"]["_modules"]["backbone"].meta["state"]["_modules"]["mapping"]
    for layer in mapping.meta["state"]["_modules"].values():  # sizes of a giant, from one number each
        tensors = layer.meta["state"]["_parameters"]
        for name, value in tensors.items():
            tensors[name] = torch.nn.Parameter(torch.ones(()).expand(*(4096 for _ in value.shape)))
    return found | {EXPANDED: expanded}
