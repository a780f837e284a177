"""Snapshots of the authors' release, taken apart: the base, and an adapter that is the person on it."""

import json

import numpy as np
import official_snapshot
import pytest
import torch
from eg3d_tiny import assert_close, reference
from test_official_pickle import CONFIG, random_generator

from my3dgen import load_adapter, load_prior
from my3dgen.cameras import camera
from my3dgen.cli import main
from my3dgen.errors import My3DGenError
from my3dgen.models.eg3d import lora
from my3dgen.personal.convert import take_apart
from my3dgen.priors import files


def person(generator, options):
    """A view whose every personal tensor differs from the base's."""
    tensors = lora.initial_tensors(generator, options)
    tensors = {name: value + 0.1 * torch.randn_like(value) for name, value in tensors.items()}
    return tensors, lora.view(generator, tensors, options)


def snapshot(folder, merged=True, **options):
    """A snapshot as the release writes it, its generator before training, and the picture it makes."""
    torch.manual_seed(0)
    base, options = random_generator(), lora.LoraOptions(**options)
    tensors, me = person(base, options)
    path = official_snapshot.write(
        folder / "snapshot.pkl", G_ema=official_snapshot.network(me, wrap=True, merged=merged)
    )
    return path, base, tensors, picture(me)


def picture(generator):
    torch.manual_seed(1)
    ws = torch.randn(2, generator.num_ws, CONFIG.w_dim)
    with torch.no_grad():
        return generator.synthesis(ws, reference()["c"])["image"]


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("layout", ["latest", "v1"])
def test_base_and_adapter_are_the_snapshot(tmp_path, merged, layout):
    path, base, tensors, expected = snapshot(tmp_path, merged, rank=2, alpha=3.0, layout=layout)
    assert_close(picture(load_prior(path, "cpu").generator), expected, 1e-4)
    take_apart(path, tmp_path / "base.safetensors", tmp_path / "me.safetensors")
    prior, adapter = (
        load_prior(tmp_path / "base.safetensors", "cpu"),
        load_adapter(tmp_path / "me.safetensors"),
    )
    assert adapter.options == lora.LoraOptions(rank=2, alpha=3.0, layout=layout)
    assert prior.name == adapter.prior_name == "snapshot"
    assert adapter.tensors.keys() == tensors.keys()
    for name, value in adapter.tensors.items():
        assert_close(value, tensors[name], 1e-6, name)
    before, after = base.state_dict(), prior.generator.state_dict()
    for name, value in after.items():
        if name not in tensors:  # what the release trains beside the pairs has no copy in the file
            assert_close(value, before[name], 1e-5, name)
    assert_close(picture(prior.personalized(adapter).generator), expected, 1e-4)


def test_an_adapter_for_the_published_prior(tmp_path):
    path, base, _, expected = snapshot(tmp_path, rank=1)
    official = official_snapshot.write(tmp_path / "official.pkl", G_ema=official_snapshot.network(base))
    take_apart(path, tmp_path / "base.safetensors", tmp_path / "me.safetensors", prior=official)
    prior, adapter = load_prior(official, "cpu"), load_adapter(tmp_path / "me.safetensors")
    assert_close(picture(prior.personalized(adapter).generator), expected, 1e-4)
    other = official_snapshot.write(
        tmp_path / "other.pkl", G_ema=official_snapshot.network(random_generator(7))
    )
    with pytest.raises(My3DGenError, match="was not trained on the prior 'other'"):
        take_apart(path, tmp_path / "base.safetensors", tmp_path / "me.safetensors", prior=other)


def test_layers_may_differ_in_scale(tmp_path):
    path, base, _, _ = snapshot(tmp_path, rank=1)
    torch.manual_seed(0)
    tensors, me = person(base, lora.LoraOptions(rank=1))
    me.backbone.synthesis.b8.conv0.lora.scale = 0.25
    expected = picture(me)
    path = official_snapshot.write(tmp_path / "s.pkl", G_ema=official_snapshot.network(me, wrap=True))
    take_apart(path, tmp_path / "base.safetensors", tmp_path / "me.safetensors")
    prior, adapter = (
        load_prior(tmp_path / "base.safetensors", "cpu"),
        load_adapter(tmp_path / "me.safetensors"),
    )
    assert_close(picture(prior.personalized(adapter).generator), expected, 1e-4)


