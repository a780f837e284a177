"""The command line, in this process: JSON contracts, exit statuses, one sentence for every mistake."""

import json
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from my3dgen.cli import main

EXAMPLES = Path(__file__).parent.parent / "examples"
PHOTOS = [str(EXAMPLES / "bruno" / f"photo_0{i}.jpg") for i in range(2)]


def run(capsys, *argv):
    """Exit status, stdout's JSON (or None) and stderr's last line."""
    status = main([*map(str, argv), "--json"])
    out = capsys.readouterr()
    lines = [line for line in out.err.replace("\r", "\n").splitlines() if line.strip()]
    return status, json.loads(out.out) if out.out.strip() else None, lines[-1] if lines else ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("bruno")
    assert main(["prepare", *PHOTOS, "--out", str(place), "--json"]) == 0
    return place


@pytest.fixture(scope="module")
def adapter(folder, tmp_path_factory):
    """A quickly made adapter; the latents lie in the folder already, so that only tuning runs."""
    from my3dgen.personal import dataset
    from my3dgen.personal.project import project
    from my3dgen.priors import load_prior

    prior = load_prior("heads")
    dataset.write_anchors(folder, project(prior, dataset.read_faces(folder), steps=1))
    path = tmp_path_factory.mktemp("adapter") / "bruno.safetensors"
    assert (
        main(["personalize", str(folder), "--out", str(path), "--prior", "heads", "--steps", "2", "--json"])
        == 0
    )
    return path


def test_prepare_reports_accepted_and_refused(capsys, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"this is no picture")
    status, result, _ = run(capsys, "prepare", PHOTOS[0], bad, "--out", tmp_path / "out")
    assert status == 0
    (accepted,), (refused,) = result["accepted"], result["refused"]
    assert Path(accepted["image"]).is_file() and len(accepted["camera"]) == 25 and accepted["warnings"] == []
    assert refused["source"].endswith("bad.jpg") and refused["reason"]


def test_photos_of_which_none_can_be_used_are_one_line(capsys, tmp_path):
    bad = [tmp_path / "bad.jpg", tmp_path / "worse.jpg"]
    for path in bad:
        path.write_bytes(b"this is no picture")
    status, result, line = run(capsys, "prepare", *bad, "--out", tmp_path / "out")
    assert status == 2 and len(result["refused"]) == 2 and result["accepted"] == []
    assert "bad.jpg" in line and "worse.jpg" in line


def test_personalize_projects_only_what_has_no_latent_yet(capsys, folder, adapter, tmp_path):
    place = tmp_path / "folder"
    shutil.copytree(folder, place)
    (place / "image_1_latent.npy").unlink()
    kept, labels = (
        (place / "image_0_latent.npy").read_bytes(),
        json.loads((place / "dataset.json").read_text())["labels"],
    )
    status, _, _ = run(
        capsys, "personalize", place, "--out", tmp_path / "me.safetensors", "--prior", "heads", "--steps", 1
    )
    after = json.loads((place / "dataset.json").read_text())["labels"]
    assert status == 0 and (place / "image_1_latent.npy").is_file()
    assert (place / "image_0_latent.npy").read_bytes() == kept and after[0] == labels[0]


def test_a_prior_in_nobody_s_home_is_one_line(capsys, adapter, tmp_path):
    status, result, line = run(
        capsys, "render", "--adapter", adapter, "--prior", "~nobody-at-all/x.pkl", "--out", tmp_path
    )
    assert status == 2 and result is None and "~nobody-at-all/x.pkl is not a file" in line


def test_personalize_reports_what_the_contract_says(capsys, folder, adapter, tmp_path):
    out = tmp_path / "again.safetensors"
    status, result, _ = run(
        capsys, "personalize", folder, "--out", out, "--prior", "heads", "--steps", 1, "--seed", 3
    )
    assert status == 0
    assert set(result) == {"adapter", "bytes", "trainable_parameters", "rank", "prior", "seconds", "id_sim"}
    assert set(result["id_sim"]) == {"pretrained", "personalized", "photos"}
    assert set(result["seconds"]) == {"project", "personalize"}
    assert out.stat().st_size == result["bytes"] < 600_000
    assert result["prior"] == "heads" and result["rank"] == 1


def test_a_task_without_an_adapter_says_that_nobody_is_there(capsys, tmp_path):
    status, result, _ = run(capsys, "render", "--prior", "heads", "--out", tmp_path)
    assert status == 0 and result["personalized"] is None
    assert {"files", "id_sim", "perceptual"} <= set(result["pretrained"]) and result["networks"]["perceptual"]
    argv = ["synthesize", "--count", 2, "--prior", "heads", "--out", tmp_path]
    status, result, _ = run(capsys, *argv)
    assert status == 0 and result["personalized"] is None
    assert result["pretrained"]["anchors"] == "random faces"


