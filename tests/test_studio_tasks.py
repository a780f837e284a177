"""The tasks over the API, through a real client, and the functions under the task tabs."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import fake_backend
import numpy as np
import pytest
import torch
from conftest import PATIENT, ROOT, Served
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from my3dgen.errors import My3DGenError
from my3dgen.faces import prepare
from my3dgen.faces.regions import painted_mask
from my3dgen.studio import (
    compute,
    figures,
    painter,
    panels,
    tab_edit,
    tab_inpainting,
    tab_interpolation,
    tab_new_looks,
    task_photo,
    tasks,
)
from my3dgen.studio.figures import SIDES
from my3dgen.studio.pictures import contact_sheet
from my3dgen.studio.registry import Registry
from my3dgen.studio.session import Model

RED, BLUE = (200, 60, 60), (60, 60, 200)
# Three anchors on a line: the last is nearest to the second.
ANCHORS = fake_backend.Anchors(
    torch.tensor([0.0, 2.0, 3.0])[:, None, None].expand(3, 2, 8), torch.zeros(3, 25), ()
)
MODEL = Model("m", "a model", "k", fake_backend.Adapter(ANCHORS), "heads", "", (), {})
# Every task with its values before the adapter (PHOTO stands for a photo) and what its report must hold.
TASKS = {
    "/invert": (("PHOTO", 0, 0), {"perceptual"}),
    "/inpaint": (("PHOTO", None, "mouth", 0), {"masked_share"}),
    "/upscale": (("PHOTO", 32, 0), {"side", "lanczos_id_sim"}),
    "/interpolate": ((None, None, 5, -1, -1), {"t", "id_sims", "ends"}),
    "/synthesize": ((3, 1, "three", 0.5), {"diversity"}),
    "/edit": (("PHOTO", "age", 2.0, "stop", 0), {"strengths", "scores", "id_sims"}),
}


@pytest.fixture
def client(app: Served):
    client = Client(app.url, verbose=False, httpx_kwargs=PATIENT)
    yield client
    client.predict(api_name="/delete_my_data")
    client.close()


def values(of: str, photo: str) -> list:
    return [handle_file(photo) if value == "PHOTO" else value for value in TASKS[of][0]]


def personalize(client: Client, paths: list[str]) -> str:
    client.predict([handle_file(path) for path in paths], True, api_name="/prepare")
    return client.predict("heads", 1, 5, 0, False, api_name="/personalize")[0]


def colour_of(path: str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)[30, 60]


def test_every_task_gives_both_pictures_and_figures(client: Client, photos):
    paths = photos(RED, 3)
    personalize(client, paths)
    for name, (_, fields) in TASKS.items():
        before, after, report = client.predict(*values(name, paths[0]), api_name=name)
        assert Image.open(before).format == Image.open(after).format == "PNG"
        assert colour_of(before).std() < 3 < colour_of(after).std(), name
        assert report["prior"] == "heads"
        assert report["networks"], name
        for side in ("pretrained", "personalized"):
            assert {"id_sim", "seconds", *fields} <= set(report[side]), name
        assert report["personalized"]["id_sim"] > report["pretrained"]["id_sim"]


def test_every_task_takes_an_adapter_file_and_says_where_there_is_none(client: Client, app: Served, photos):
    paths = photos(BLUE, 2)
    adapter = personalize(client, paths)
    other = Client(app.url, verbose=False, httpx_kwargs=PATIENT)
    for name in TASKS:
        with pytest.raises(AppError, match="no personalized model yet"):
            other.predict(*values(name, paths[0]), api_name=name)
        _, after, _ = other.predict(*values(name, paths[0]), handle_file(adapter), api_name=name)
        assert colour_of(after)[2] > colour_of(after)[0] + 20, name
    other.predict(api_name="/delete_my_data")
    other.close()


def test_a_task_reports_where_it_is_and_answers_the_same_question_at_once(client: Client, photos):
    paths = photos(RED, 2)
    personalize(client, paths)
    asked = [client.submit(*values("/inpaint", paths[0]), api_name="/inpaint")]
    reports = [asked[0].result(60)[2]]
    asked += [client.submit(*values("/inpaint", paths[0]), api_name="/inpaint")]
    reports += [asked[1].result(60)[2]]
    stages = [{output[2].get("stage") for output in job.outputs()[:-1]} for job in asked]
    assert stages == [{"pretrained: fit", "personalized: fit"}, set()], "the second time nothing is fitted"
    assert reports[0] == reports[1]


def test_a_mask_of_ones_own(client: Client, photos, tmp_path: Path):
    paths = photos(RED, 2)
    personalize(client, paths)
    mask = np.zeros((512, 512), np.uint8)
    mask[:128] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    sent = handle_file(str(tmp_path / "mask.png"))
    report = client.predict(handle_file(paths[0]), sent, "centre", 0, api_name="/inpaint")[2]
    assert report["personalized"]["masked_share"] == 0.25


def test_interpolation_between_photos_and_anchors(client: Client, photos):
    paths = photos(RED, 3)
    personalize(client, paths)
    photo = handle_file(paths[0])
    ends = client.predict(None, None, 4, 2, 0, api_name="/interpolate")[2]["personalized"]["ends"]
    assert ends == [2, 0]
    ends = client.predict(None, None, 4, 0.0, 1.0, api_name="/interpolate")[2]["personalized"]["ends"]
    assert ends == [0, 1]
    report = client.predict(photo, None, 4, -1, 1, api_name="/interpolate")[2]
    assert report["personalized"]["ends"] == [None, 1]
    with pytest.raises(AppError, match="choose both, or none"):
        client.predict(photo, None, 4, api_name="/interpolate")


@pytest.mark.parametrize("kind", ["glb", "ply", "mp4", "png"])
def test_exports(client: Client, photos, kind: str):
    personalize(client, photos(RED, 2))
    *paths, report = client.predict(kind, 1, 32, 12, api_name="/export")
    assert (report["format"], report["anchor"]) == (kind, 1)
    for path, side in zip(map(Path, paths), SIDES, strict=True):
        assert path.suffix == f".{kind}"
        assert path.stat().st_size == report[side]["bytes"] > 0
    assert Path(paths[0]).read_bytes() != Path(paths[1]).read_bytes(), "each model's own"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (("PHOTO", None, "ears", 0, "/inpaint"), "region is 'ears'"),
        (("PHOTO", 8, 0, "/upscale"), "size is 8"),
        ((None, None, 1, "/interpolate"), "steps is 1"),
        ((None, None, 5, 0, 9, "/interpolate"), "anchor is 9"),
        ((99, 0, "dirichlet", 1.0, "/synthesize"), "count is 99"),
        ((3, 0, "../rule", 1.0, "/synthesize"), "rule is"),
        (("PHOTO", "hat", 1.0, "project", 0, "/edit"), "attribute is 'hat'"),
        (("PHOTO", "smile", 5.0, "project", 0, "/edit"), "strength is 5"),
        (("/etc/passwd", 0, 64, 24, "/export"), "format is '/etc/passwd'"),
        (("glb", 0, 4096, 24, "/export"), "resolution is 4096"),
    ],
)
def test_wrong_values_get_one_sentence(client: Client, photos, call, says):
    paths = photos(RED, 2)
    personalize(client, paths)
    *given, name = call
    given = [handle_file(paths[0]) if value == "PHOTO" else value for value in given]
    with pytest.raises(AppError, match=says):
        client.predict(*given, api_name=name)


def test_deleting_removes_what_tasks_made(app: Served, client: Client, photos):
    start = app.files()
    paths = photos((44, 99, 33), 2)
    personalize(client, paths)
    for name in TASKS:
        client.predict(*values(name, paths[0]), api_name=name)
    client.predict("glb", 0, 32, 12, api_name="/export")
    assert {path.suffix for path in app.files() - start} >= {".png", ".glb", ".jpg"}
    assert client.predict(api_name="/delete_my_data") == {"deleted": True}
    assert not app.files() - start


def test_the_real_tasks_end_to_end(real_app: Served):
    """One photo of an example person (its mirror image makes it two), two steps, every task: everything fits together."""
    client = Client(real_app.url, verbose=False, httpx_kwargs=PATIENT)
    person = ROOT / "examples" / "ada"
    gallery, report = client.predict([handle_file(person / "photo_09.jpg")], True, api_name="/prepare")
    assert len(gallery) == 1, report
    assert abs(report["accepted"][0]["yaw_degrees"]) < 25
    adapter, report = client.predict("heads", 1, 2, 0, False, api_name="/personalize")
    assert (report["prior"], report["anchors"], report["stopped"]) == ("heads", 2, False)
    assert Path(adapter).stat().st_size == report["bytes"] < 600_000
    before, after, _ = client.predict(0, 0.2, 0.1, handle_file(adapter), api_name="/render")
    before, after = (np.asarray(Image.open(path)).astype(int) for path in (before, after))
    assert before.shape == after.shape == (256, 256, 3)
    assert 0 < np.abs(before - after).mean() < 60
    photo = str(person / "test_00.jpg")
    for name, (_, fields) in TASKS.items():
        given = values(name, photo)
        if name in ("/invert", "/inpaint", "/upscale", "/edit"):
            given[1 if name == "/invert" else -1] = 2
        before, after, report = client.predict(*given, api_name=name)
        assert Image.open(before).size == Image.open(after).size, name
        assert {"id_sim", "seconds", *fields} <= set(report["personalized"]), name
    for kind in ("glb", "mp4"):
        before, after, report = client.predict(kind, 0, 48, 12, api_name="/export")
        assert Path(before).stat().st_size == report["pretrained"]["bytes"] > 1000
        assert Path(after).stat().st_size == report["personalized"]["bytes"] > 1000
    assert client.predict(api_name="/delete_my_data") == {"deleted": True}
    assert "EXTERNAL" not in real_app.log.read_text()
    client.close()


# ---------------------------------------------------------------- the functions under the tabs


def test_a_painted_mask_comes_back_as_it_was_left():
    mask = np.zeros((512, 512), bool)
    mask[100:200, 50:300] = True
    value = painter.canvas(np.zeros((512, 512, 3), np.uint8), mask)
    assert (painter.painted(value) == mask).all()
    assert painter.painted(None) is None
    assert not painter.painted(painter.canvas(np.zeros((512, 512, 3), np.uint8), ~mask & mask)).any()


def test_a_mask_goes_with_no_other_photo(monkeypatch: pytest.MonkeyPatch):
    """Whoever starts before the next photo's crop is there would hide what was marked on the last one."""
    crops = {name: np.full((512, 512, 3), value, np.uint8) for name, value in (("a", 90), ("b", 160))}
    monkeypatch.setattr(task_photo, "face", lambda session, photo, prior: SimpleNamespace(image=crops[photo]))
    asked = []
    monkeypatch.setattr(tasks, "inpaint", lambda *values: asked.append(values[2]) or iter(()))
    mask = np.zeros((512, 512), bool)
    mask[:9] = True
    canvas = painter.canvas(crops["a"], mask)
    list(tab_inpainting._run(None, MODEL, "a", canvas, None, 0))
    with pytest.raises(My3DGenError, match="painted on another crop"):
        list(tab_inpainting._run(None, MODEL, "b", canvas, None, 0))
    list(tab_inpainting._run(None, MODEL, "b", None, "eyes", 0))
    assert asked == ["a", "b"]


