"""The page as a visitor meets it: real clicks in a real browser, at desktop and at phone width."""

from __future__ import annotations

import re
import time

import pytest
from studio_visit import BLUE, RED, TABS, WIDTHS, Visit, expect


@pytest.mark.parametrize("width", WIDTHS)
def test_from_selfies_to_a_rebuilt_photo(visit, photos, width: str):
    v: Visit = visit(width)
    page, paths = v.page, photos(RED, 5)

    v.upload("#photos", paths)
    expect(page.locator("#selfies-status")).to_contain_text("5 photos are waiting")
    v.cards(0)
    v.consent()
    v.cards(5)
    expect(page.locator(".m3-card").first).to_contain_text("head turned")
    page.locator("#to-personalize").click()

    expect(page.locator("#prior-note")).to_contain_text("synthetic people")
    page.locator("#personalize").click()
    expect(page.locator("#fit-panel img[alt='Live preview']")).to_be_attached()
    expect(page.locator("#fit-result")).to_contain_text("Personalized")
    with page.expect_download() as download:
        page.locator("#download-adapter").click()
    assert download.value.suggested_filename == "me.safetensors"
    page.locator("#to-look").click()

    expect(page.locator(".m3-ready .m3-done")).to_be_attached()
    assert v.turned() == "front view"
    front = page.locator("[data-side=personalized] img").get_attribute("src")
    stage = page.locator(".m3-stage3d")
    stage.scroll_into_view_if_needed()
    calls, box = v.quiet(), stage.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - box["width"] / 4, middle[1], steps=8)
    page.mouse.up()
    assert "to its right" in v.turned()
    assert page.locator("[data-side=personalized] img").get_attribute("src") != front
    expect(page.get_by_text("Extrapolated")).to_be_visible()
    assert v.quiet() == calls, "turning asks the server nothing"
    red, _, blue = v.colour("[data-side=personalized] img")
    assert red > blue + 20
    page.locator("#to-inversion").click()

    v.upload("#inversion-photo", paths[0])
    expect(page.locator("#inversion-photo img")).to_be_visible()
    chosen = page.get_by_role("tab", name="Inversion", exact=True).bounding_box()
    assert chosen["x"] >= 0 and chosen["x"] + chosen["width"] <= WIDTHS[width][0], (
        "the chosen tab is in sight"
    )
    # on a phone what was not begun takes no room above the results
    expect(page.locator("#inversion-panel .m3-preview")).to_be_visible(visible=width == "desktop")
    page.locator("#inversion-start").click()
    expect(page.locator("#inversion-zip")).to_be_enabled()
    expect(page.locator("#inversion-shots img")).to_have_count(3)
    expect(page.locator("#inversion-views img")).to_have_count(4)
    expect(page.locator("#inversion-figures")).to_contain_text("0.70")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing sticks out"


def test_the_viewer_turns_with_keys_and_touch(visit):
    v: Visit = visit("phone")
    v.page.locator("#examples button").first.click()
    v.cards(10)
    v.personalize()
    v.tab("Look around")
    expect(v.page.locator(".m3-ready .m3-done")).to_be_attached()
    stage = v.page.locator(".m3-stage3d")
    stage.focus()
    stage.press("ArrowRight")
    assert v.turned() == "head turned 7° to its left"
    stage.press("ArrowUp")
    assert v.turned() == "head turned 7° to its left, 7° up"
    stage.press("Home")
    assert v.turned() == "front view"
    stage.evaluate(
        """(stage) => {
            const touch = (type, x) => stage.dispatchEvent(new PointerEvent(type, {
                pointerId: 1, pointerType: 'touch', clientX: x, clientY: 100, bubbles: true }));
            stage.setPointerCapture = () => {};
            touch('pointerdown', 200); touch('pointermove', 260); touch('pointerup', 260);
        }"""
    )
    assert "to its left" in v.turned()
    # Another photo is another set of views.
    front = v.page.locator("[data-side=personalized] img").get_attribute("data-view")
    v.page.locator("#anchor input[type=range]").press("ArrowRight")
    expect(v.page.locator("[data-side=personalized] img")).not_to_have_attribute("data-view", front)


