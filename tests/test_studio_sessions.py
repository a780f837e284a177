"""Sessions: what they keep, how long, and that nothing of them stays."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from my3dgen.errors import My3DGenError
from my3dgen.progress import Progress
from my3dgen.studio import folders, jobs
from my3dgen.studio.page import numbered
from my3dgen.studio.registry import LATE_SECONDS, LEFT_SECONDS, SPARED_SECONDS, Registry, upload_root
from my3dgen.studio.session import LENT, MODELS, RESULT_BYTES, UPLOADS


def test_sessions_expire_and_are_deleted_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    registry = Registry(idle_seconds=3600.0)
    session = registry.get("secret")
    assert registry.get("secret") is session
    assert registry.get("another") is not session
    assert registry.get(None) is not registry.get(None)
    upload = tmp_path / "ab12" / "me.jpg"
    upload.parent.mkdir()
    upload.write_bytes(b"photo")
    outside = tmp_path.parent / "outside.jpg"
    outside.write_bytes(b"not an upload")
    registry.owns_uploads(session, [str(upload), str(outside)])
    registry.owns_uploads(registry.get("another"), [str(upload)])
    path = session.save_image(np.zeros((4, 4, 3), np.uint8), "x")
    assert "secret" not in path
    assert upload_root() in Path(path).parents
    session.used -= 3601.0
    registry.sweep()
    assert session.deleted
    assert not Path(path).exists()
    assert upload.exists(), "another visitor sent the same photo"
    assert outside.exists()
    assert registry.delete("another")
    assert not upload.parent.exists()
    assert not registry.delete("another")


def test_a_long_session_lets_go_of_what_it_sent_long_ago(monkeypatch, tmp_path: Path):
    """All but what it still points to, and what somebody else sent, too."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    registry = Registry()
    session, other = registry.get("me"), registry.get("another")
    files = [tmp_path / f"{i}" / "frame.jpg" for i in range(UPLOADS + 6)]
    for file in files:
        file.parent.mkdir()
        file.write_bytes(b"photo")
    first, shown, lent, shared, *rest = files
    session.photos = [SimpleNamespace(original=str(first))]
    session.photo, session.lent = str(shown), OrderedDict({str(lent): SimpleNamespace(adapter=None)})
    registry.owns_uploads(other, [str(shared)])
    for file in files:
        registry.owns_uploads(session, [str(file)])
    assert all(file.exists() for file in (first, shown, lent, shared, *rest[2:]))
    assert not any(file.exists() for file in rest[:2])
    registry.delete("me")
    assert [file for file in files if file.exists()] == [shared]
    registry.delete("another")
    assert not shared.exists()