@pytest.mark.parametrize(
    "mask",
    [
        "file:///etc/passwd",
        7,
        painter.HEAD + "AAAA",
        painter.HEAD + "not base64",
        "data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode(),
    ],
)
def test_a_mask_that_is_none_gets_one_sentence(mask):
    with pytest.raises(My3DGenError, match="paint it again"):
        painter.painted({"mask": mask})


def test_held_out_photos_are_named_by_place_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    session = Registry().get("secret")
    session.example = "ada"
    path = task_photo.held_out_file(session, "0")
    assert session.folder in Path(path).parents
    assert task_photo.held_out_file(session, "../../etc/passwd") is None
    task_photo.choose(session, path)
    assert task_photo.offered(session) == path
    Path(path).unlink()
    assert task_photo.offered(session) is None
    with pytest.raises(My3DGenError, match="choose it again"):
        task_photo.face(session, path)


def test_pictures_of_figures_say_their_values():
    curve = figures.plot({"Pretrained": [0.2, 0.4], "<b>": [0.5, 0.6]}, [0, 1], "Along the way:", "way")
    assert "Pretrained: 0.20, 0.40" in curve
    assert "<b>" not in curve
    assert "–" in figures.scores(None, None, "Waiting.")
    square = np.zeros((8, 8, 3), np.uint8)
    sheet = contact_sheet([("One", [([square], ""), ([square] * 4, "a"), ([], "b")])], ["A", "B", "C"])
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] > 900