def test_anchors(tmp_path):
    path, base, _, _ = snapshot(tmp_path)
    folder = tmp_path / "train"
    folder.mkdir()
    ws = np.random.default_rng(0).standard_normal((3, 1, base.num_ws, CONFIG.w_dim)).astype(np.float32)
    labels = []
    for i in range(3):
        np.save(folder / f"{i}_latent.npy", ws[i])
        labels.append([f"{i}.png", camera(0.1 * i, 0.0).tolist()])
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    out = tmp_path / "base.safetensors", tmp_path / "me.safetensors"
    assert_close(take_apart(path, *out, latents=folder).anchors.ws, torch.from_numpy(ws[:, 0]), 0)
    (front,) = take_apart(path, *out).anchors.ws  # the snapshot holds none: the mean face
    assert_close(front, base.backbone.mapping.w_avg.expand_as(front), 0)
    (folder / "1_latent.npy").unlink()
    with pytest.raises(My3DGenError, match="lacks"):
        take_apart(path, *out, latents=folder)


def test_command(tmp_path, capsys):
    path, _, _, expected = snapshot(tmp_path, rank=2)
    out, adapter = tmp_path / "out.safetensors", tmp_path / "me.safetensors"
    assert main(["convert", str(path), str(out), "--json"]) == 0
    whole = load_prior(out, "cpu")
    assert_close(picture(whole.generator), expected, 1e-4)  # without --adapter it stays personalized
    assert whole.sha256 == files.sha256(path)
    assert main(["convert", str(path), str(out), "--adapter", str(adapter), "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["rank"] == 2 and result["layout"] == "latest" and result["anchors"] == 1
    assert result["adapter_bytes"] == adapter.stat().st_size < result["bytes"] == out.stat().st_size
    me = load_prior(out, "cpu").personalized(load_adapter(adapter))
    assert_close(picture(me.generator), expected, 1e-4)


def test_what_cannot_be_taken_apart(tmp_path, capsys):
    plain = official_snapshot.write(
        tmp_path / "plain.pkl", G_ema=official_snapshot.network(random_generator())
    )
    out = str(tmp_path / "out.safetensors")
    assert main(["convert", str(plain), out, "--adapter", str(tmp_path / "me.safetensors")]) == 2
    assert "no low-rank pairs" in capsys.readouterr().err
    assert main(["convert", str(plain), out, "--latents", str(tmp_path)]) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["plain.pkl"]
    assert main(["convert", str(plain), out]) == 0


def test_files_that_cannot_be_written_are_named_before_the_work(tmp_path, capsys, monkeypatch):
    source = tmp_path / "snapshot.pkl"
    source.write_bytes(b"never read")
    monkeypatch.setattr("my3dgen.personal.convert.load_prior", lambda *_: pytest.fail("read too early"))
    monkeypatch.setattr("my3dgen.priors.official.split", lambda *_: pytest.fail("read too early"))
    good = tmp_path / "good.safetensors"
    for target, words in (
        (tmp_path, f"is a folder; give a file in it, such as {tmp_path / 'snapshot.safetensors'}"),
        (
            tmp_path / "base.pkl",
            "is a .safetensors file; got 'base.pkl'. Give a name such as base.safetensors",
        ),
        (tmp_path / "base", "a name such as base.safetensors"),
        (tmp_path / "nowhere" / "base.safetensors", "There is no folder"),
    ):
        for argv in ([target], [target, "--adapter", good], [good, "--adapter", target]):
            assert main(["convert", *map(str, [source, *argv])]) == 2
            (line,) = capsys.readouterr().err.strip().splitlines()
            assert words in line
    assert main(["convert", str(source), str(good), "--adapter", str(good)]) == 2
    assert "a name of its own" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [source]
