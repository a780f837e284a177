"""The task tabs as a visitor meets them, at desktop and at phone width, over the stand-in models."""

from __future__ import annotations

import re
import zipfile

import numpy as np
import pytest
from PIL import Image
from studio_visit import RED, WIDTHS, Visit, expect

NO_SIDEWAYS = "document.documentElement.scrollWidth <= window.innerWidth"

HEAD_SHOWN = """(canvas) => {
    const gl = canvas.getContext('webgl2');
    const pixels = new Uint8Array(4 * canvas.width * canvas.height);
    gl.readPixels(0, 0, canvas.width, canvas.height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    return pixels.some((value) => value > 0);
}"""


def with_model(visit, width: str = "desktop") -> Visit:
    """A visitor who has personalized an example person."""
    v: Visit = visit(width)
    v.page.get_by_role("button", name="Ben").click()
    v.cards(10)
    v.personalize()
    return v


@pytest.mark.parametrize("width", WIDTHS)
def test_one_photo_goes_through_every_task(visit, width: str):
    v = with_model(visit, width)
    page = v.page
    v.tab("Inversion")
    page.locator("#inversion-photo-held-out").get_by_role("button", name="Held-out photo 2").click()
    expect(page.locator("#inversion-photo img")).to_be_visible()

    v.tab("Inpainting")
    expect(page.locator("#inpainting-photo img")).to_be_visible()  # never asked for twice
    expect(page.locator("#inpainting-mask .m3-ready")).to_be_attached()
    v.run("inpainting")
    expect(page.locator("#inpainting-shots img")).to_have_count(3)
    # results come into sight by themselves, also where they lie below the button
    page.wait_for_function(
        "document.querySelector('#inpainting-shots').getBoundingClientRect().top < innerHeight / 2"
    )
    expect(page.locator("#inpainting-figures")).to_contain_text("0.70")
    assert page.evaluate(NO_SIDEWAYS)

    v.tab("Super-resolution")
    expect(page.locator("#upscale-photo img")).to_be_visible()
    page.locator("#upscale-size").get_by_text("64 px").click()
    v.run("upscale")
    expect(page.locator("#upscale-shots")).to_contain_text("Input, 64 px")
    expect(page.locator("#upscale-figures")).to_contain_text("Lanczos")
    assert page.evaluate(NO_SIDEWAYS)

    v.tab("Smile & age")
    expect(page.locator("#edit-photo img")).to_be_visible()
    v.run("edit")
    expect(page.locator("#edit-shots")).to_contain_text("Personalized, smile +1.0")
    expect(page.locator("#edit-plot path.m3-after")).to_be_attached()
    picture = page.locator("#edit-shots img").nth(2)
    before, pair = picture.get_attribute("src"), page.locator("#edit-slider img").last
    expect(pair).not_to_have_attribute("src", re.compile("empty.png"))
    halves = pair.get_attribute("src")
    page.locator("#edit-strength input[type=range]").press("ArrowRight")
    expect(page.locator("#edit-shots")).to_contain_text("Personalized, smile +1.1")
    assert picture.get_attribute("src") != before
    expect(pair).not_to_have_attribute("src", halves)  # what is dear to make follows once the keys rest
    page.locator("#edit-attribute").get_by_text("Age").click()
    expect(page.locator("#edit-shots")).to_contain_text("Personalized, age +1.1")
    # The curve was of smile, and the faces are of this photo.
    expect(page.locator("#edit-figures")).to_contain_text("press Rebuild and edit again")
    expect(page.locator("#edit-plot path")).to_have_count(0)
    page.locator("#edit-photo-held-out").get_by_role("button", name="Held-out photo 3").click()
    expect(page.locator("#edit-figures")).to_contain_text("Another photo was chosen")
    expect(page.locator("#edit-shots img")).to_have_count(0)
    assert page.evaluate(NO_SIDEWAYS)

    v.tab("Compare")
    expect(page.locator("#compare-photo img")).to_be_visible()
    page.locator("#compare-full input").check()
    v.run("compare")
    expect(page.locator("#compare-table thead th")).to_have_text(
        ["What the models saw", "Pretrained", "Personalized", "Full fine-tuning"]
    )
    expect(page.locator("#compare-table th[scope=rowgroup]")).to_have_count(6)
    expect(page.locator("#compare-slider img").last).not_to_have_attribute("src", re.compile("empty.png"))
    with page.expect_download() as download:
        page.locator("#compare-sheet").click()
    assert Image.open(download.value.path()).width > 900
    assert page.evaluate(NO_SIDEWAYS)