def test_two_visitors_at_once_see_only_their_own(visit, photos):
    visitors = {visit(): RED, visit(): BLUE}
    for v, colour in visitors.items():
        v.consent()
        v.upload("#photos", photos(colour, 3))
    for v in visitors:
        v.cards(3)
        v.tab("Personalize")
        v.page.locator("#personalize").click()
    for v, colour in visitors.items():
        expect(v.page.locator("#to-look")).to_be_enabled()
        v.page.locator("#to-look").click()
        expect(v.page.locator(".m3-ready")).to_be_attached()
        red, _, blue = v.colour("[data-side=personalized] img")
        assert (red > blue) == (colour == RED)
        names = v.page.locator(".m3-name").all_text_contents()
        assert len(names) == 3
        other = BLUE if colour == RED else RED
        assert not any("_".join(map(str, other)) in name for name in names)


def test_bad_inputs_get_a_sentence_and_lose_nothing(visit, photos, bad_photo: str, tmp_path):
    v: Visit = visit()
    page = v.page
    v.selfies([*photos(RED, 2), bad_photo])
    expect(page.locator(".m3-card.m3-bad")).to_contain_text("not a picture")
    page.get_by_role("button", name="Remove notes.jpg").click()
    v.cards(2)
    v.personalize()

    page.get_by_text("I already have an adapter file").click()
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_text("nothing of the kind")
    v.upload("#adapter-file", str(wrong))
    expect(page.get_by_text("The file is not an adapter")).to_be_visible()
    v.quiet()  # what the failure brought about has come
    expect(page.locator("#download-adapter")).to_be_enabled()
    expect(page.locator("#model input")).to_have_value("heads · 2 photos · rank 1")

    v.tab("Inversion")
    v.upload("#inversion-photo", bad_photo)
    expect(page.locator("#inversion-photo img")).to_be_attached()
    page.locator("#inversion-start").click()
    expect(page.get_by_text("not a picture that can be read").last).to_be_visible()
    expect(page.locator("#inversion-start")).to_be_enabled()
    v.tab("Selfies")
    v.cards(2)


def test_stop_keeps_what_there_is_and_a_second_model_can_be_chosen(visit, photos):
    v: Visit = visit()
    page = v.page
    v.selfies(photos(RED, 2))
    v.personalize()
    page.get_by_role("button", name="Options").first.click()
    v.fill_slider("Steps", "900")
    page.locator("#personalize").click()
    expect(page.locator("#fit-panel")).to_contain_text("of 900")
    page.locator("#stop").click()
    expect(page.locator("#fit-panel")).to_contain_text("Stopped early")
    expect(page.locator("#personalize")).to_be_enabled()
    chooser = page.locator("#model input")
    expect(chooser).to_have_value("heads · 2 photos · rank 1 · 900 steps · stopped early")
    chooser.click()
    page.get_by_role("option", name="heads · 2 photos · rank 1", exact=True).click()
    v.tab("Look around")
    expect(page.locator("#look-status")).not_to_contain_text("stopped early")


def test_the_next_model_may_have_fewer_photos_than_the_one_before(visit, photos):
    v: Visit = visit()
    page = v.page
    v.selfies(photos(RED, 4))

    def look_at(last: int) -> None:
        """Personalize, and look at its last photo."""
        shown = page.locator("[data-side=personalized] img")
        before = shown.get_attribute("data-view") if shown.count() else None
        v.personalize()
        expect(page.locator("#model input")).to_have_value(f"heads · {last} photos · rank 1")
        v.tab("Look around")
        expect(shown).to_have_attribute("data-view", re.compile("."))
        expect(shown).not_to_have_attribute("data-view", before or "nothing")
        expect(page.locator(".m3-ready .m3-done")).to_be_attached()
        front = shown.get_attribute("data-view")
        expect(page.locator("#anchor input[type=range]")).to_have_attribute("max", str(last))
        page.locator("#anchor input[type=range]").press("End")
        expect(shown).not_to_have_attribute("data-view", front)
        expect(page.locator(".m3-ready .m3-done")).to_be_attached()

    look_at(4)
    v.tab("Selfies")
    page.get_by_role("button", name="Remove").first.click()
    v.cards(3)
    look_at(3)
    page.locator("#delete").click()
    deleted = page.locator("#deleted")
    expect(deleted).to_contain_text("Everything of this page is deleted")
    expect(page.locator("[data-side=personalized] img[src]")).to_have_count(0)
    v.tab("Selfies")
    expect(page.get_by_label("I am the person")).not_to_be_checked()  # who comes next declares it anew
    v.upload("#photos", photos(BLUE, 2))
    expect(page.locator("#selfies-status")).to_contain_text("2 photos are waiting")
    v.consent()
    v.cards(2)
    expect(deleted).not_to_contain_text("deleted")  # it is not true any more
    look_at(2)


