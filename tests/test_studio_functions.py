"""Photos, streams, errors and checks: the functions under the page and the endpoints."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from my3dgen.errors import My3DGenError
from my3dgen.faces import Face
from my3dgen.progress import Progress
from my3dgen.studio import (
    api_tasks,
    compute,
    examples,
    folders,
    photo_set,
    priors,
    service,
    stream,
    tab_selfies,
)
from my3dgen.studio.guard import UNEXPECTED, sentence, visible
from my3dgen.studio.looking import ViewGrid
from my3dgen.studio.registry import Registry, upload_root
from my3dgen.studio.session import MODELS


def test_photos_of_which_none_is_usable_change_nothing(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(service.priors, "checked", lambda name: name or "heads")
    monkeypatch.setattr(service.compute, "kind_of", lambda name: ({"cats": "cat"}.get(name, "person"), ""))
    read = []

    def prepare(photos, progress, kind):
        read.append(kind)
        refused = "no cat" if kind == "cat" else None
        face = Face("photo 1", np.zeros((2, 2, 3), np.uint8), camera=np.zeros(25), refused=refused)
        return [face for _ in photos]

    monkeypatch.setattr("my3dgen.studio.compute.prepare", prepare)
    session = Registry().get("me")
    with pytest.raises(My3DGenError, match="no cat"):
        service.add_photos(session, ["a.jpg"], True, replace_all=True, prior="cats")
    assert session.prior == "" and read == ["cat"]
    service.add_photos(session, ["a.jpg"], True, replace_all=True, prior="heads")
    assert session.prior == "heads" and len(session.photos) == 1


def test_photos_that_are_there_already_are_not_read_again(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    session = Registry().get("me")
    session.photos = [SimpleNamespace(original=f"{i}.jpg", digest=str(i), face=None) for i in range(49)]
    read = []
    monkeypatch.setattr(service.compute, "prepare", lambda photos, *_: read.append(photos) or 1 / 0)
    assert service.add_photos(session, ["0.jpg", "48.jpg"], True) == 0 and not read
    with pytest.raises(ZeroDivisionError):  # 49 and a new one are 50, though the browser sends all
        service.add_photos(session, [f"{i}.jpg" for i in range(50)], True)
    assert read == [["49.jpg"]]


def test_an_adapter_downloads_no_prior(monkeypatch, tmp_path: Path):
    """Nobody chose that prior, so nobody has seen its licence."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(service.priors, "installed", lambda name: name == "heads")
    monkeypatch.setattr("my3dgen.load_adapter", lambda path: SimpleNamespace(prior_name=path))
    fits = SimpleNamespace(personalized=lambda adapter: None)
    monkeypatch.setattr(service.compute, "prior", lambda name: fits)
    session = Registry().get("me")
    assert service.model_for(session, "heads").prior == "heads"
    for ask in (service.load_adapter, service.model_for):
        with pytest.raises(My3DGenError, match="choose that prior in Personalize"):
            ask(session, "ffhq")
    session.prior = "ffhq"  # chosen in Personalize, where its licence is shown
    assert service.model_for(session, "ffhq").prior == "ffhq"


def test_an_empty_session_has_nothing_to_delete():
    registry = Registry()
    registry.get("me")
    assert not registry.delete("me")