@pytest.mark.parametrize("width", WIDTHS)
def test_what_needs_no_photo(visit, width: str):
    v = with_model(visit, width)
    page = v.page
    v.tab("Interpolation")
    expect(page.locator("#interpolation-anchors img")).to_have_count(10)
    v.run("interpolation")
    slider, calls = page.locator("#interpolation-book input"), v.quiet()
    first = page.locator("#interpolation-book [data-side=personalized] img").get_attribute("src")
    slider.press("End")
    expect(page.locator("#interpolation-book")).to_contain_text("100 % of the way")
    last = page.locator("#interpolation-book [data-side=personalized] img").get_attribute("src")
    assert last != first
    assert v.quiet() == calls, "the slider asks the server nothing"
    expect(page.locator("#interpolation-plot path")).to_have_count(2)
    expect(page.locator("#interpolation-video video")).to_be_attached()
    expect(page.locator("#interpolation-slider img").last).not_to_have_attribute(
        "src", re.compile("empty.png")
    )
    assert page.evaluate(NO_SIDEWAYS)

    v.tab("New looks")
    expect(page.locator("#looks-grids img")).to_have_count(0)
    v.run("looks")
    expect(page.locator("#looks-grids img")).to_have_count(12)
    expect(page.locator("#looks-photos img")).to_have_count(10)
    expect(page.locator("#looks-slider img").last).not_to_have_attribute("src", re.compile("empty.png"))
    expect(page.locator("#looks-figures")).to_contain_text("How different")
    assert page.evaluate(NO_SIDEWAYS)

    v.tab("Look around")
    page.get_by_role("button", name="Export").click()
    page.locator("#export-start").click()
    expect(page.locator("#export-mesh .m3-ready")).to_be_attached()
    expect(page.locator("#export-files")).to_contain_text("ply")
    page.get_by_label("Turntable (MP4)").check()
    page.locator("#export-start").click()
    expect(page.locator("#export-files")).to_contain_text("mp4")
    expect(page.locator("#export-film video")).to_be_visible()
    assert page.evaluate(NO_SIDEWAYS)
    page.get_by_label("Mesh").check()
    expect(page.locator("#export-mesh .m3-ready")).to_be_attached()
    assert page.locator("#export-mesh canvas").evaluate(HEAD_SHOWN)
    lost = "window.lost = canvas.getContext('webgl2').getExtension('WEBGL_lose_context')"
    page.locator("#export-mesh canvas").evaluate(f"(canvas) => {{ {lost}; window.lost.loseContext(); }}")
    expect(page.locator("#export-mesh .m3-ready")).to_have_count(0)
    page.evaluate("window.lost.restoreContext()")
    expect(page.locator("#export-mesh .m3-ready")).to_be_attached()  # the mesh comes back with the memory
    assert page.locator("#export-mesh canvas").evaluate(HEAD_SHOWN)
    page.locator("#delete").click()
    expect(page.locator("#deleted")).to_contain_text("Everything of this page is deleted")
    page.locator("#export-mesh canvas").dispatch_event("keydown", {"key": "ArrowLeft"})
    page.wait_for_function(f"!({HEAD_SHOWN})(document.querySelector('#export-mesh canvas'))")


