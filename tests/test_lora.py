"""Low-rank views: counts and values of the earlier release, sharing, batches of different people."""

import copy

import pytest
import torch
from eg3d_tiny import SMALL, assert_close, assert_matches, reference, tiny_prior

from my3dgen.errors import My3DGenError
from my3dgen.models.eg3d import lora
from my3dgen.models.eg3d.config import CATS, FFHQ, HEADS, GeneratorConfig
from my3dgen.models.eg3d.generator import Generator
from my3dgen.models.eg3d.lora import LoraOptions


def on_meta(config: GeneratorConfig) -> Generator:
    with torch.device("meta"):
        return Generator(config)


def count(generator: Generator, **options) -> int:
    shapes = lora.own_shapes(generator, LoraOptions(**options)).values()
    return sum(torch.Size(shape).numel() for shape in shapes)


@pytest.fixture(scope="module")
def small() -> Generator:
    torch.manual_seed(0)
    return Generator(SMALL).eval().requires_grad_(False)


def person(generator: Generator, options: LoraOptions, seed: int = 1) -> dict[str, torch.Tensor]:
    """Personal tensors that differ from the base everywhere."""
    rng = torch.Generator().manual_seed(seed)
    tensors = lora.initial_tensors(generator, options, seed)
    return {name: t + 0.2 * torch.randn(t.shape, generator=rng) for name, t in tensors.items()}


def earlier_release() -> tuple[dict[str, torch.Tensor], LoraOptions]:
    values = reference("my3dgen_lora_tiny")
    pairs = {name: t for name, t in values.items() if name.endswith(("|A", "|B"))}
    options = LoraOptions(int(values["rank"]), float(values["alpha"]), trainable="lowrank")
    return {name.replace("|", ".lora."): tensor for name, tensor in pairs.items()}, options


def test_numbers_of_trained_values():
    ffhq, cats = on_meta(FFHQ), on_meta(CATS)
    assert len(list(lora.adapted_layers(ffhq))) == 52
    for rank, pairs, release in ((1, 219_174, 243_965), (4, 876_696, 901_487), (16, 3_506_784, 3_531_575)):
        assert count(ffhq, rank=rank, trainable="lowrank") == pairs
        assert count(ffhq, rank=rank) == release
        assert count(ffhq, rank=rank, trainable="lowrank", decoder=True) == pairs + 4_257
        assert count(ffhq, rank=rank, decoder=True) == release + 4_257
    assert count(ffhq, rank=4, layout="v1", trainable="lowrank") == 561_048
    assert count(ffhq, rank=4, layout="v1") == 585_839
    assert count(ffhq, rank=4, layout="v1", decoder=True) == 590_096
    assert count(ffhq, trainable="full") == 29_861_368
    assert count(cats, trainable="lowrank") == 208_678
    assert count(cats) == 232_573
    assert count(on_meta(HEADS)) < 250_000  # its constant is too large to own: the file stays under 1 MiB


@torch.no_grad()
def test_picture_of_the_earlier_release():
    values, inputs = reference("my3dgen_lora_tiny"), reference()
    me = lora.view(tiny_prior().generator, *earlier_release())
    assert_matches("lora", me.synthesis(inputs["ws"], inputs["c"], 64), values)


def test_gradients_of_the_earlier_release():
    values, inputs = reference("my3dgen_lora_tiny"), reference()
    base = tiny_prior().generator
    me = lora.view(base, *earlier_release(), trainable=True)
    out = me.synthesis(inputs["ws"][:1], inputs["c"][:1], 64)
    loss = out["image"].square().mean() + out["image_raw"].square().mean()
    loss.backward()
    assert loss.item() == pytest.approx(values["grad_loss"].item(), abs=1e-5)
    own = lora.own_tensors(me)
    for name, tensor in own.items():
        path, part = name.split(".lora.")
        assert tensor.grad.norm().item() == pytest.approx(values[f"{path}|grad{part}_norm"].item(), rel=1e-3)
    assert len(own) == 104
    assert all(p.grad is None and not p.requires_grad for p in base.parameters())


