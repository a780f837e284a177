"""The generator against values produced by the official EG3D code, and what is promised beyond them."""

import dataclasses
import json

import pytest
import torch
from eg3d_tiny import (
    FIXTURES,
    IMAGE_TOLERANCE,
    RAW_TOLERANCE,
    SMALL,
    assert_close,
    assert_matches,
    reference,
    tiny_prior,
)

from my3dgen.errors import My3DGenError
from my3dgen.models.eg3d.config import CATS, FFHQ, HEADS, GeneratorConfig
from my3dgen.models.eg3d.generator import Generator
from my3dgen.models.eg3d.volume import PORTION, Softplus, make_rays


@pytest.fixture(scope="module")
def tiny() -> Generator:
    return tiny_prior().generator


@pytest.fixture(scope="module")
def det64(tiny):
    values = reference()
    with torch.no_grad():
        return tiny.synthesis(values["ws"], values["c"], 64)


def small(**changes) -> Generator:
    """A random generator that is fast to run."""
    torch.manual_seed(0)
    generator = Generator(dataclasses.replace(SMALL, **changes)).eval().requires_grad_(False)
    for name, parameter in generator.named_parameters():
        if name.endswith(("bias", "noise_strength")):
            parameter.add_(0.1 * torch.randn_like(parameter))
    return generator


@pytest.mark.parametrize(
    ("config", "file"), [(FFHQ, "eg3d_ffhq512_state_dict"), (CATS, "eg3d_afhqcats512_state_dict")]
)
def test_tensor_names_and_shapes_are_the_official_ones(config, file):
    official = json.loads((FIXTURES / f"{file}.json").read_text())
    with torch.device("meta"):
        generator = Generator(config)
    expected = {name: shape for name, shape in official["tensors"].items() if name != "dataset_label_std"}
    assert {name: list(t.shape) for name, t in generator.state_dict().items()} == expected
    assert {name for name, _ in generator.named_buffers()} == set(official["buffers"]) - {"dataset_label_std"}
    assert sum(p.numel() for p in generator.parameters()) == official["parameter_counts"]["total"]
    assert generator.num_ws == official["num_ws"]


@torch.no_grad()
def test_mapping(tiny):
    values = reference()
    z, c = values["z"], values["c"]
    ws = tiny.mapping(z, c)
    assert_close(ws, values["ws_psi1"].expand_as(ws), 1e-5)
    assert_close(tiny.mapping(z, c, truncation_psi=0.7), values["ws_psi07"], 1e-5)
    assert_close(tiny.mapping(z, c, 0.7, truncation_cutoff=7), values["ws_psi07_cutoff7"], 1e-5)


@torch.no_grad()
def test_planes_and_points(tiny):
    values = reference()
    planes = tiny.planes(values["ws"])
    flat = planes.flatten(1, 2)
    assert_close(flat[..., ::16, ::16], values["planes_stride16"], RAW_TOLERANCE)
    assert_close(flat.mean((2, 3)), values["planes_mean"], RAW_TOLERANCE)
    assert_close(flat.std((2, 3)), values["planes_std"], RAW_TOLERANCE)
    quiet = tiny.planes(values["ws"], noise_mode="none").flatten(1, 2)
    assert_close(quiet.mean((2, 3)), values["planes_nonoise_mean"], RAW_TOLERANCE)
    assert_close(quiet.std((2, 3)), values["planes_nonoise_std"], RAW_TOLERANCE)
    points = tiny.sample(planes, values["points"])
    assert_close(points["sigma"], values["points_sigma"], RAW_TOLERANCE)
    assert_close(points["rgb"], values["points_rgb"], RAW_TOLERANCE)


def test_rays():
    values = reference()
    origins, directions = make_rays(values["c"], 8)
    assert_close(origins.expand(-1, 64, -1), values["rays8_origins"], 1e-6)
    assert_close(directions, values["rays8_directions"], 1e-6)


def test_picture_of_64(det64):
    values = reference()
    assert_matches("det64", det64, values)
    assert_close(det64["features"][..., ::4, ::4], values["det64_features_stride4"], RAW_TOLERANCE)
    assert_close(det64["opacity"].flatten(2).transpose(1, 2), values["det64_weight_sum"], RAW_TOLERANCE)


@torch.no_grad()
def test_picture_of_128(tiny):
    values = reference()
    assert_matches("det128", tiny.synthesis(values["ws"][:1], values["c"][:1], 128), values)


@torch.no_grad()
def test_one_pass(tiny):
    values = reference()
    config = dataclasses.replace(tiny.config, importance_samples=0)
    with torch.device("meta"):
        coarse = Generator(config)
    coarse.load_state_dict(tiny.state_dict(), assign=True)
    assert_matches("coarse64", coarse.synthesis(values["ws"], values["c"], 64), values)


@torch.no_grad()
def test_seeded_sampling(tiny):
    values = reference()
    rng = torch.Generator().manual_seed(1234)
    assert_matches("seed1234_64", tiny.synthesis(values["ws"], values["c"], 64, rng=rng), values)