@pytest.mark.parametrize(
    ("task", "arguments"),
    {
        "inpaint": [PHOTOS[1], "--region", "mouth", "--steps", 1],
        "upscale": [PHOTOS[1], "--size", 32, "--steps", 1],
        "interpolate": [0, 1, "--steps", 3],
        "synthesize": ["--count", 2, "--seed", 1],
        "edit": [0, "--attribute", "smile", "--strength", 1],
    }.items(),
)
def test_every_task_runs_both_models(capsys, adapter, tmp_path, task, arguments):
    status, result, _ = run(
        capsys, task, *arguments, "--adapter", adapter, "--prior", "heads", "--out", tmp_path
    )
    assert status == 0 and result["seconds"] > 0 and result["networks"]["identity"]
    for who in ("pretrained", "personalized"):
        assert Path(result[who]["files"]["image"]).is_file() and -1 <= result[who]["id_sim"] <= 1
    if task in ("inpaint", "upscale"):
        assert Path(result["input"]).is_file()


def test_identity_is_measured_against_the_photos_that_were_named(capsys, adapter, tmp_path):
    """Without any, new looks can only be compared with the model's own idea of the person."""
    argv = ["synthesize", "--count", 2, "--adapter", adapter, "--prior", "heads", "--out", tmp_path]
    _, alone, _ = run(capsys, *argv)
    _, known, _ = run(capsys, *argv, "--references", *PHOTOS)
    for who in ("pretrained", "personalized"):
        assert alone[who]["references"] == "the anchors' mean" and known[who]["references"] == "photos"
        assert known[who]["id_sim"] != alone[who]["id_sim"]
    status = main([str(each) for each in (*argv, "--references", *PHOTOS, tmp_path / "none.jpg", "--json")])
    said = capsys.readouterr()
    assert status == 0 and "none.jpg is left out of the references" in said.err
    status, _, line = run(capsys, *argv, "--references", tmp_path / "none.jpg")
    assert status == 2 and "none.jpg" in line


def test_export_writes_every_format(capsys, adapter, tmp_path):
    argv = ["--adapter", adapter, "--prior", "heads", "--out", tmp_path, "--resolution", 32, "--frames", 4]
    status, result, _ = run(capsys, "export", *argv)
    assert status == 0
    for who in ("pretrained", "personalized"):
        assert {Path(p).suffix for p in result[who]["files"].values()} == {".glb", ".ply", ".mp4", ".png"}
        assert all(Path(p).stat().st_size > 1000 for p in result[who]["files"].values())
        assert result[who]["files"]["image"] == result[who]["files"]["png"]


def test_invert_runs_both_models(capsys, adapter, tmp_path):
    status, result, _ = run(
        capsys, "invert", PHOTOS[1], "--adapter", adapter, "--prior", "heads", "--out", tmp_path, "--steps", 1
    )
    assert status == 0
    assert set(result["networks"]) == {"identity", "perceptual"}
    assert Path(result["input"]).is_file()
    for who in ("pretrained", "personalized"):
        assert np.asarray(Image.open(result[who]["files"]["image"])).shape == (256, 256, 3)
        assert {"id_sim", "perceptual"} <= set(result[who])


def test_render_is_the_same_every_time(capsys, adapter, tmp_path):
    pictures = []
    for name in ("a", "b"):
        status, result, _ = run(
            capsys, "render", "--adapter", adapter, "--prior", "heads", "--yaw", 0.3, "--out", tmp_path / name
        )
        assert status == 0
        pictures.append(np.asarray(Image.open(result["personalized"]["files"]["image"])))
    assert np.array_equal(*pictures)


def test_bench_times_every_part(capsys):
    status, result, _ = run(capsys, "bench", "--prior", "heads", "--repeat", 1)
    assert status == 0
    parts = {"mapping", "planes", "volume", "superresolution", "forward", "forward_backward"}
    assert set(result["milliseconds"]) == parts and result["peak_rss_mb"] > 0