def test_newer_files_and_models_take_the_place_of_older_ones(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    session = Registry().get("me")
    first, other, second = (Path(session.save_image(np.zeros((2, 2, 3), np.uint8), "x")) for _ in range(3))
    session.keep_newest("pair", [str(first)])
    session.keep_newest("film", [str(other)])
    session.keep_newest("pair", [str(second)])
    assert not first.exists() and other.exists() and second.exists()
    session.keep_newest("film", [session.save_image(np.zeros((2, 2, 3), np.uint8), "x")], most=2)
    assert other.exists()
    assert oct(session.folder.stat().st_mode)[-3:] == "700"
    models = [SimpleNamespace(id=str(i), path=session.new_path("me.safetensors")) for i in range(MODELS + 1)]
    gone = [old for model in models for old in session.keep_model(model)]
    assert gone == models[:1] and len(session.models) == MODELS and session.current == models[-1].id
    assert not Path(models[0].path).parent.exists() and Path(models[1].path).parent.exists()


def test_only_the_newest_answers_keep_their_pictures(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(api_tasks, "ANSWERS", 2)
    session, picture = Registry().get("me"), np.zeros((2, 2, 3), np.uint8)
    answers = [
        api_tasks.pictures(session, {"pretrained": picture, "personalized": picture}) for _ in range(3)
    ]
    assert [all(Path(path).exists() for path in answer) for answer in answers] == [False, True, True]
    assert [Path(path).name for path in answers[-1]] == ["pretrained.png", "personalized.png"]


def test_gradio_remembers_no_page_whose_session_is_gone():
    from gradio.state_holder import StateHolder

    from my3dgen.studio.app import forget_pages

    registry, holder = Registry(), StateHolder()
    with gr.Blocks() as demo:
        gr.HTML()
    forget_pages(demo, registry)  # not served yet
    holder.set_blocks(demo)
    for secret in ("gone", "here"):
        holder[secret]
    registry.get("here")
    forget_pages(demo, registry)
    assert list(holder.session_data) == list(holder.time_last_used) == ["here"]


def test_a_server_has_a_folder_of_its_own_and_removes_those_of_killed_ones(monkeypatch, tmp_path: Path):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first = folders.own_folder()
    (first / "me.jpg").write_bytes(b"photo")
    assert [oct(each.stat().st_mode)[-3:] for each in (first, first.parent)] == ["700", "700"]
    running = first.with_name(f"{folders.PREFIX}{os.getppid()}-abc")
    killed = first.with_name(f"{folders.PREFIX}{2**22 + 1}-abc")  # more than Linux has processes
    running.mkdir()
    killed.mkdir()
    second = folders.own_folder()
    assert second.is_dir() and running.is_dir() and not killed.exists()
    assert not first.exists()  # a container gives every server the same process number
    first.parent.chmod(0o755)  # somebody else could look in: not there
    third = folders.own_folder()
    assert third.parent == tmp_path
    folders.remove_own()
    assert running.is_dir() and not second.exists() and not third.exists()


def test_a_fit_that_is_stopped_keeps_its_projection(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    session, given = Registry().get("me"), []
    face = Face("a.jpg", image=np.zeros((8, 8, 3), np.uint8), camera=np.zeros(25, np.float32))
    session.photos = photo_set.of_faces([face], ["a.jpg"], "person")
    anchors = SimpleNamespace(ws=[0])
    adapter = SimpleNamespace(
        rank=1, trainable_parameters=1, anchors=anchors, save=lambda path: Path(path).touch()
    )

    def fit(options, faces, known, stop_file):
        given.append(known)
        yield compute.Fit(anchors, adapter, {}, {}, stopped=True)

    monkeypatch.setattr(compute, "fit", fit)
    for _ in range(2):
        *_, model = service.fit(session, service.fit_options("heads", 1, None, 0, False))
        assert "stopped early" in model.label
    assert given == [None, anchors]


def test_consent_taken_back_discards_what_is_being_read(monkeypatch):
    session = Registry().get("me")

    def prepare(photos, progress, kind):
        session.agreed = False
        return [Face(photos[0], refused="no face")]

    monkeypatch.setattr("my3dgen.studio.compute.prepare", prepare)
    with pytest.raises(My3DGenError, match="taken back"):
        service.add_photos(session, ["a.jpg"], True)
    assert not session.photos
    session.agreed = True

    def prepare_and_pick(photos, progress, kind):
        session.picked = object()
        return [Face(photos[0], refused="no face")]

    monkeypatch.setattr("my3dgen.studio.compute.prepare", prepare_and_pick)
    with pytest.raises(My3DGenError, match="chosen meanwhile"):
        service.add_photos(session, ["a.jpg"], True)
    assert not session.photos
    monkeypatch.setattr("my3dgen.studio.compute.prepare", lambda *_: [Face("a.jpg", refused="no face")])
    for _ in range(2):  # the same drop, read twice
        service.add_photos(session, ["a.jpg"], True)
    assert len(session.photos) == 1


def test_photos_still_on_their_way_do_not_come_back_after_a_deletion():
    """They carry the consent of before, and who comes next declares it anew."""
    registry = Registry()
    before = registry.get("me")
    assert tab_selfies._consented(before, True) and not tab_selfies._consented(before, False)
    registry.delete("me")
    after = registry.get("me")
    assert not tab_selfies._consented(after, True)
    registry.agree("me", True)  # the box was ticked
    assert tab_selfies._consented(after, True)
    registry._sessions.clear()  # a full server gave it up; the box on the page is still ticked
    assert tab_selfies._consented(registry.get("me"), True)
    assert tab_selfies._consented(registry.get("another"), True)


def test_a_stream_reports_ends_and_can_be_stopped(tmp_path: Path):
    def work(progress):
        deadline = time.monotonic() + 60
        for step in range(1, 10**9):
            time.sleep(0.001)
            if progress(Progress("project", step, 10**9, None)) is False:
                return step
            assert time.monotonic() < deadline, "nobody stops it"

    stop = tmp_path / "stop"
    seen = []
    for report in stream.run(work, str(stop)):
        seen.append(report)
        stop.touch()
    assert isinstance(seen[0], Progress)
    assert isinstance(seen[-1], int)

    def broken(progress):
        raise My3DGenError("no")

    with pytest.raises(My3DGenError, match="no"):
        list(stream.run(broken))


def test_errors_become_one_sentence(caplog: pytest.LogCaptureFixture):
    path = upload_root() / "0123456789abcdef0123" / "a<b>.jpg"
    assert sentence(My3DGenError(f"{path} is no photo.")) == "a&lt;b&gt;.jpg is no photo."
    try:
        raise ValueError("my name is in here")
    except ValueError as error:
        assert visible(error).message == UNEXPECTED
    assert "ValueError" in caplog.text
    assert "my name" not in caplog.text


def test_photos_keep_the_servers_folders_to_themselves():
    folder = "/srv/gradio/0123456789abcdef"
    faces = [Face(f"{folder}/a.jpg", refused=f"This is the same picture as {folder}/b.jpg.")]
    (photo,) = photo_set.of_faces(faces, [faces[0].source], "person")
    assert (photo.name, photo.face.refused) == ("a.jpg", "This is the same picture as b.jpg.")
    assert folder not in photo.face.source


def test_the_example_picked_last_stays_and_the_one_before_takes_its_photo_along(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    session, started = Registry().get("me"), []
    people = {
        name: SimpleNamespace(name=name, photos=[f"{name}.jpg"], adapter=None) for name in ("anna", "ben")
    }
    monkeypatch.setattr(examples, "named", people.get)

    def read(person, progress):
        started.append(person.name)
        if person.name == "anna" and len(started) == 1:  # while she is read, Ben is picked
            service.load_example(session, "ben")
        return [Face(person.photos[0], refused="no face")]

    monkeypatch.setattr(service, "_example_faces", read)
    service.load_example(session, "anna")
    assert started == ["anna", "ben"]
    assert session.example == "ben" and session.photos[0].name == "ben.jpg"
    mine, lent = str(tmp_path / "mine.png"), session.new_path("test_00.jpg")
    for photo, kept in ((mine, mine), (lent, None)):
        session.photo = photo
        service.load_example(session, "ben")
        assert session.photo == photo  # of the same person
        service.load_example(session, "anna")
        assert session.photo == kept
        service.load_example(session, "ben")
    monkeypatch.setattr(service.compute, "prepare", lambda *_: [Face("me.jpg", refused="no face")])
    session.photo = session.second = lent
    service.add_photos(session, ["me.jpg"], True)
    assert session.example is None and session.photo is None and session.second is None


def test_photos_from_the_camera_are_counted():
    face = Face("photo 1", refused="no face")
    photos = photo_set.of_faces([face, face], [b"1", b"2"], "person", taken=3)
    assert [photo.name for photo in photos] == ["camera photo 4", "camera photo 5"]


def test_an_adapter_cannot_name_a_file_as_its_prior(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MY3DGEN_PRIOR", raising=False)
    with pytest.raises(My3DGenError, match="does not have"):
        priors.of_adapter("/etc/passwd")
    monkeypatch.setenv("MY3DGEN_PRIOR", "/srv/own.pkl")
    assert priors.source(priors.of_adapter("own person")) == "/srv/own.pkl"
    assert "/srv" not in json.dumps([vars(offer) for offer in priors.offered()])


def test_an_adapter_of_this_server_s_own_prior_finds_it_whatever_its_file_calls_itself(monkeypatch):
    monkeypatch.setenv("MY3DGEN_PRIOR", "/srv/own.safetensors")
    priors_here = {"own": SimpleNamespace(sha256="of own"), "heads": SimpleNamespace(sha256="of heads")}
    monkeypatch.setattr(compute, "_priors", priors_here)
    found = [
        service._prior_of(SimpleNamespace(prior_name="heads", prior_sha256=sha256))
        for sha256 in ("of own", "of heads")
    ]
    assert found == ["own", "heads"]


def test_a_process_that_borrows_a_gpu_keeps_nobody_s_model(monkeypatch):
    made = []
    prior = SimpleNamespace(personalized=lambda adapter: made.append(adapter) or "a view")
    monkeypatch.setattr(compute, "_priors", {"heads": prior})
    monkeypatch.setattr(compute, "_models", type(compute._models)())
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert compute.personalized("heads", "me") == "a view" and not compute._models
    monkeypatch.setenv("SPACES_ZERO_GPU", "")
    for _ in range(2):
        assert compute.personalized("heads", "me") == "a view"
    assert made == ["me", "me"] and len(compute._models) == 1


def test_the_views_start_at_the_front_and_cover_the_grid():
    batches = ViewGrid().batches()
    assert batches[0] == (2, (4,))
    views = [(row, column) for row, columns in batches for column in columns]
    assert len(views) == len(set(views)) == 45


def test_no_examples_is_fine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(examples, "FOLDER", tmp_path / "none")
    assert examples.listed() == []
    with pytest.raises(My3DGenError, match="none are installed"):
        service.load_example(Registry().get(None), "anna")