def test_a_painted_mask_is_what_is_painted_anew(visit, tmp_path):
    v = with_model(visit)
    page = v.page
    v.tab("Inpainting")
    page.get_by_role("button", name="Held-out photo 1").click()
    expect(page.locator("#inpainting-mask .m3-ready")).to_be_attached()
    page.locator("#inpainting-region").get_by_text("Mouth").click()
    page.locator("#inpainting-mask .m3-clear").click()
    expect(page.locator("#inpainting-region input:checked")).to_have_count(0)
    page.locator("#inpainting-start").click()
    expect(page.get_by_text("Nothing is marked")).to_be_visible()
    expect(page.locator("#inpainting-start")).to_be_enabled()
    canvas = page.locator("#inpainting-mask canvas")
    page.locator("#inpainting-region").get_by_text("Mouth").click()
    page.wait_for_function(
        "document.querySelector('#inpainting-mask canvas').getContext('2d').getImageData(0, 0, 512, 512).data"
        ".some((value) => value > 0)"
    )
    page.locator("#inpainting-mask .m3-clear").click()
    expect(page.locator("#inpainting-region input:checked")).to_have_count(0)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.5 * box["height"], steps=4)
    # a second finger paints nothing and ends nothing
    for what in ("pointerdown", "pointermove", "pointerup"):
        canvas.dispatch_event(what, {"pointerId": 99, "clientX": box["x"] + 9, "clientY": box["y"] + 9})
    page.mouse.up()
    v.run("inpainting")
    with page.expect_download() as download:
        page.locator("#inpainting-zip").click()
    with zipfile.ZipFile(download.value.path()) as file:
        report = file.read("figures.json").decode()
        assert {"input.png", "pretrained/image.png", "personalized/image.png"} <= set(file.namelist())
    share = float(report.split('"masked_share": ')[1].split("}")[0].split(",")[0])
    # A stroke of 48 pixels (of 512) over 0.6 of the width with round ends.
    assert share == pytest.approx(48 * (0.6 * 512 + 0.785 * 48) / 512**2, rel=0.15)


def test_what_is_missing_is_said_at_once_and_a_viewer_in_sight_follows(visit):
    v = visit()
    page = v.page
    page.get_by_role("button", name="Ben").click()
    v.cards(10)
    v.tab("Personalize")
    page.get_by_role("button", name="Options").first.click()
    v.fill_slider("Steps", "300")
    page.locator("#personalize").click()
    v.tab("Look around")
    expect(page.locator("#look-status")).to_contain_text("no personalized model yet")
    expect(page.locator(".m3-ready .m3-done")).to_be_attached()  # though nobody asked for it again
    v.tab("Inversion")
    asked = len([url for url in v.quiet() if "queue/join" in url])
    page.locator("#inversion-start").click()
    expect(page.get_by_text("There is no photo yet")).to_be_visible()
    assert len([url for url in v.quiet() if "queue/join" in url]) == asked + 1, "it never waited for its turn"
    v.tab("Look around")
    page.set_viewport_size({"width": 1280, "height": 300})
    page.get_by_role("button", name="Next: try a new photo").scroll_into_view_if_needed()
    assert page.evaluate("document.getElementById('tabs').getBoundingClientRect().top") < -2
    page.get_by_role("button", name="Next: try a new photo").click()
    page.wait_for_function("document.getElementById('tabs').getBoundingClientRect().top > -2")


def test_two_new_photos_and_a_missing_one(visit, photos):
    v = with_model(visit)
    page = v.page
    v.tab("Interpolation")
    page.get_by_label("Two new photos").check()
    v.upload("#interpolation-first", photos(RED, 1))
    expect(page.locator("#interpolation-first img")).to_be_visible()
    page.locator("#interpolation-start").click()
    expect(page.get_by_text("Two photos are needed")).to_be_visible()
    expect(page.locator("#interpolation-start")).to_be_enabled()
    page.locator("#interpolation-second-held-out").get_by_role("button", name="Held-out photo 3").click()
    expect(page.locator("#interpolation-second img")).to_be_visible()
    v.run("interpolation")
    v.tab("Smile & age")
    expect(page.locator("#edit-photo img")).to_be_visible()


def test_stop_keeps_what_there_is_and_delete_empties_every_tab(visit):
    v = with_model(visit)
    page = v.page
    v.tab("Inversion")
    page.locator("#inversion-photo-held-out").get_by_role("button", name="Held-out photo 1").click()
    page.get_by_role("button", name="Options").locator("visible=true").click()
    v.fill_slider("Projection steps", "1000")
    page.locator("#inversion-start").click()
    expect(page.locator("#inversion-panel")).to_contain_text("Pretrained model")
    page.locator("#inversion-stop").click()
    expect(page.locator("#inversion-panel")).to_contain_text("there is nothing to compare")
    expect(page.locator("#inversion-shots img")).to_have_count(0)
    v.fill_slider("Projection steps", "500")
    page.locator("#inversion-start").click()
    expect(page.locator("#inversion-panel")).to_contain_text("Personalized model")
    page.locator("#inversion-stop").click()
    expect(page.locator("#inversion-panel")).to_contain_text("Stopped early")
    expect(page.locator("#inversion-shots img")).to_have_count(3)
    expect(page.locator("#inversion-start")).to_be_enabled()
    page.locator("#delete").click()
    expect(page.locator("#inversion-shots img")).to_have_count(0)
    expect(page.locator("#inversion-start")).to_be_disabled()
    v.tab("Smile & age")
    expect(page.locator("#edit-photo img")).to_have_count(0)
    v.tab("Interpolation")
    expect(page.locator("#interpolation-anchors img")).to_have_count(0)


