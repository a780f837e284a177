"""What trains the prior and its helpers: loops, losses, starts and the commands of the model card."""

import dataclasses
import io
import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from eg3d_tiny import SMALL
from safetensors.torch import load_file

from my3dgen.assets import asset
from my3dgen.cameras import camera as front
from my3dgen.errors import My3DGenError
from my3dgen.faces.align import place
from my3dgen.faces.pose import mean_landmarks
from my3dgen.models.eg3d.config import HEADS
from my3dgen.models.eg3d.generator import Generator
from my3dgen.models.eg3d.stylegan2 import MappingNetwork
from my3dgen.models.identity import IdentityNetwork
from my3dgen.models.perceptual import TRAINED_AT, Trunk
from my3dgen.pretraining import __main__ as command
from my3dgen.pretraining import (
    attributes,
    encoder,
    identity,
    landmarks,
    loop,
    mapping,
    people,
    people_data,
    prior,
    shading,
    sharpen,
    trunk,
)
from my3dgen.priors import load_prior


def test_the_basis_is_longest_where_pictures_change_least(monkeypatch):
    steep = torch.diag(torch.tensor([4.0, 1.0, 0.0625]))
    turn, _ = torch.linalg.qr(torch.tensor([[1.0, 2.0, 0.5], [0.0, 1.0, 1.0], [1.0, 0.0, 3.0]]))
    stretch = torch.tensor([[2.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.0, 0.3, 0.5]])
    x = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(encoder, "curvature", lambda *_: turn @ steep @ turn.T)
    monkeypatch.setattr(encoder, "sample_z", lambda *_: None)
    monkeypatch.setattr(encoder, "map_z", lambda *_: x @ stretch.T)
    ways, spread = encoder.basis(None, None, encoder.EncoderOptions(damping=0.0, power=0.5))
    # after steps of curvature ** -0.5 the loss is equally steep everywhere
    flat = ways.T @ (turn @ steep @ turn.T).double() @ ways
    assert torch.allclose(flat, flat[0, 0] * torch.eye(3, dtype=flat.dtype), atol=1e-4)
    # along them faces vary by the spread, each way for itself
    y = torch.linalg.solve(ways, (x @ stretch.T).double().T)
    assert torch.allclose(y.cov(), torch.diag(spread**2), atol=1e-6)


def test_the_mapping_is_taught_what_people_look_like():
    network = MappingNetwork(HEADS)
    share = mapping.teach(network, people_count=3000, steps=60)
    assert share["plain"] > 0.98 and share["looks"] > 0.6
    assert HEADS.w_dim >= 2 * people.Z_DIM + mapping.LOOKS
    # one coordinate says how light the hair is, which no factor of z does: skin and age have a part in it
    rng = np.random.default_rng(9)
    z = np.stack([people.sample(rng) for _ in range(400)])
    light_hair = [people.decode(row).hair.mean() for row in z]
    w = network(torch.from_numpy(z), None)[:, 0].detach().numpy()
    w = w[:, w.std(0) > 1e-3]
    alike = np.abs([np.corrcoef(column, light_hair)[0, 1] for column in w.T])
    assert alike[2 * people.Z_DIM :].max() > alike[: 2 * people.Z_DIM].max() + 0.03


def test_a_prior_of_the_same_sizes_is_trained_on():
    generator = Generator(HEADS)
    prior.start(generator, str(asset("heads.safetensors")))
    known = load_prior("heads").generator.state_dict()
    assert all(torch.equal(value, known[name]) for name, value in generator.state_dict().items())


def test_a_prior_with_a_longer_w_and_wider_layers_starts_as_the_one_before():
    torch.manual_seed(0)
    larger = {"w_dim": SMALL.w_dim + 8, "channel_max": SMALL.channel_max + 5}
    before, after = Generator(SMALL), Generator(dataclasses.replace(SMALL, **larger))
    prior.take_over(after, before)
    w = torch.randn(1, SMALL.num_ws, SMALL.w_dim)
    longer = torch.cat([w, torch.randn(1, SMALL.num_ws, 8)], -1)
    camera = front(0.0, 0.0)[None]
    with torch.no_grad():
        a = before.synthesis(w, camera)["image"]
    b = after.synthesis(longer, camera)["image"]
    assert torch.allclose(a, b.detach(), atol=1e-4)
    b.square().sum().backward()  # what is new can learn: its own kernels a step later, when somebody reads them
    block = after.backbone.synthesis.b32
    assert block.conv1.weight.grad[:, -5:].abs().max() > 0
    assert block.conv1.affine.weight.grad[:, -8:].abs().max() > 0