def test_gradient_of_the_latents(tiny):
    values = reference()
    ws = values["ws"][:1].clone().requires_grad_()
    out = tiny.synthesis(ws, values["c"][:1], 64)
    loss = out["image"].square().mean() + out["image_raw"].square().mean()
    loss.backward()
    assert loss.item() == pytest.approx(values["grad_loss"].item(), abs=1e-5)
    assert_close(ws.grad, values["grad_ws"], 1e-4)
    assert all(p.grad is None for p in tiny.parameters())


def test_camera_planes_and_decoder_have_exact_gradients():
    generator = small(importance_samples=0).double()  # importance depths carry no gradient by design
    c = reference()["c"][:1].double()
    ws = torch.randn(1, generator.num_ws, 16, dtype=torch.float64)
    weight = generator.decoder.net[0].weight
    places = {"camera": (c, (0, 3)), "focal": (c, (0, 16)), "w": (ws, (0, 5, 2)), "decoder": (weight, (3, 1))}

    def loss() -> torch.Tensor:
        return generator.synthesis(ws, c)["features"].square().mean()

    tensors = [tensor.requires_grad_() for tensor in (c, ws, weight)]
    gradients = {id(t): g for t, g in zip(tensors, torch.autograd.grad(loss(), tensors), strict=True)}
    with torch.no_grad():
        for name, (tensor, index) in places.items():
            value, step = tensor[index].item(), 1e-6
            tensor[index] = value + step
            up = loss()
            tensor[index] = value - step
            down = loss()
            tensor[index] = value
            expected = ((up - down) / (2 * step)).item()
            assert gradients[id(tensor)][index].item() == pytest.approx(expected, rel=1e-3, abs=1e-7), name


def test_every_parameter_and_plane_gets_a_gradient():
    generator = small(sr_noise_mode="const").requires_grad_(True)
    planes = generator.planes(torch.randn(1, generator.num_ws, 16))
    planes.retain_grad()
    z, c = torch.randn(1, 8), reference()["c"][:1]
    ws = generator.mapping(z, c)
    out = generator.synthesis(ws, c, planes=planes)
    (out["image"].square().mean() + generator.synthesis(ws, c)["image_depth"].mean()).backward()
    assert planes.grad.abs().sum() > 0
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in generator.parameters())


@torch.no_grad()
def test_no_hidden_randomness():
    generator, c = small(), reference()["c"]
    ws = torch.randn(2, generator.num_ws, 16)
    first = generator.synthesis(ws, c)
    torch.manual_seed(99)
    again = generator.synthesis(ws, c)
    assert all(torch.equal(again[key], first[key]) for key in again)
    drawn = generator.synthesis(ws, c, rng=torch.Generator().manual_seed(1))
    assert not torch.equal(drawn["image"], first["image"])


@torch.no_grad()
def test_one_face_from_many_cameras():
    generator, c = small(), reference()["c"]
    ws = torch.randn(1, generator.num_ws, 16)
    together = generator.synthesis(ws, c, planes=generator.planes(ws))
    for i in range(2):
        alone = generator.synthesis(ws, c[i : i + 1])
        assert_close(together["image"][i : i + 1], alone["image"], 1e-5)
    many = generator.synthesis(torch.cat([ws, ws]), c[:1])
    assert_close(many["image"][1:], generator.synthesis(ws, c[:1])["image"], 1e-5)


@torch.no_grad()
def test_a_batch_is_its_rows(tiny, det64):
    values = reference()
    alone = tiny.synthesis(values["ws"][1:], values["c"][1:], 64)
    assert_close(det64["image"][1:], alone["image"], IMAGE_TOLERANCE)
    assert_close(det64["image_raw"][1:], alone["image_raw"], RAW_TOLERANCE)


@torch.no_grad()
def test_noise_maps_can_be_given():
    generator = small()
    ws = torch.randn(2, generator.num_ws, 16)
    maps = generator.noise_maps()
    own, quiet = generator.planes(ws), generator.planes(ws, noise_mode="none")
    assert not torch.allclose(own, quiet)
    assert torch.equal(generator.planes(ws, noise=maps), own)
    zeros = {name: torch.zeros_like(m) for name, m in maps.items()}
    assert_close(generator.planes(ws, noise=zeros), quiet, 1e-5)
    rows = {name: torch.stack([m, torch.zeros_like(m)]) for name, m in maps.items()}
    mixed = generator.planes(ws, noise=rows)
    assert_close(mixed, torch.stack([own[0], quiet[1]]), 1e-5)
    assert not torch.equal(
        generator.planes(ws, noise_mode="random"), generator.planes(ws, noise_mode="random")
    )


@torch.no_grad()
@pytest.mark.parametrize("size", [10, 16, 23])
def test_any_render_size(size):
    generator, c = small(), reference()["c"]
    out = generator.synthesis(torch.randn(2, generator.num_ws, 16), c, neural_rendering_resolution=size)
    assert out["image_raw"].shape == (2, 3, size, size)
    assert out["image_depth"].shape == out["opacity"].shape == (2, 1, size, size)
    assert out["image"].shape == (2, 3, 64, 64)


