"""Official snapshots are read without running anything in them; priors are found, shared and described."""

import dataclasses
import json
import os
import pickle
import struct
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import official_snapshot
import pytest
import torch
from eg3d_tiny import FIXTURES, assert_close, reference, tiny_prior

from my3dgen.cameras import camera, look_at_sampler
from my3dgen.errors import My3DGenError
from my3dgen.models.eg3d import lora
from my3dgen.models.eg3d.config import GeneratorConfig
from my3dgen.models.eg3d.generator import Generator
from my3dgen.priors import catalogue, files, load_prior

CONFIG = GeneratorConfig(
    z_dim=8, w_dim=16, channels={4: 8, 8: 8, 16: 8, 32: 4}, base_channels=8, plane_resolution=32,
    plane_channels=4, decoder_hidden=8, feature_channels=6, neural_resolution=16, depth_samples=8,
    importance_samples=8, sr_kind="8X", sr_input_resolution=16, sr_channels=(8, 4), output_resolution=64,
    camera_pivot=(0.0, 0.0, -0.06), conv_clamp=300.0,
)  # fmt: skip


def random_generator(seed: int = 0, **changes) -> Generator:
    torch.manual_seed(seed)
    return Generator(dataclasses.replace(CONFIG, **changes)).eval().requires_grad_(False)