def test_pieces_say_how_far_along_a_scale_somebody_is():
    person = people.decode(np.zeros(people.Z_DIM, np.float32))
    starts = dict(
        zip(mapping.PIECES, np.cumsum([0, *(len(e) - 1 for e in mapping.PIECES.values())]), strict=False)
    )

    def along(name, **changes):
        row = mapping.pieces(dataclasses.replace(person, **changes))
        return row[starts[name] : starts[name] + len(mapping.PIECES[name]) - 1]

    assert along("hair_length", hair_length=0.275) == pytest.approx([1, 1, 0.5, 0, 0, 0])
    assert along("afro", afro=9.0) == pytest.approx([1, 1, 1])
    # where hair opens matters only where it hangs down, the size of glasses only where there are any
    assert not along("hair_opening", hair_length=0.0, hair_opening=1.3).any()
    assert along("hair_opening", hair_length=0.5, hair_opening=1.3) == pytest.approx([1, 1, 1, 0])
    assert not along("glasses_size", glasses=0.0).any() and along("glasses_size", glasses=0.1).any()


def test_every_command_of_the_model_card_is_one(monkeypatch):
    """Each line is parsed as it stands, options included, and taken by the step that it names."""
    taken, options = [], []
    for name, run in command.RUN.items():

        def take(args, name=name, run=run):
            taken.append(name)
            return run(args) if name in command.TRAINED else None

        monkeypatch.setitem(command.RUN, name, take)
    for module in (attributes, encoder, identity, landmarks, trunk):
        monkeypatch.setattr(module, "train", lambda *given: options.append(given[-1]))
    for module, name in ((prior, "Trainer"), (sharpen, "Sharpener")):
        monkeypatch.setattr(module, name, lambda o: options.append(o) or SimpleNamespace(run=dict))
    card = (Path(__file__).parent.parent / "assets" / "README.md").read_text()
    lines = re.findall(r"^python -m my3dgen\.pretraining (.+)$", card, re.MULTILINE)
    for line in lines:
        assert command.main(shlex.split(line, comments=True)) == 0, line
    assert len(taken) == len(lines) > 12
    assert sum(name in command.TRAINED for name in taken) == len(options) > 6
    assert landmarks.LandmarkOptions(people=3000, trees=150, oversampling=10) in options


def test_options_that_a_step_does_not_know_are_refused(capsys):
    for line, words in (
        ("prior --set half=true", "True or False"),
        ("sharpen --set batch=x", "like int"),
        ("prior --set a=1", "fields are"),
    ):
        assert command.main(shlex.split(line)) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["render", "--set", "size=128"])


def test_training_on_from_a_prior_does_not_go_on_from_something_else(tmp_path):
    (tmp_path / "checkpoint.pt").touch()
    with pytest.raises(My3DGenError, match="another --out"):
        prior.Trainer(prior.PriorOptions(out=str(tmp_path), start_from="heads"))


def test_the_encoder_learns_from_crops_as_they_are_used():
    """A drawn view, cropped for training, lies on what `prepare`'s own crop shows at that size, to a tenth of a pixel."""
    image = np.zeros((256, 256, 3), np.uint8)
    image[118:138, 118:138] = 255  # its middle is at 128, counted from the picture's edge
    landmarks = mean_landmarks(front(0, 0)) / 2  # of 512 -> of 256
    small = encoder.as_cropped(
        image, landmarks, SimpleNamespace(normal=lambda *_: 0.0, uniform=lambda *_: 1.0)
    ).astype(float)
    weight = small[..., 0] / small[..., 0].sum()
    middle = [((np.arange(TRAINED_AT) + 0.5) * weight.sum(axis)).sum() for axis in (0, 1)]
    expected = place(landmarks).to_crop(np.array([128, 128])) * TRAINED_AT / 512
    assert np.abs(np.subtract(middle, expected)).max() < 0.1


@pytest.fixture
def two_people(tmp_path: Path) -> Path:
    """A shard of two people from two sides: noise, but with what a shard holds."""
    rng, side = np.random.default_rng(0), HEADS.output_resolution
    np.savez(
        tmp_path / "heads_00000.npz",
        z=np.stack([people.sample(rng) for _ in range(2)]),
        camera=np.stack([[front(yaw, 0).numpy() for yaw in (0.0, 0.3)]] * 2),
        image=rng.integers(0, 256, (2, 2, side, side, 3), np.uint8),
        depth=np.full((2, 2, side, side), 2.7, np.float16),
        part=np.full((2, 2, side, side), shading.SKIN, np.uint8),
        landmarks=np.full((2, 2, 68, 2), side / 2, np.float32),
    )
    return tmp_path