@torch.no_grad()
def test_graph_or_not_the_pixels_are_the_same():
    generator, c = small(), reference()["c"][:1]
    ws = torch.randn(1, generator.num_ws, 16)
    assert 64 * 64 * 8 // 2 < PORTION < 96 * 96 * 8  # the second size is shaded in portions, with a remainder
    for size in (16, 96):
        plain = generator.synthesis(ws, c, size)["image_raw"]
        with torch.enable_grad():
            assert_close(generator.synthesis(ws, c, size)["image_raw"], plain, 1e-5)


@torch.no_grad()
def test_heads():
    torch.manual_seed(0)
    generator = Generator(HEADS).eval()
    c = reference()["c"][:1]
    ws = generator.mapping(torch.randn(1, HEADS.z_dim), None)
    assert ws.shape == (1, 4, HEADS.w_dim)
    assert generator.planes(ws).shape == (1, 3, HEADS.plane_channels, 128, 128)
    out = generator.synthesis(ws, c)
    assert out["image"].shape == (1, 3, 256, 256)
    assert out["image_raw"].shape == (1, 3, 64, 64)
    assert torch.isfinite(out["image"]).all()


@torch.no_grad()
def test_super_resolution_in_half_precision_is_near_the_exact_picture(tiny):
    """bfloat16 has eight bits: the picture moves by about as much as eight-bit colours do, the render not at all."""
    values = reference()
    exact, half = (tiny.synthesis(values["ws"], values["c"], 64, half=half) for half in (False, True))
    assert torch.equal(exact["image_raw"], half["image_raw"]) and half["image"].dtype == torch.float32
    off = (exact["image"] - half["image"]).abs()
    assert 0 < off.mean() < 0.02 * exact["image"].std()


def test_half_precision_has_the_gradients_of_the_exact_picture(tiny):
    values, slopes = reference(), []
    for half in (False, True):
        ws = values["ws"][:1].clone().requires_grad_()
        image = tiny.synthesis(ws, values["c"][:1], 64, half=half)["image"]
        slopes.append(torch.autograd.grad(image.square().mean(), ws)[0].flatten())
    assert torch.nn.functional.cosine_similarity(*slopes, dim=0) > 0.99


@pytest.mark.parametrize(("kind", "output"), [("8X", 64), ("4X", 32), ("2X", 32)])
def test_other_super_resolutions(kind, output):
    generator, c = small(sr_kind=kind, output_resolution=output), reference()["c"][:1]
    assert "superresolution.resample_filter" in generator.state_dict()
    ws = torch.randn(1, generator.num_ws, 16)
    assert generator.synthesis(ws, c)["image"].shape == (1, 3, output, output)


@torch.no_grad()
def test_border_padding_continues_beyond_the_box():
    points = torch.tensor([[[0.7, 0.1, 0.0], [0.4999, 0.1, 0.0]]])
    for padding, same in (("border", True), ("zeros", False)):
        generator = small(plane_padding=padding, plane_axes=((0, 1), (0, 2), (2, 1)))
        planes = generator.planes(torch.randn(1, generator.num_ws, 16))
        sigma = generator.sample(planes, points)["sigma"][0]
        assert torch.allclose(sigma[0], sigma[1], atol=1e-4) == same


def test_softplus_is_softplus():
    x = torch.cat([torch.linspace(-120, 120, 4001), torch.tensor([-1e9, 1e9])]).requires_grad_()
    y = Softplus()(x)
    exact = torch.nn.functional.softplus(x.detach().double())
    assert torch.allclose(y.double(), exact, rtol=1e-6, atol=1e-6)
    y.sum().backward()
    assert torch.allclose(x.grad, torch.sigmoid(x.detach()), atol=1e-6)


def test_configuration_travels():
    for config in (FFHQ, CATS, HEADS):
        assert GeneratorConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert GeneratorConfig(channels={4: 9, 8: 7}).channels_at(8) == 7


@pytest.mark.parametrize(
    "values",
    [
        {"z_dim": 10**9}, {"z_dim": "512"}, {"w_dim": True}, {"unheard_of": 1}, {"plane_resolution": 100},
        {"channels": [[256, -3]]}, {"channels": 5}, {"plane_axes": [[0, 7], [0, 2], [2, 0]]}, {"sr_kind": 9},
        {"ray_start": 5.0}, {"box_warp": float("nan")}, {"base_resolution": 0}, {"sr_channels": [1, 2, 3]},
        {"output_resolution": 1024}, {"sr_channels": ["a", "b"]}, {"camera_pivot": None}, None, [1],
    ],
)  # fmt: skip
def test_unusable_configurations_are_refused(values):
    with pytest.raises(My3DGenError):
        GeneratorConfig.from_dict(values)
