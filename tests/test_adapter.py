"""The adapter file: what goes in comes out, and nothing else gets in."""

import dataclasses
import json
import math

import pytest
import safetensors.torch
import torch
from eg3d_tiny import assert_close, tiny_prior

from my3dgen.cameras import camera
from my3dgen.errors import My3DGenError
from my3dgen.models.eg3d import lora
from my3dgen.models.eg3d.config import FFHQ, GeneratorConfig
from my3dgen.models.eg3d.generator import Generator
from my3dgen.models.eg3d.lora import LoraOptions
from my3dgen.personal.adapter import MAX_BYTES, Adapter, load_adapter
from my3dgen.personal.anchors import Anchors
from my3dgen.priors import Prior, files

CONFIG = GeneratorConfig(
    z_dim=8, w_dim=16, channel_base=512, channel_max=8, plane_resolution=32, plane_channels=4,
    decoder_hidden=8, feature_channels=6, neural_resolution=16, depth_samples=8, importance_samples=8,
    sr_input_resolution=16, sr_channels=(8, 4), output_resolution=64,
)  # fmt: skip


def make_prior(name: str = "small", seed: int = 0) -> Prior:
    torch.manual_seed(seed)
    return Prior(name, f"{seed:064x}", Generator(CONFIG))


def make_anchors(count: int = 3, layers: int = 8, w_plus: bool = False) -> Anchors:
    ws = torch.randn(count, layers if w_plus else 1, 16).expand(-1, layers, -1)
    cameras = torch.stack([camera(0.1 * i, 0.0) for i in range(count)])
    return Anchors(ws, cameras, tuple(f"/home/me/photos/{i}.jpg" for i in range(count)))


def make_adapter(prior: Prior, options: LoraOptions | None = None, **anchors) -> Adapter:
    options = options or LoraOptions(rank=2, alpha=3.0)
    tensors = lora.initial_tensors(prior.generator, options)
    tensors = {name: t + 0.1 * torch.randn_like(t) for name, t in tensors.items()}
    me = lora.view(prior.generator, tensors, options, trainable=True)
    return Adapter.from_view(me, prior, options, make_anchors(**anchors))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("w_plus", [False, True])
def test_round_trip(tmp_path, dtype, w_plus):
    prior = make_prior()
    adapter = make_adapter(prior, w_plus=w_plus)
    path = tmp_path / "new" / "me.safetensors"
    adapter.save(path, dtype)
    again = load_adapter(path)
    assert [p.name for p in path.parent.iterdir()] == ["me.safetensors"]
    for name in (
        "prior_name",
        "prior_sha256",
        "options",
        "rank",
        "alpha",
        "layout",
        "trainable_parameters",
        "bytes",
    ):
        assert getattr(again, name) == getattr(adapter, name)
    with safetensors.safe_open(path, "pt") as file:
        assert {key: file.metadata()[key] for key in ("rank", "alpha", "layout")} == {
            "rank": str(adapter.rank),
            "alpha": str(adapter.alpha),
            "layout": adapter.layout,
        }
    assert again.tensors.keys() == adapter.tensors.keys()
    for name, tensor in adapter.tensors.items():
        assert torch.equal(again.tensors[name], tensor.to(getattr(torch, dtype)).float())
    assert torch.equal(again.anchors.ws, adapter.anchors.ws)
    assert torch.equal(again.anchors.cameras, adapter.anchors.cameras)
    assert again.anchors.sources == ("0.jpg", "1.jpg", "2.jpg")  # folders stay at home
    assert b"/home/me" not in path.read_bytes()


def test_a_person_on_a_prior(tmp_path):
    prior = make_prior()
    before = {name: t.clone() for name, t in prior.generator.state_dict().items()}
    adapter = make_adapter(prior)
    adapter.save(tmp_path / "me.safetensors")
    me = prior.personalized(load_adapter(tmp_path / "me.safetensors"))
    assert (me.name, me.sha256, me.config, me.num_ws) == (
        prior.name,
        prior.sha256,
        prior.config,
        prior.num_ws,
    )
    assert me.base is prior
    assert prior.adapter is None
    w, view = adapter.anchors.ws[0], camera(0.2, 0.0)
    image = me.render(w, view)
    assert not torch.allclose(image, prior.render(w, view), atol=1e-2)
    direct = lora.view(prior.generator, adapter.tensors, adapter.options)
    assert_close(image, direct.synthesis(w[None], view[None])["image"][0].clamp(-1, 1).detach(), 1e-5)
    assert not any(p.requires_grad for p in me.generator.parameters())
    assert torch.equal(me.w_avg, prior.w_avg)
    assert torch.equal(me.personalized(adapter).render(w, view), image)  # never a person on top of another
    both = prior.rows([None, adapter]).synthesis(w.expand(2, -1, -1), view[None])["image"].clamp(-1, 1)
    assert_close(both[0], prior.render(w, view), 1e-4)
    assert_close(both[1], image, 1e-4)
    assert all(torch.equal(t, before[name]) for name, t in prior.generator.state_dict().items())