def test_who_is_rare_is_seen_more_often(two_people: Path):
    plain = np.zeros(people.Z_DIM, np.float32)
    scalp = people.SLICES["hair"].start
    plain[[people.SLICES[part].start for part in ("age", "glasses", "beard")]] = -1.0
    # light skin, dark and short hair
    plain[[people.SLICES["skin"].start, scalp, scalp + 2]] = -1.5, -2.0, -1.0
    fair = plain.copy()
    fair[scalp] = 2.0
    assert people_data.rarity(plain) == 1
    assert people_data.rarity(fair) == 1 + people_data.EXTRA["fair hair"]

    shards = people_data.Shards(str(two_people))
    first = shards.data[0]["z"][0]
    often = people_data.Shards(str(two_people), often=lambda z: 3.0 if np.array_equal(z, first) else 1.0)
    for data, share in ((shards, 0.5), (often, 0.75)):
        seen = data.batch(np.random.default_rng(0), 400).z
        assert (seen == torch.from_numpy(first)).all(1).float().mean() == pytest.approx(share, abs=0.07)


def test_sharpening_trains_super_resolution_alone_and_resumes(two_people: Path):
    options = sharpen.SharpenOptions(
        str(two_people),
        prior="assets/heads.safetensors",
        out=str(two_people / "out.safetensors"),
        run=str(two_people / "run"),
        batch=1,
        minutes=1e-6,
    )
    assert sharpen.Sharpener(options).run()["steps"] == 1
    before = load_prior("heads", device="cpu").generator.state_dict()
    after = load_prior(options.out, device="cpu").generator.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("superresolution.") for name in moved)
    more = sharpen.Sharpener(options)
    more.resume()
    assert more.progress.step == 1 and 0 < more.progress.seconds < 60
    assert more.rng.random() != np.random.default_rng(options.seed).random(), (
        "other windows than at the start"
    )
    assert more.run() == {"steps": 1}  # nothing was left to do
    other = sharpen.Sharpener(dataclasses.replace(options, seed=1))
    other.resume()
    assert other.progress.step == 0, "another seed chooses other pictures"


def test_a_window_is_sharpened_as_in_the_whole_picture(two_people: Path):
    sharpener = sharpen.Sharpener(
        sharpen.SharpenOptions(
            str(two_people), "assets/heads.safetensors", run=str(two_people / "run"), batch=2
        )
    )
    kept = sharpener.features()
    drawn = sharpener.shards.rows(
        [(sharpener.shards.data[s], i, v) for s, i, v in kept["rows"].tolist()]
    ).image
    for _ in range(3):
        w = sharpener.windows(kept)
        with torch.no_grad():
            inside = sharpener.net.blocks(w.features, w.ws)[w.inner]
            whole = sharpener.net(kept["features"].float(), kept["ws"][:, None])
        raw = kept["features"][:, :3].float().unfold(2, w.raw.shape[-1], 1).unfold(3, w.raw.shape[-1], 1)
        for picture, small, truth in zip(inside, w.raw, w.image, strict=True):
            row, y, x = ((raw - small[None, :, None, None]).abs().amax((1, 4, 5)) == 0).nonzero()[0].tolist()
            there = (row, slice(None), *(slice(4 * at, 4 * at + picture.shape[-1]) for at in (y, x)))
            assert torch.allclose(picture, whole[there], atol=1e-3)
            assert torch.equal(truth, drawn[there])


def test_training_takes_as_long_as_asked_and_goes_on_from_there(monkeypatch):
    """Steps of a second each: of two minutes one go takes 70 seconds, the next one the rest."""
    now, shares, saved, log = [0.0], [], [], io.StringIO()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def step(share: float) -> dict[str, torch.Tensor]:
        shares.append(share)
        now[0] += 1
        return {"loss": torch.tensor(float(len(shares)), requires_grad=True)}

    def save() -> None:
        saved.append((progress.step, progress.seconds))

    progress = loop.Elapsed()
    assert loop.train_for(step, 70 / 60, progress, save, log, stage=1) == {"loss": 25.5}  # of 1 to 50
    assert (progress.step, progress.seconds) == (70, 70.0)
    now[0] += 1000  # between two goes
    assert loop.train_for(step, 2, progress, save, log, stage=2) == {"loss": 85.5}  # of this go's 71 to 100
    assert (progress.step, progress.seconds) == (120, 120.0)
    assert saved == [(70, 70.0), (120, 120.0)]
    assert shares[0] == 0 and shares[69] == 69 / 70 and shares[70] == 70 / 120
    first, second = map(json.loads, log.getvalue().splitlines())
    assert first == {"step": 50, "stage": 1, "minutes": 0.83, "loss": 25.5}
    assert second == {"step": 100, "stage": 2, "minutes": 1.67, "loss": 85.5}