def test_delete_leaves_no_file_of_any_tab(visit, app, photos):
    start = app.files()
    v = with_model(visit)
    page = v.page
    v.tab("Interpolation")
    page.get_by_label("Two new photos").check()
    v.upload("#interpolation-first", photos((35, 120, 90), 1))
    expect(page.locator("#interpolation-first img")).to_be_visible()
    page.locator("#interpolation-second-held-out button").first.click()
    expect(page.locator("#interpolation-second img")).to_be_visible()
    v.run("interpolation")
    v.tab("Inpainting")
    expect(page.locator("#inpainting-mask .m3-ready")).to_be_attached()
    v.run("inpainting")
    v.tab("Look around")
    page.get_by_role("button", name="Export").click()
    for kind, made in (("Turntable (MP4)", "mp4"), ("Picture (PNG)", "png")):
        page.get_by_label(kind).check()
        page.locator("#export-start").click()
        expect(page.locator("#export-files")).to_contain_text(made)
        expect(page.locator("#export-start")).to_be_enabled()
    page.wait_for_function("[...document.images].every((image) => image.complete)")
    assert {path.suffix for path in app.files() - start} >= {".png", ".mp4", ".zip"}
    page.locator("#delete").click()
    expect(page.locator("#deleted")).to_contain_text("Everything of this page is deleted")
    assert not app.files() - start


def test_edited_faces_go_and_come_back_with_their_model_and_their_photo(visit):
    v = with_model(visit)
    page = v.page
    v.tab("Interpolation")
    v.run("interpolation")
    v.tab("Smile & age")
    page.locator("#edit-photo-held-out").get_by_role("button", name="Held-out photo 1").click()
    v.run("edit")
    shots, scores = page.locator("#edit-shots img"), page.locator("#edit-figures")
    expect(shots).to_have_count(3)
    v.tab("Personalize")
    page.get_by_role("button", name="Options").first.click()
    v.fill_number("Seed", "7")
    page.locator("#personalize").click()
    chooser = page.locator("#model input")
    expect(chooser).to_have_value("Ben · heads · 10 photos · rank 1 · seed 7")
    v.tab("Smile & age")
    expect(scores).to_contain_text("Another model was chosen")
    expect(shots).to_have_count(0)
    v.tab("Interpolation")
    whose, lines = page.locator("#interpolation-ready"), page.locator("#interpolation-plot path")
    expect(whose).to_contain_text("Made with the model “Ben · heads · 10 photos · rank 1”")
    expect(lines).to_have_count(2)
    v.tab("Personalize")
    chooser.click()
    page.get_by_role("option", name="Ben · heads · 10 photos · rank 1", exact=True).click()
    v.tab("Interpolation")
    expect(whose).not_to_contain_text("Made with")
    expect(lines).to_have_count(2)
    v.tab("Smile & age")
    expect(shots).to_have_count(3)
    expect(scores).to_contain_text("0.60")
    expect(page.locator("#edit-zip")).to_be_enabled()
    page.locator("#edit-photo-held-out").get_by_role("button", name="Held-out photo 2").click()
    expect(shots).to_have_count(0)
    page.locator("#edit-photo-held-out").get_by_role("button", name="Held-out photo 1").click()
    expect(shots).to_have_count(3)


def test_a_small_photo_is_taken_as_it_is(visit, tmp_path):
    v = with_model(visit)
    small = tmp_path / "small.png"
    pixels = np.full((40, 40, 3), 60, np.uint8)
    pixels[8:32, 8:32] = (200, 60, 60)
    Image.fromarray(pixels).save(small)
    v.tab("Super-resolution")
    v.upload("#upscale-photo", str(small))
    expect(v.page.locator("#upscale-photo img")).to_be_visible()
    v.run("upscale")
    expect(v.page.locator("#upscale-note")).to_contain_text("No face was found")