def test_a_chosen_prior_says_what_it_asks_for_and_photos_are_read_again(visit, photos):
    v: Visit = visit("phone")
    page = v.page
    v.selfies(photos(RED, 2))
    v.tab("Personalize")
    expect(page.locator("#prior-note")).to_contain_text("synthetic people")
    page.get_by_role("button", name="Options").first.click()
    page.locator("#prior input").click()
    page.get_by_role("option", name="cats").click()
    note = page.locator("#prior-note")
    expect(note).to_contain_text("NVIDIA Source Code License, non-commercial")
    expect(note).to_contain_text("downloads it")
    expect(note).to_contain_text("central square")
    expect(page.locator("#personalize-status")).to_contain_text("2 photos were read for another kind")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing sticks out"
    page.locator("#personalize").click()
    expect(page.locator("#model input")).to_have_value("cats · 2 photos · rank 1")
    v.tab("Selfies")
    expect(page.locator("#selfies-status")).to_contain_text("Cats:")
    page.locator("#delete").click()
    v.cards(0)
    expect(note).to_contain_text("synthetic people")


def test_an_example_person_with_held_out_photos_and_delete(visit):
    v: Visit = visit()
    page = v.page
    page.get_by_role("button", name="Ben").click()
    v.cards(10)
    expect(page.get_by_role("button", name="Ben")).to_have_attribute("aria-pressed", "true")
    v.personalize()
    v.tab("Inversion")
    page.get_by_role("button", name="Held-out photo 2").click()
    expect(page.locator("#inversion-photo img")).to_be_visible()
    v.run("inversion")
    page.locator("#delete").click()
    expect(page.locator("#inversion-shots img")).to_have_count(0)
    expect(page.locator("#inversion-start")).to_be_disabled()
    v.tab("Look around")
    expect(page.locator(".m3-ready")).to_have_count(0)
    v.tab("Selfies")
    v.cards(0)


def test_the_camera_takes_photos_only_with_consent(visit):
    v: Visit = visit()
    page = v.page
    page.get_by_text("Take photos with the camera").click()
    page.get_by_role("button", name="Start camera").click()
    snap = page.get_by_role("button", name="Take photo", exact=True)
    expect(snap).to_be_enabled()
    snap.click()
    expect(page.get_by_text("Tick the consent box first")).to_be_visible()
    v.cards(0)
    v.consent()
    snap.click()
    v.cards(1)
    page.evaluate("window.taken = document.querySelector('#camera video').currentTime")
    page.wait_for_function("document.querySelector('#camera video').currentTime > window.taken + 0.2")
    snap.click()
    v.cards(2)
    page.set_viewport_size({"width": 1280, "height": 300})
    page.locator("#to-personalize").click()  # below the camera, which is out of sight when its tab is left
    expect(
        page.get_by_role("button", name="Start camera", include_hidden=True)
    ).to_be_attached()  # off by itself
    assert page.evaluate("document.querySelector('#camera video').srcObject") is None


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_tab_is_labelled_and_fits(visit, width: str, scheme: str):
    v: Visit = visit(width, color_scheme=scheme)
    page = v.page
    for name in TABS:
        v.tab(name)
        expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
        assert page.locator("#tabs").get_by_role("tablist").bounding_box()["height"] < 60  # one row
        # Everything that can be pressed or filled in has a name for those who cannot see it.
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll('button, input, select, textarea, [tabindex="0"]')]
                .filter((e) => e.offsetParent && e.type !== 'file')
                .filter((e) => !(e.innerText || e.ariaLabel || e.title || e.placeholder || e.labels?.length
                    || e.getAttribute('aria-labelledby') || e.querySelector('img[alt]:not([alt=""])')))
                .map((e) => e.outerHTML.slice(0, 200))"""
        )
        assert unnamed == [], name
        pictures = page.evaluate("[...document.querySelectorAll('img')].filter((i) => i.alt === null).length")
        assert pictures == 0


def test_what_a_closed_page_held_is_deleted_after_it(visit, app):
    """The page of a visitor who is gone, or who reloaded it: nobody can reach that session any more."""

    v = visit()
    before = app.files()
    v.page.get_by_role("button", name="Ben").click()
    v.cards(10)
    v.personalize()
    made = app.files() - before
    assert any(path.suffix == ".safetensors" for path in made)
    v.quiet()  # a question that comes after it would be a sign of life
    v.page.reload()
    expect(v.page.locator("#selfies-status")).to_contain_text("Tick the box")
    end = time.monotonic() + 60
    while made & app.files():
        assert time.monotonic() < end, made & app.files()
        time.sleep(0.2)