def test_rates_rise_then_fall_and_groups_keep_their_scale():
    # the first step of 50, so a fiftieth
    assert loop.decayed(0.0, 0, warm_up=50) == pytest.approx(0.02)
    assert loop.decayed(0.0, 49, warm_up=50) == pytest.approx(1)
    assert loop.decayed(0.5, 100, warm_up=50) == pytest.approx(0.51)
    assert loop.decayed(1.0, 100, warm_up=50, floor=0.01) == pytest.approx(0.01)
    a, b = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    optimiser = torch.optim.SGD([{"params": [a], "scale": 10.0}, {"params": [b]}], lr=1.0)
    loop.set_rate(optimiser, 0.5)
    assert [group["lr"] for group in optimiser.param_groups] == [5.0, 0.5]
    loop.descend(optimiser, (3 * a + 4 * b).sum(), clip=1.0)  # gradients (3, 3) and (4, 4): 50 ** 0.5 long
    assert torch.allclose(a, torch.full((2,), -15 / 50**0.5)) and torch.allclose(
        b, torch.full((2,), -2 / 50**0.5)
    )


def test_the_prior_is_trained_in_three_stages_and_exported(two_people: Path):
    """One step each, from the prior that there is."""
    moment = dict.fromkeys(("minutes_points", "minutes_super", "minutes_joint"), 1e-6)
    small = {"batch": 1, "pixels": 32, "batch_super": 1, "batch_joint": 1, "batch_render": 1}
    run = str(two_people / "run")
    prior.Trainer(prior.PriorOptions(str(two_people), run, "heads", **moment, **small)).run()
    more = prior.Trainer(prior.PriorOptions(str(two_people), run, **moment, **small))
    assert more.resume() and (more.progress.step, more.stage) == (3, 2) and more.progress.seconds > 0
    more.run()
    assert more.progress.step == 3, "nothing was left to do"
    out = two_people / "out.safetensors"
    about = prior.export(more.checkpoint, str(out))
    assert about == {"step": 3, "bytes": out.stat().st_size}
    before, after = (load_prior(p, device="cpu").generator.state_dict() for p in ("heads", str(out)))
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    for part in (
        "backbone.mapping.fc0.weight",
        "backbone.synthesis.b64.const",
        "backbone.synthesis.b128.conv1.weight",
    ):
        assert part in moved
    assert any(name.startswith("decoder.") for name in moved)
    assert any(name.startswith("superresolution.") for name in moved)


def test_the_perceptual_trunk_is_trained(two_people: Path):
    options = trunk.TrunkOptions(str(two_people), str(two_people), minutes=1e-6, batch=2)
    assert trunk.train(options) == {"steps": 1}
    torch.manual_seed(options.seed)
    start, trained = Trunk().state_dict(), load_file(two_people / "perceptual.safetensors")
    Trunk().load_state_dict(trained)
    for name, value in start.items():
        if value.ndim == 4:
            assert not torch.equal(trained[name], value.half()), f"{name} learns nothing"


def test_an_identity_encoder_is_trained_and_judged(tmp_path: Path):
    """On noise: a step's worth, but through everything; the figures are of people who were left out."""
    rng, side = np.random.default_rng(0), identity.STORED
    np.savez(
        tmp_path / "people.npz",
        image=rng.integers(0, 256, (18, 2, side, side, 3), np.uint8),
        wall=np.zeros((18, 2, side, side), bool),
        alike=rng.integers(0, 256, (2, side, side, 3), np.uint8),
        glasses=rng.integers(0, 256, (2, side, side, 3), np.uint8),
    )
    options = identity.IdentityOptions("loss", str(tmp_path / "people.npz"), str(tmp_path), 1e-6, batch=4)
    figures = identity.train(options)
    assert figures["steps"] == 1 and figures["people"] == 2 and 0 <= figures["auc"] <= 1
    IdentityNetwork("loss").load_state_dict(load_file(tmp_path / "identity_loss.safetensors"))