def test_a_mask_of_a_photo_as_large_as_the_crop_is_the_photos(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """As on the command line: only a photo of another size can have a mask of the crop's size."""
    face = prepare([str(ROOT / "examples" / "ada" / "photo_09.jpg")])[0]
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    sent = []

    def compare(task, prior, adapter, photo, references, options, stop_file):
        sent.append(options["mask"])
        raise My3DGenError("that is all that is asked")
        yield

    monkeypatch.setattr(compute, "compare", compare)
    white = np.zeros((512, 512), np.uint8)
    white[200:300, 200:300] = 255
    Image.fromarray(white).save(tmp_path / "mask.png")
    for side in (512, 400):
        photo = str(tmp_path / f"{side}.png")
        placed = replace(face, photo_size=(side, side))
        monkeypatch.setattr(task_photo, "face", lambda *_, placed=placed: placed)
        Image.new("RGB", (side, side)).save(photo)
        with pytest.raises(My3DGenError, match="that is all"):
            list(tasks.inpaint(Registry().get("a"), MODEL, photo, str(tmp_path / "mask.png"), "centre", 0))
    assert (sent[0] == painted_mask(white, replace(face, photo_size=(512, 512)), crop_first=False)).all()
    assert (sent[1] == (white > 0)).all()
    assert (sent[0] != sent[1]).any()


@pytest.mark.parametrize(("first", "last", "ends"), [(3, 0, (2, 0)), (0, 3, (0, 2)), (0, 0, (None, None))])
def test_an_end_left_open_is_the_one_that_differs_most(monkeypatch: pytest.MonkeyPatch, first, last, ends):
    asked = []
    monkeypatch.setattr(
        tasks, "interpolate", lambda session, model, *values: asked.append(values) or iter(())
    )
    list(tab_interpolation._run(None, MODEL, tab_interpolation.OWN, first, last, None, None, 8))
    assert asked == [(*ends, 8)]


def test_bars_of_a_figure_without_a_largest_value_leave_room():
    assert figures.scale([2.23, 1.9]) == 3.0
    assert figures.scale([0.1]) == figures.scale([]) == 0.25
    assert figures.scale([7.5]) == 9.0
    bars = tab_new_looks._bars(
        {"pretrained": 0.4, "personalized": 0.6}, {"pretrained": 1.5, "personalized": 2.23}
    )
    assert "A full bar is 3." in bars
    assert "width:50.0%" in bars
    assert "<b>2.23</b>" in bars
    assert "width:100" not in bars


def test_a_fit_is_moved_only_for_the_model_and_the_photo_it_is_of(tmp_path: Path):
    session = Registry().get("a")
    session.models, session.current = {"m": MODEL, "n": replace(MODEL, id="n")}, "m"
    paths = [str(tmp_path / f"{colour}.png") for colour in ("red", "blue")]
    for path in paths:
        Image.new("RGB", (8, 8), Path(path).stem).save(path)
    editing = tab_edit.Editing(MODEL, edited_outcome(), task_photo.digest(session, paths[0]))
    assert editing.stale(session, paths[0]) == editing.stale(session) == ""
    assert editing.stale(session, paths[1]) == tab_edit.OTHER_PHOTO
    session.current = "n"
    assert editing.stale(session, paths[0]) == tab_edit.OTHER_MODEL


def test_the_curve_is_shown_for_what_it_was_measured_with_only():
    outcome = edited_outcome()
    pictures = {side: result.images["image"] for side, result in outcome.sides.items()}
    measured = tab_edit._shown(outcome, pictures, "smile", 1.0, "project")
    assert "m3-plot" in measured.more[0]
    assert "0.60" in measured.figures
    for attribute, policy, said in (
        ("smile", "stop", "Your faces up to the edge"),
        ("age", "project", "Age"),
    ):
        shown = tab_edit._shown(outcome, pictures, attribute, 1.0, policy)
        assert "m3-plot" not in shown.more[0]
        assert said in shown.figures
        assert "press Rebuild and edit again" in shown.figures
        assert shown.more == ("", "")


def test_stages_are_named_with_task_and_model():
    assert panels.stage_words("project").startswith("Projection")
    assert panels.stage_words("pretrained: fit") == "Pretrained model: finding this photo"
    words = panels.stage_words("Smile +1, 2 of 6: personalized: fit")
    assert words == "Smile +1, 2 of 6 · Personalized model: finding this photo"
    assert panels.stage_words("download heads (MB)") == "Download heads (MB)"


def edited_outcome() -> tasks.Outcome:
    models = fake_backend.Prior("heads"), fake_backend.Prior("heads", MODEL.adapter)
    sides = [
        fake_backend.edit(model, np.array(RED), score)
        for model, score in zip(models, (0.5, 0.7), strict=True)
    ]
    photo = np.zeros((64, 64, 3), np.uint8)
    return tasks.Outcome("edit", fake_backend.Comparison(photo, *sides), {}, False)