def assert_same_weights(got: Generator, expected: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    assert got.state_dict().keys() == expected.keys()
    for name, tensor in got.state_dict().items():
        assert_close(tensor, expected[name], tolerance, name)


def test_the_tiny_official_file():
    prior = tiny_prior()
    assert prior.name == "eg3d_tiny"
    assert prior.sha256 == files.sha256(FIXTURES / "eg3d_tiny.pkl")
    config = prior.config
    assert sum(p.numel() for p in prior.generator.parameters()) == 89_248
    assert (config.z_dim, config.w_dim, config.c_dim, config.sr_channels) == (32, 64, 25, (16, 8))
    assert (config.neural_resolution, config.output_resolution, prior.num_ws) == (64, 512, 14)
    assert config.plane_axes == ((0, 1), (0, 2), (2, 0))
    assert not any(p.requires_grad for p in prior.generator.parameters())


def test_sizes_and_options_come_from_the_file(tmp_path):
    ema, other = random_generator(0), random_generator(1)
    networks = {"G": official_snapshot.network(other), "G_ema": official_snapshot.network(ema)}
    prior = load_prior(official_snapshot.write(tmp_path / "a.pkl", **networks, D=None), "cpu")
    assert prior.config == CONFIG
    assert_same_weights(prior.generator, ema.state_dict())


def test_options_that_are_absent_have_their_defaults(tmp_path):
    network = official_snapshot.network(random_generator())
    rendering = network.meta["state"]["rendering_kwargs"]
    for name in ("c_scale", "avg_camera_pivot"):
        del rendering[name]
    config = load_prior(official_snapshot.write(tmp_path / "a.pkl", G_ema=network), "cpu").config
    assert config.c_scale == 0  # the mapping then ignores the camera
    assert config.camera_pivot == (0, 0, 0.2)


@pytest.mark.parametrize("basis", ["repeated", "corrected"])
def test_plane_axes_come_from_the_file(tmp_path, basis):
    network = official_snapshot.network(random_generator())
    third = {"repeated": [[0, 0, 1], [1, 0, 0], [0, 1, 0]], "corrected": [[0, 0, 1], [0, 1, 0], [1, 0, 0]]}
    table = [[[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 1], [0, 1, 0]], third[basis]]
    renderer = official_snapshot.state(plane_axes=torch.tensor(table, dtype=torch.float32))
    children = network.meta["state"]["_modules"]
    children["renderer"] = official_snapshot.Persistent("ImportanceRenderer", renderer)
    prior = load_prior(official_snapshot.write(tmp_path / "a.pkl", G_ema=network), "cpu")
    assert prior.config.plane_axes == ((0, 1), (0, 2), (2, 0) if basis == "repeated" else (2, 1))


@pytest.mark.parametrize("layout", ["latest", "v1"])
@pytest.mark.parametrize("merged", [True, False])
def test_snapshots_of_the_authors_release(tmp_path, merged, layout):
    base, options = random_generator(), lora.LoraOptions(rank=2, alpha=3.0, layout=layout)
    tensors = {name: t + 0.1 * torch.randn_like(t) for name, t in lora.initial_tensors(base, options).items()}
    me = lora.view(base, tensors, options)
    network = official_snapshot.network(me, wrap=True, merged=merged)
    prior = load_prior(official_snapshot.write(tmp_path / "me.pkl", G_ema=network), "cpu")
    assert prior.config == CONFIG
    assert_same_weights(prior.generator, lora.merge(me), 1e-5)


@pytest.mark.parametrize(
    "options",
    [{"disparity_space_sampling": True}, {"clamp_mode": "relu"}, {"ray_start": "auto"}, {"box_warp": "wide"}],
)
def test_options_we_do_not_have_are_refused(tmp_path, options):
    network = official_snapshot.network(random_generator(), **options)
    with pytest.raises(My3DGenError):
        load_prior(official_snapshot.write(tmp_path / "a.pkl", G_ema=network), "cpu")


class Attack:
    """Calls anything with anything when unpickled by pickle itself."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def test_nothing_in_a_file_is_executed(tmp_path):
    marker = tmp_path / "executed"
    attacks = [
        Attack(os.system, f"touch {marker}"),
        Attack(exec, f"open({str(marker)!r}, 'w')"),
        Attack(eval, f"open({str(marker)!r}, 'w')"),
        Attack(Path.touch, marker),
        Attack(getattr, Path, "touch"),
        Attack(torch.load, str(marker)),
        Attack(pickle.loads, pickle.dumps(Attack(os.system, f"touch {marker}"))),
        Attack(torch.storage._load_from_bytes, pickle.dumps(Attack(os.system, f"touch {marker}"))),
    ]
    for i, attack in enumerate(attacks):
        for place in ("whole", "network", "state", "source"):
            network = official_snapshot.network(random_generator())
            if place == "network":
                network = attack
            elif place == "state":
                network.meta["state"]["extra"] = attack
            elif place == "source":
                network.meta["module_src"] = attack
            path = tmp_path / f"{i}{place}.pkl"
            if place == "whole":
                path.write_bytes(pickle.dumps(attack))
            else:
                official_snapshot.write(path, G_ema=network)
            try:
                load_prior(path, "cpu")
            except My3DGenError as error:
                assert "\n" not in str(error)
    assert not marker.exists()
    with pytest.raises(Exception):  # noqa: B017 - the attacks are real: pickle itself falls for one
        pickle.loads(pickle.dumps(Attack(exec, "raise RuntimeError")))


def opcodes(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


def as_global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


HUGE_TENSOR = {
    "stride": (torch._utils._rebuild_tensor_v2, (10**9,), (1,), 0),
    "offset": (torch._utils._rebuild_tensor_v2, (4,), (1,), 10**9),
    "negative": (torch._utils._rebuild_tensor_v2, (4,), (-1,), 3),
}


@pytest.mark.filterwarnings("ignore:TypedStorage")
@pytest.mark.parametrize("kind", HUGE_TENSOR)
def test_tensors_must_lie_inside_their_values(tmp_path, kind):
    function, size, stride, offset = HUGE_TENSOR[kind]
    storage = torch.ones(4).storage()
    attack = Attack(function, storage, offset, size, stride, False, OrderedDict())
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"G_ema": attack}))
    with pytest.raises(My3DGenError, match="cannot be read"):
        load_prior(path, "cpu")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 100,
        b"hello",
        (FIXTURES / "eg3d_tiny.pkl").read_bytes()[:100_000],
        pickle.dumps([1, 2]),
        pickle.dumps({"G_ema": 7}),
        pickle.dumps({"G": None}),
        opcodes(b"]", b"r" + struct.pack("<I", 2**32 - 1)),  # a memo of billions of entries
        opcodes(as_global("torch._utils", "_rebuild_tensor_v2"), b"}", b"b"),  # change a function of ours
        opcodes(as_global("collections", "OrderedDict"), b"N", b"}", b"\x86", b"b"),
        opcodes(b"K\x01", b"Q"),  # data outside the file
        opcodes(as_global("numpy", "dtype"), b"X\x02\x00\x00\x00O8", b"\x85", b"R"),
        opcodes(as_global("os", "system"), b")", b"\x81", b"(", b"N", b"N", b"u"),
    ],
)
def test_damaged_files_are_one_sentence(tmp_path, data):
    path = tmp_path / "a.pkl"
    path.write_bytes(data)
    start = time.process_time()
    with pytest.raises(My3DGenError) as error:
        load_prior(path, "cpu")
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert time.process_time() - start < 5


def test_archives_in_place_of_values_are_refused(tmp_path):
    archive = tmp_path / "archive.pt"
    torch.save(torch.ones(3), archive)
    assert zipfile.is_zipfile(archive)
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(Attack(torch.storage._load_from_bytes, archive.read_bytes())))
    with pytest.raises(My3DGenError, match="archive"):
        load_prior(path, "cpu")


def test_networks_that_do_not_fit_are_refused(tmp_path):
    def without_bias(state):
        del (
            state["_modules"]["decoder"]
            .meta["state"]["_modules"]["net"]
            .meta["state"]["_modules"]["2"]
            .meta["state"]["_parameters"]["bias"]
        )

    def not_finite(state):
        state["_modules"]["backbone"].meta["state"]["_modules"]["mapping"].meta["state"]["_buffers"][
            "w_avg"
        ] = torch.full((16,), torch.nan)

    def endless(state):
        inner = official_snapshot.Persistent("X", official_snapshot.state())
        inner.meta["state"]["_modules"]["again"] = inner
        state["_modules"]["more"] = inner

    def another_upscaler(state):
        state["_modules"]["superresolution"].meta["class_name"] = "SuperresolutionHybridDeepfp32"

    for i, change in enumerate((without_bias, not_finite, endless, another_upscaler)):
        network = official_snapshot.network(random_generator())
        change(network.meta["state"])
        with pytest.raises(My3DGenError):
            load_prior(official_snapshot.write(tmp_path / f"{i}.pkl", G_ema=network), "cpu")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_our_format(tmp_path, dtype):
    generator, path = random_generator(), tmp_path / "deep" / "mine.safetensors"
    files.save_prior(path, generator, "mine", dtype)
    prior = load_prior(path, "cpu")
    assert (prior.name, prior.config, prior.sha256) == ("mine", CONFIG, files.sha256(path))
    exact = {name: t.to(getattr(torch, dtype)).float() for name, t in generator.state_dict().items()}
    assert_same_weights(prior.generator, exact)
    assert load_prior(path, "cpu") is prior
    assert [p.name for p in path.parent.iterdir()] == ["mine.safetensors"]


def test_damaged_files_of_ours(tmp_path):
    generator, path = random_generator(), tmp_path / "a.safetensors"
    state = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    good = {"format": files.FORMAT, "version": "1", "name": "a", "config": json.dumps(CONFIG.to_dict())}
    name = "decoder.net.2.bias"
    bad_states = (
        {key: value for key, value in state.items() if key != name},
        state | {"extra": torch.zeros(1)},
        state | {name: torch.zeros(3)},
        state | {name: torch.full((7,), torch.inf)},
        state | {name: torch.zeros(7, dtype=torch.int64)},
    )
    huge = json.dumps(CONFIG.to_dict() | {"w_dim": 2**40})
    bad_metadata = (
        {}, good | {"format": "other"}, good | {"version": "99"}, good | {"config": "{"}, good | {"config": "[]"},
        good | {"config": huge}, {key: value for key, value in good.items() if key != "config"},
    )  # fmt: skip
    cases = [(bad, good) for bad in bad_states] + [(state, bad) for bad in bad_metadata]
    for tensors, metadata in cases:
        files.write_safetensors(path, tensors, metadata)
        with pytest.raises(My3DGenError) as error:
            load_prior(path, "cpu")
        assert "\n" not in str(error.value)
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(My3DGenError, match="cannot be read"):
        load_prior(path, "cpu")


def test_names_and_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("MY3DGEN_CACHE", str(tmp_path))
    monkeypatch.setenv("MY3DGEN_OFFLINE", "1")
    monkeypatch.delenv("MY3DGEN_PRIOR", raising=False)
    (tmp_path / "a.txt").write_text("")
    for name, words in {
        "nobody": "heads, ffhq, cats",
        "ffhq": "ffhqrebalanced512-128.pkl",
        "cats": "forbids downloads",
        str(tmp_path): "not a file",
        str(tmp_path / "none.pkl"): "not a file",
        str(tmp_path / "a.txt"): "neither",
    }.items():
        with pytest.raises(My3DGenError, match=words):
            load_prior(name, "cpu")
    with pytest.raises(My3DGenError, match="no device"):
        load_prior("nobody", "quantum")
    official_snapshot.write(
        tmp_path / "afhqcats512-128.pkl", G_ema=official_snapshot.network(random_generator())
    )
    assert load_prior("cats", "cpu").name == "cats"
    monkeypatch.setenv("MY3DGEN_PRIOR", "cats")
    assert load_prior(device="cpu") is load_prior("cats", "cpu")


def test_heads_is_the_default_and_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("MY3DGEN_PRIOR", raising=False)
    monkeypatch.setenv("MY3DGEN_ASSETS", str(tmp_path))
    files.save_prior(tmp_path / "heads.safetensors", random_generator(), "heads")
    monkeypatch.setattr(catalogue.torch.cuda, "is_available", lambda: False)
    assert load_prior().name == "heads"
    assert "heads" in caplog.text


def test_statistics_of_w():
    prior = tiny_prior()
    z = torch.from_numpy(np.random.RandomState(123).randn(10_000, 32)).float()  # noqa: NPY002
    front = look_at_sampler(0.0, 0.0, pivot=(0.0, 0.0, 0.2))
    w = prior.generator.mapping(z, front.expand(len(z), -1))[:, 0]
    assert_close(prior.w_avg, w.mean(0), 1e-4)
    assert prior.w_std == pytest.approx(((w - w.mean(0)).square().sum() / len(w)).sqrt().item(), rel=1e-4)
    assert prior.w_avg is prior.w_avg


def test_render(tmp_path):
    files.save_prior(tmp_path / "a.safetensors", random_generator(), "a")
    prior = load_prior(tmp_path / "a.safetensors", "cpu")
    ws = torch.randn(5, prior.num_ws, 16)
    views = torch.stack([camera(0.1 * i, 0.0) for i in range(5)])
    rows = prior.render(ws, views)
    assert rows.shape == (5, 3, 64, 64)
    assert not rows.requires_grad
    assert rows.abs().max() <= 1
    single = prior.render(ws[4], views[4])
    assert single.shape == (3, 64, 64)
    assert_close(rows[4], single, 1e-4)
    turn = prior.render(ws[4], views)
    assert_close(turn[4], single, 1e-4)
    assert_close(prior.render(ws, views[4])[4], single, 1e-4)
    for bad_ws, bad_camera in (
        (ws[:, :3], views),
        (ws, views[:2]),
        (ws[0], views[0, :16]),
        (ws[:0], views[0]),
    ):
        with pytest.raises(My3DGenError):
            prior.render(bad_ws, bad_camera)
    assert reference()["ws"].shape[1] == tiny_prior().num_ws