def test_adapters_of_other_priors_are_refused():
    prior, other = make_prior(), make_prior("other", seed=1)
    adapter = make_adapter(prior)
    with pytest.raises(My3DGenError, match="made for the prior 'small'"):
        other.personalized(adapter)
    with pytest.raises(My3DGenError, match="made for the prior 'small'"):
        other.rows([None, adapter])
    forged = dataclasses.replace(adapter, prior_sha256=tiny_prior().sha256)
    with pytest.raises(My3DGenError, match="does not fit"):
        tiny_prior().personalized(forged)
    tensors = dict(adapter.tensors)
    tensors.pop("backbone.synthesis.b4.const")
    with pytest.raises(My3DGenError, match="does not fit"):
        prior.personalized(dataclasses.replace(adapter, tensors=tensors))


def test_size_on_ffhq(tmp_path):
    with torch.device("meta"):
        generator = Generator(FFHQ)
    options = LoraOptions(rank=1)
    tensors = {name: torch.ones(shape) for name, shape in lora.own_shapes(generator, options).items()}
    anchors = Anchors(torch.randn(20, 1, 512).expand(-1, 14, -1), torch.zeros(20, 25))
    adapter = Adapter("ffhq", "0" * 64, options, tensors, anchors)
    assert adapter.trainable_parameters == 243_965
    assert adapter.bytes == 4 * 243_965
    size = {}
    for dtype in ("float32", "float16"):
        adapter.save(tmp_path / dtype, dtype)
        size[dtype] = (tmp_path / dtype).stat().st_size - 20 * (512 + 25) * 4
        assert load_adapter(tmp_path / dtype).anchors.ws.shape == (20, 14, 512)
    assert size["float32"] < 1024**2
    assert size["float16"] < 1024**2 / 2


def test_values_that_cannot_be_stored(tmp_path):
    adapter = make_adapter(make_prior())
    name = next(iter(adapter.tensors))
    for value, dtype in ((1e6, "float16"), (math.nan, "float32")):
        tensors = dict(adapter.tensors) | {name: torch.full_like(adapter.tensors[name], value)}
        with pytest.raises(My3DGenError):
            dataclasses.replace(adapter, tensors=tensors).save(tmp_path / "me.safetensors", dtype)
    with pytest.raises(My3DGenError):
        adapter.save(tmp_path / "me.safetensors", "int8")
    (tmp_path / "file").write_text("")
    with pytest.raises(My3DGenError, match="cannot be written"):
        adapter.save(tmp_path / "file" / "me.safetensors")
    with pytest.raises(My3DGenError, match="cannot be written"):
        (tmp_path / "folder").mkdir()
        adapter.save(tmp_path / "folder")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_a_view_moves_to_another_device_and_leaves_its_prior_where_it_is():
    prior = make_prior()
    where = prior.w_avg.device
    moved = prior.personalized(make_adapter(prior)).to("meta")
    assert moved.device == moved.w_avg.device == torch.device("meta")
    assert all(p.is_meta for p in (*moved.generator.parameters(), *moved.generator.buffers()))
    assert prior.device == prior.w_avg.device == where and moved.w_std == prior.w_std
    assert not any(p.is_meta for p in (*prior.generator.parameters(), *prior.generator.buffers()))


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """The tensors and metadata of a good file."""
    path = tmp_path_factory.mktemp("adapter") / "me.safetensors"
    make_adapter(make_prior()).save(path)
    with safetensors.safe_open(path, framework="pt") as file:
        return safetensors.torch.load_file(path), file.metadata()