def test_only_folders_of_sessions_are_tidied_up(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    left = Registry().get("before").folder
    others = [tmp_path / name for name in ("my3dgen-main", "my3dgen-1000", left.name + "0")]
    for folder in (left, *others):
        folder.mkdir()
        os.utime(folder, (0, 0))
    Registry().tidy()
    assert not left.exists() and all(folder.exists() for folder in others)


def test_a_photo_that_is_sent_anew_outlives_the_session_that_sent_it_before(monkeypatch, tmp_path: Path):
    """The page was reloaded, and the same photo has the same path; nobody has claimed it yet."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    registry = Registry()
    upload = tmp_path / "ab12" / "me.jpg"
    upload.parent.mkdir()
    upload.write_bytes(b"photo")
    registry.owns_uploads(registry.get("before"), [str(upload)])
    again = tmp_path / "arriving"
    again.write_bytes(b"photo")
    again.rename(upload)
    assert registry.delete("before") and upload.exists()
    registry.owns_uploads(registry.get("after"), [str(upload)])
    assert registry.delete("after") and not upload.exists()


def test_a_photo_that_two_sent_goes_with_the_last_of_them_whoever_that_is(monkeypatch, tmp_path: Path):
    """The page was reloaded and sent it again: the new page deletes first, and the old one's session expires later."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    registry = Registry()
    upload = tmp_path / "ab12" / "me.jpg"
    upload.parent.mkdir()
    for name in ("before", "after"):
        arriving = tmp_path / "arriving"
        arriving.write_bytes(b"photo")
        arriving.rename(upload)  # as Gradio stores what was sent: a new file in the old one's place
        registry.owns_uploads(registry.get(name), [str(upload)])
    assert registry.delete("after") and upload.exists()
    assert registry.delete("before") and not upload.exists()


def test_who_waits_for_a_turn_does_not_make_room_for_somebody_else():
    registry = Registry(limit=2)
    waiting, idle = registry.get("a"), registry.get("b")
    jobs.wait(waiting, "fit")
    waiting.photos = idle.photos = [object()]
    waiting.used -= 2 * SPARED_SECONDS
    idle.used -= SPARED_SECONDS
    registry.get("c")
    assert idle.deleted and not waiting.deleted


def test_newcomers_cost_nobody_what_is_in_use():
    """Nor do those who only say that something of theirs waits."""
    registry = Registry(limit=3)
    mine, other = registry.get("a"), registry.get("b")
    mine.photos = other.models["m"] = [object()]
    for i in range(9):
        jobs.wait(registry.get(f"made up {i}"), "fit")
    assert not mine.deleted and not other.deleted
    registry.get("made up 8").photos = [object()]
    with pytest.raises(My3DGenError, match="no room for another visitor"):
        registry.get("d")
    assert registry.get("a") is mine and not registry.knows("d")


def test_uploads_that_nobody_claimed_go(monkeypatch, tmp_path: Path):
    """In this server's own folder alone; others keep what they like elsewhere."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own, shared = folders.own_folder(), tmp_path / "shared"
    for root, stays in ((shared, True), (own, False)):
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(root))
        registry = Registry()
        broken, unclaimed, claimed, fresh = (
            root / name for name in ("tmpab12cd34", f"{'a' * 64}/a.jpg", f"{'b' * 64}/b.jpg", "tmpnew")
        )
        for file in (broken, unclaimed, claimed, fresh):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"photo")
        registry.owns_uploads(registry.get("me"), [str(claimed)])
        for file in (broken, unclaimed, claimed):
            os.utime(file, (0, 0))
        registry.sweep()
        assert (broken.exists(), unclaimed.exists()) == (stays, stays) and claimed.exists() and fresh.exists()
    folders.remove_own()


def test_a_slider_that_a_page_still_has_starts_anew_with_a_session_without_a_model():
    session, slider = Registry().get("me"), SimpleNamespace(value=1, elem_id="anchor")
    update = numbered(slider)
    assert update(session)["value"] == 1 and update(session)["value"] == 1
    many = SimpleNamespace(ws=range(10))
    session.models["m"] = SimpleNamespace(id="m", adapter=SimpleNamespace(anchors=many))
    session.current = "m"
    first = update(session)
    assert (first["value"], first["maximum"]) == (1, 10) and "value" not in update(session)


def test_the_oldest_empty_session_makes_room():
    registry = Registry(limit=2)
    full, empty = registry.get("a"), registry.get("b")
    full.photos = [object()]
    registry.get("c")
    assert registry.get("a") is full
    assert empty.deleted


def test_what_a_closed_page_held_goes_soon_and_a_waiting_job_keeps_its_session(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    registry = Registry(idle_seconds=3600.0)
    closed, waiting = registry.get("closed"), registry.get("waiting")
    registry.left("closed")
    registry.left("nobody")
    registry.sweep()
    assert not closed.deleted  # it may only just have been closed
    closed.used -= LEFT_SECONDS
    jobs.wait(waiting, "fit")
    waiting.used -= 3601.0
    registry.sweep()
    assert closed.deleted and not waiting.deleted and waiting.filled
    with jobs.turn(waiting, "fit"), jobs.running(waiting, "fit"):
        assert waiting.waits()
    registry.sweep()
    assert waiting.deleted


def test_a_job_that_still_reports_does_not_keep_what_a_closed_page_held():
    registry = Registry(idle_seconds=3600.0)
    session, other = registry.get("closed"), registry.get("open")
    registry.left("closed")
    before = other.used
    for each in (session, other):
        assert (
            list(jobs.reports(each, [Progress("project", 1, 2, None)] * 2 + [1]))
            == [Progress("project", 1, 2, None)] * 2
        )
    assert time.monotonic() - session.used > 3600.0 - LEFT_SECONDS - 1
    assert other.used >= before
    registry.get("closed")  # what it had asked before it was closed
    assert time.monotonic() - session.used > 3600.0 - LEFT_SECONDS - 1
    session.left -= LATE_SECONDS
    registry.get("closed")  # the same page came back
    assert time.monotonic() - session.used < 60


def test_what_a_job_writes_after_the_deletion_is_deleted_again(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    registry, forgotten, swept = Registry(), [], []
    registry.on_delete, registry.on_sweep = forgotten.extend, lambda: swept.append(True)
    session = registry.get("me")
    mine = object()
    session.lent["x"] = SimpleNamespace(adapter=mine)
    path = Path(session.new_path("film.mp4"))
    assert registry.delete("me") and swept and forgotten == [id(mine)]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"late")
    registry.sweep()
    assert not session.folder.exists() and forgotten == [id(mine)] * 2
    with pytest.raises(My3DGenError, match="deleted"):
        session.new_path("later.mp4")


def test_neither_a_strange_hash_nor_a_failure_ends_expiry_and_deletion(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    registry = Registry()
    strange = "\ud800"  # half a surrogate pair, which JSON can hold
    registry.get(strange)
    assert registry.knows(strange) and not registry.knows("\ud801")
    registry.on_sweep = lambda: 1 / 0
    session = registry.get("me")
    kept = Path(session.new_path("me.png"))
    kept.write_bytes(b"x")
    os.utime(kept, (0, 0))
    registry.sweep()
    assert kept.stat().st_mtime > 0, "files of those who are here are kept young all the same"
    registry.get("me").photos = [object()]
    assert registry.delete("me") is True and not kept.exists()
    registry.on_sweep = lambda: None  # its sweeper goes on


def test_a_deleted_session_claims_and_lends_nothing(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    registry = Registry()
    session = registry.get("me")
    registry.delete("me")
    with pytest.raises(My3DGenError, match="deleted"):
        registry.owns_uploads(session, [str(tmp_path)])
    with pytest.raises(My3DGenError, match="deleted"):
        session.remember_lent("a", object())
    other = registry.get("you")
    gone = [each for i in range(LENT + 2) for each in other.remember_lent(str(i), i)]
    assert gone == [0, 1] and len(other.lent) == LENT


def test_results_and_projections_are_kept_by_what_they_weigh_too(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    session = Registry().get("me")
    for name, weight in (("a", 4), ("b", 5), ("c", 3)):
        session.remember_result(name, SimpleNamespace(bytes=weight * RESULT_BYTES // 10))
    assert list(session.results) == ["b", "c"]
    session.remember_result("film", SimpleNamespace(bytes=2 * RESULT_BYTES))
    assert list(session.results) == ["film"]  # whoever asked for it may ask again
    for i in range(MODELS + 1):
        session.remember_anchors(str(i), object())
    assert len(session.anchors) == MODELS and "0" not in session.anchors