@pytest.mark.parametrize("trainable", ["lowrank", "release", "full"])
def test_a_view_starts_as_the_base_and_never_touches_it(small, trainable):
    before = {name: t.clone() for name, t in small.state_dict().items()}
    options = LoraOptions(rank=2, trainable=trainable)
    me = lora.view(small, lora.initial_tensors(small, options), options, trainable=True)
    ws, c = torch.randn(1, small.num_ws, 16), reference()["c"][:1]
    with torch.no_grad():
        assert_close(me.synthesis(ws, c)["image"], small.synthesis(ws, c)["image"], 1e-5)
    own = lora.own_tensors(me)
    assert sum(p.numel() for p in own.values()) == count(small, rank=2, trainable=trainable)
    shared = {p.data_ptr() for p in small.parameters()}
    assert all((p.data_ptr() in shared) != (name in own) for name, p in me.named_parameters())
    optimiser = torch.optim.Adam(own.values(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        out = me.synthesis(ws, c)
        (out["image"].square().mean() + out["image_raw"].square().mean()).backward()
        optimiser.step()
    assert not torch.allclose(me.synthesis(ws, c)["image"], small.synthesis(ws, c)["image"])
    assert all(torch.equal(t, before[name]) for name, t in small.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in small.parameters())


def test_a_view_leaves_a_training_base_alone(small):
    base = copy.deepcopy(small).requires_grad_(True)
    options = LoraOptions()
    me = lora.view(base, lora.initial_tensors(base, options), options, trainable=True)
    assert set(lora.own_tensors(me)) == set(lora.own_shapes(base, options))
    assert all(p.requires_grad for p in base.parameters())
    me.superresolution.register_forward_hook(lambda *_: None)
    assert not base.superresolution._forward_hooks


def test_start_values(small):
    options = LoraOptions(rank=3)
    tensors = lora.initial_tensors(small, options, seed=5)
    again = lora.initial_tensors(small, options, seed=5)
    assert all(torch.equal(t, again[name]) for name, t in tensors.items())
    a = tensors["backbone.synthesis.b8.conv0.lora.A"]
    assert a.shape == (9, 72)
    assert 0.9 * 72**-0.5 < a.abs().max() <= 72**-0.5
    other = lora.initial_tensors(small, options, seed=6)["backbone.synthesis.b8.conv0.lora.A"]
    assert not torch.equal(a, other)
    assert all(t.abs().max() == 0 for name, t in tensors.items() if name.endswith("lora.B"))


@torch.no_grad()
@pytest.mark.parametrize("layout", ["latest", "v1"])
def test_merged_weights_give_the_same_picture(small, layout):
    options = LoraOptions(rank=2, alpha=3.0, layout=layout, decoder=True)
    me = lora.view(small, person(small, options), options)
    plain = Generator(small.config)
    plain.load_state_dict(lora.merge(me))
    ws, c = torch.randn(2, small.num_ws, 16), reference()["c"]
    assert_close(plain.synthesis(ws, c)["image"], me.synthesis(ws, c)["image"], 1e-4)
    assert not torch.allclose(me.synthesis(ws, c)["image"], small.synthesis(ws, c)["image"], atol=1e-2)


@torch.no_grad()
def test_the_two_layouts_differ_only_in_their_factors(small):
    name, layer = "backbone.synthesis.b8.conv0", small.backbone.synthesis.b8.conv0
    for layout, a, b in (("latest", (6, 72), (8, 6)), ("v1", (6, 24), (24, 6))):
        options = LoraOptions(rank=2, alpha=1.0, layout=layout)
        tensors = person(small, options)
        assert tensors[f"{name}.lora.A"].shape == a
        assert tensors[f"{name}.lora.B"].shape == b
        kernel = lora.view(small, tensors, options).backbone.synthesis.b8.conv0.kernel()
        product = (tensors[f"{name}.lora.B"] @ tensors[f"{name}.lora.A"]).reshape(8, 8, 3, 3)
        assert_close(kernel, layer.weight + 0.5 * product, 1e-6)


@torch.no_grad()
def test_people_and_nobody_in_one_batch(small):
    first = LoraOptions(rank=1, alpha=2.0)
    second = LoraOptions(rank=3, alpha=1.0, trainable="lowrank", decoder=True)
    tuned = LoraOptions(trainable="full")
    people = [(person(small, o, seed), o) for seed, o in enumerate((first, second, tuned))]
    together = lora.rows_view(small, [people[0], None, people[1], people[2]])
    ws, c = torch.randn(4, small.num_ws, 16), reference()["c"][[0, 1, 0, 1]]
    out = together.synthesis(ws, c)
    alone = [lora.view(small, *people[0]), small, *(lora.view(small, *p) for p in people[1:])]
    for i, generator in enumerate(alone):
        row = generator.synthesis(ws[i : i + 1], c[i : i + 1])
        for key in ("image", "image_raw", "image_depth"):
            assert_close(out[key][i : i + 1], row[key], 1e-4, f"row {i} {key}")
    same = small.synthesis(ws, c)["image"]
    assert_close(lora.rows_view(small, [None] * 4).synthesis(ws, c)["image"], same, 1e-5)


@torch.no_grad()
def test_a_wide_constant_gets_a_pair():
    torch.manual_seed(0)
    config = GeneratorConfig(
        z_dim=8, c_dim=0, w_dim=16, base_resolution=32, base_channels=12, base_kernel=1, channel_base=256,
        plane_resolution=64, plane_channels=4, decoder_hidden=8, feature_channels=6, neural_resolution=16,
        depth_samples=8, importance_samples=8, sr_input_resolution=16, sr_channels=(8, 4),
        output_resolution=64,
    )  # fmt: skip
    base = Generator(config).eval().requires_grad_(False)
    options = LoraOptions()
    shapes = lora.own_shapes(base, options)
    assert "backbone.synthesis.b32.const" not in shapes
    assert shapes["backbone.synthesis.b32.lora.A"] == (options.const_rank, 32 * 32)
    tensors = person(base, options)
    me, ws, c = lora.view(base, tensors, options), torch.randn(2, 4, 16), reference()["c"]
    plain = Generator(config)
    plain.load_state_dict(lora.merge(me))
    picture = me.synthesis(ws, c)["image"]
    assert_close(plain.synthesis(ws, c)["image"], picture, 1e-4)
    both = lora.rows_view(base, [None, (tensors, options)]).synthesis(ws, c)["image"]
    assert_close(both[1:], picture[1:], 1e-4)
    assert_close(both[:1], base.synthesis(ws[:1], c[:1])["image"], 1e-4)


def test_tensors_that_do_not_fit_are_refused(small):
    options = LoraOptions(rank=2)
    tensors = lora.initial_tensors(small, options)
    name = "backbone.synthesis.b8.conv0.lora.A"
    missing = {key: value for key, value in tensors.items() if key != name}
    for bad in (
        missing,
        tensors | {"decoder.net.0.weight": torch.zeros(8, 4)},
        tensors | {name: torch.zeros(6, 71)},
    ):
        with pytest.raises(My3DGenError, match="does not fit"):
            lora.view(small, bad, options)
    with pytest.raises(My3DGenError, match="layouts"):
        v1 = LoraOptions(layout="v1")
        lora.rows_view(small, [(tensors, options), (lora.initial_tensors(small, v1), v1)])
    with pytest.raises(My3DGenError, match="merged"):
        lora.merge(lora.rows_view(small, [None, (tensors, options)]))
    wrong = (
        {"rank": 0},
        {"rank": 1.5},
        {"rank": 999},
        {"alpha": 0},
        {"alpha": float("nan")},
        {"layout": "v3"},
    )
    for values in (*wrong, {"trainable": "all"}, {"rank": True}):
        with pytest.raises(My3DGenError):
            LoraOptions(**values)