OPTIONS = LoraOptions(rank=2, alpha=3.0).to_dict()
NAME = "person.backbone.synthesis.b8.conv0.bias"
BAD_TENSORS = {
    "not finite": {NAME: torch.full((8,), torch.nan)},
    "int": {NAME: torch.zeros(8, dtype=torch.int64)},
    "double": {NAME: torch.zeros(8, dtype=torch.float64)},
    "foreign": {"model.weight": torch.zeros(2)},
    "anchors of one number": {"anchors.ws": torch.zeros(3)},
    "anchors of other layers": {"anchors.ws": torch.zeros(3, 5, 16)},
    "anchors not finite": {"anchors.ws": torch.full((3, 1, 16), torch.inf)},
    "no anchors": {"anchors.ws": torch.zeros(0, 1, 16), "anchors.cameras": torch.zeros(0, 25)},
    "a bomb of anchors": {
        "anchors.ws": torch.zeros(200_000, 1, 16),
        "anchors.cameras": torch.zeros(200_000, 25),
    },
    "cameras": {"anchors.cameras": torch.zeros(3, 16)},
    "fewer cameras": {"anchors.cameras": torch.zeros(2, 25)},
}
BAD_METADATA = {
    "format": "my3dgen-prior",
    "version": "2",
    "prior_sha256": "XYZ",
    "options": json.dumps(OPTIONS | {"rank": 10**9}),
    "layers": "1000000",
    "sources": '["only one"]',
}
BAD_OPTIONS = (
    "",
    "{",
    "[]",
    "null",
    '{"rank": 1, "code": 2}',
    json.dumps(OPTIONS | {"alpha": "1"}),
    "[" * 100_000,
)


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_bad_tensors(tmp_path, contents, name):
    assert_refused(tmp_path, contents[0] | BAD_TENSORS[name], contents[1])


@pytest.mark.parametrize("key", BAD_METADATA)
def test_bad_metadata(tmp_path, contents, key):
    tensors, metadata = contents
    assert_refused(tmp_path, tensors, metadata | {key: BAD_METADATA[key]})
    if key != "sources":
        assert_refused(tmp_path, tensors, {k: v for k, v in metadata.items() if k != key})


def test_bad_options(tmp_path, contents):
    for options in BAD_OPTIONS:
        assert_refused(tmp_path, contents[0], contents[1] | {"options": options})
    for missing in ("anchors.ws", "anchors.cameras"):
        assert_refused(tmp_path, {k: v for k, v in contents[0].items() if k != missing}, contents[1])
    assert_refused(tmp_path, {k: v for k, v in contents[0].items() if k.startswith("anchors")}, contents[1])


def assert_refused(folder, tensors, metadata):
    path = folder / "bad.safetensors"
    files.write_safetensors(path, tensors, metadata)
    with pytest.raises(My3DGenError) as error:
        load_adapter(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 600


def test_files_that_are_no_adapters(tmp_path, contents):
    path = tmp_path / "bad.safetensors"
    good = safetensors.torch.save(*contents)
    huge = (MAX_BYTES + 1).to_bytes(8, "little")
    for data in (b"", b"\x80\x04.", good[: len(good) // 2], huge + b"{" * 100, good[:8] + b"\xff" * 50):
        path.write_bytes(data)
        with pytest.raises(My3DGenError, match="cannot be read"):
            load_adapter(path)
    with open(path, "wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(My3DGenError, match="at most"):
        load_adapter(path)
    for missing in (tmp_path, tmp_path / "none"):
        with pytest.raises(My3DGenError, match="not a file"):
            load_adapter(missing)


def test_anchors_of_other_sizes_are_refused_with_the_adapter():
    prior, adapter = make_prior(), make_adapter(make_prior())
    ws = adapter.anchors.ws
    for wrong in (ws[:, :3], ws[..., :10], ws[:0]):
        anchors = Anchors(wrong, adapter.anchors.cameras[: len(wrong)])
        with pytest.raises(My3DGenError, match="anchors have shape"):
            prior.personalized(dataclasses.replace(adapter, anchors=anchors))


def test_anchors_are_checked():
    anchors = make_anchors()
    assert len(anchors) == 3
    assert anchors.ws.dtype == anchors.cameras.dtype == torch.float32
    ws, cameras = anchors.ws, anchors.cameras
    bad = (
        (ws[0], cameras), (ws, cameras[:2]), (ws, cameras[:, :16]), (ws * math.nan, cameras), (None, cameras),
        (ws, cameras, ("one",)),
    )  # fmt: skip
    for values in bad:
        with pytest.raises(My3DGenError):
            Anchors(*values)