def huge_header() -> bytes:
    """A PNG that says it is 60000 x 60000 and holds nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


BAD_PHOTOS = {
    "text.jpg": lambda p: p.write_bytes(b"hello"),
    "empty.png": lambda p: p.write_bytes(b""),
    "truncated.jpg": lambda p: p.write_bytes(Path(PHOTOS[0]).read_bytes()[:3000]),
    "one_pixel.png": lambda p: Image.new("RGB", (1, 1)).save(p),
    "huge.png": lambda p: p.write_bytes(huge_header()),
    "black.png": lambda p: Image.new("RGB", (640, 640)).save(p),
    "no_face.png": lambda p: Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (600, 600, 3), np.uint8)
    ).save(p),
    "animated.gif": lambda p: Image.new("P", (300, 300)).save(
        p, save_all=True, append_images=[Image.new("P", (300, 300), 3)]
    ),
    "deep.png": lambda p: Image.fromarray(np.zeros((400, 400), np.uint16)).save(p),
    "cmyk.jpg": lambda p: Image.new("CMYK", (400, 400)).save(p),
}


@pytest.mark.parametrize("name", BAD_PHOTOS)
def test_a_bad_photo_is_one_sentence(capsys, tmp_path, name):
    path = tmp_path / name
    BAD_PHOTOS[name](path)
    status, result, line = run(capsys, "prepare", path, "--out", tmp_path / "out")
    assert status == 2 and result["accepted"] == []
    assert line.startswith("my3dgen: ") and name in line and "Traceback" not in line
    assert len(result["refused"][0]["reason"]) > 15


def test_mistakes_are_one_line_with_status_2(capsys, folder, adapter, tmp_path):
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"nothing like it")
    mistakes = {
        "dataset.json": ("personalize", tmp_path, "--out", tmp_path / "x.safetensors"),
        "missing.jpg is not a file": ("invert", tmp_path / "missing.jpg", "--out", tmp_path),
        "seed of TuneOptions": (
            "personalize",
            folder,
            "--out",
            tmp_path / "x.safetensors",
            "--seed",
            2**64,
            "--prior",
            "heads",
        ),
        "folder that exists": ("personalize", folder, "--out", tmp_path / "nowhere" / "x.safetensors"),
        "The rank is 0": ("personalize", folder, "--out", tmp_path / "x.safetensors", "--rank", 0),
        "adapter": ("invert", PHOTOS[0], "--adapter", wrong, "--prior", "heads", "--out", tmp_path),
        "nobody": ("render", "--prior", "nobody", "--out", tmp_path),
        "anchors 0 to": (
            "render",
            "--adapter",
            adapter,
            "--anchor",
            9,
            "--prior",
            "heads",
            "--out",
            tmp_path,
        ),
        "--steps": ("invert", PHOTOS[0], "--steps", -1, "--prior", "heads", "--out", tmp_path),
        "--seed": ("personalize", folder, "--out", tmp_path / "x.safetensors", "--seed", -1),
        "rank": ("personalize", folder, "--out", tmp_path / "x.safetensors", "--rank", 99),
        "cannot be made": ("invert", PHOTOS[0], "--prior", "heads", "--out", wrong / "pictures"),
        "none that is used here": ("render", "--prior", "heads", "--device", "mps", "--out", tmp_path),
        "two folders": ("evaluate", "examples/ada", tmp_path / "ada", "--prior", "heads"),
        "whole number from 1 to 64": ("evaluate", "examples/ada", "--rank", 0, "--prior", "heads"),
        "the folder": ("evaluate", "examples/ada", "--prior", "heads", "--out", wrong / "figures"),
        "no dataset.json": ("project", tmp_path / "mistyped", "--prior", "heads"),
        "--anchor counts": ("render", "--anchor", 3, "--prior", "heads", "--out", tmp_path),
        "the adapters' own rank": ("evaluate", "examples/ada", "--ready", "--rank", 2, "--prior", "heads"),
        "--repeat is for": ("bench", "--personalize", "--repeat", 2, "--random-weights"),
        "are for --personalize": ("bench", "--prior", "heads", "--steps", 3),
        "no device": ("bench", "--random-weights", "--device", "abacus"),
    }
    for words, argv in mistakes.items():
        status, result, line = run(capsys, *argv)
        assert (status, result) == (2, None), argv
        assert line.startswith("my3dgen: ") and words in line, (words, line)
    assert not list(tmp_path.glob("x.safetensors*")) and not (tmp_path / "mistyped").exists()


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_running_out_of_memory_is_one_line(capsys, monkeypatch, error):
    def full(*_):
        raise error("tried to allocate 2 GiB")

    monkeypatch.setattr("my3dgen.evaluation.bench.bench", full)
    status, result, line = run(capsys, "bench", "--random-weights")
    assert (status, result) == (2, None) and "the memory is full" in line and line.count("\n") <= 1


def test_a_mistake_of_ours_is_not_hidden(capsys, monkeypatch):
    monkeypatch.setattr("my3dgen.evaluation.bench.bench", lambda *_: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError):
        run(capsys, "bench", "--random-weights")


def test_an_adapter_of_another_prior_is_refused(capsys, adapter, tmp_path):
    fixture = Path(__file__).parent / "fixtures" / "eg3d_tiny.pkl"
    status, _, line = run(capsys, "render", "--adapter", adapter, "--prior", fixture, "--out", tmp_path)
    assert status == 2 and "made for the prior" in line


def test_a_mistake_in_the_arguments_is_one_line(capsys):
    for argv in (["invert"], ["personalize", "x", "--out", "y", "--rank", "two"], ["fly"]):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_nothing_is_looked_for_before_the_folder_can_be_written(capsys, monkeypatch, tmp_path):
    """A projection may take hours: what is wrong with the place for its result is said first."""
    from my3dgen.personal import project

    monkeypatch.setattr(project, "project", lambda *_, **__: pytest.fail("projected for nothing"))
    monkeypatch.setattr("os.access", lambda *_: False)
    assert run(capsys, "prepare", PHOTOS[0], "--out", tmp_path / "crops")[0] == 2
    status, _, line = run(capsys, "invert", PHOTOS[0], "--prior", "heads", "--out", tmp_path)
    assert status == 2 and "nothing can be written" in line


def test_whoever_reads_only_the_beginning_gets_no_complaint():
    script = f"{sys.executable} -m my3dgen bench --random-weights --repeat 1 --json | true"
    command = ["bash", "-o", "pipefail", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=EXAMPLES.parent)
    assert done.returncode == 0, done.stderr
    assert "BrokenPipe" not in done.stderr and "Traceback" not in done.stderr
