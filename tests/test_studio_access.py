"""Every tab, with an example person's ready results in it, for those who cannot see, or cannot point."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import studio_axe
from conftest import SERVER, Served, serve
from studio_people import write_person
from studio_visit import RED, TABS, WIDTHS, Visit, expect

# What a tab shows once the ready results are there: how many of what.
FILLED = {
    "Inversion": ("#inversion-shots img", 3),
    "Inpainting": ("#inpainting-shots img", 3),
    "Super-resolution": ("#upscale-shots img", 4),
    "Interpolation": ("#interpolation-strips img", 12),
    "New looks": ("#looks-grids img", 12),
    "Smile & age": ("#edit-shots img", 3),
    "Compare": ("#compare-table th[scope=rowgroup]", 6),
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page over the stand-in models, with a person who has ready results."""
    work = tmp_path_factory.mktemp("served")
    write_person(work / "examples" / "anna", RED)
    yield from serve([SERVER, "fake"], work, TEST_EXAMPLES=str(work / "examples"))


@pytest.mark.parametrize("width", WIDTHS)
def test_every_tab_shows_a_ready_result_and_axe_finds_nothing_grave(visit, width: str):
    v: Visit = visit(width, color_scheme="dark" if width == "phone" else "light")
    page = v.page
    page.get_by_role("button", name="Anna").click()
    v.cards(10)
    found = []
    for name in TABS:
        v.tab(name)
        if name in FILLED:
            selector, count = FILLED[name]
            expect(page.locator(selector)).to_have_count(count)
            expect(page.get_by_text("Made beforehand from Anna").locator("visible=true")).to_have_count(1)
        closed = page.locator("button.label-wrap:not(.open)").locator("visible=true")
        for box in reversed(closed.all()):  # the last first: they are found by number, and open ones drop out
            box.click()
        page.wait_for_timeout(300)  # what is in them comes in
        found += [f"{name}: {each}" for each in studio_axe.violations(page)]
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
    assert found == []


def test_the_ready_slider_moves_and_the_papers_people_are_named_with_their_prior_only(visit):
    v: Visit = visit()
    page = v.page
    page.get_by_role("button", name="Anna").click()
    v.cards(10)
    v.tab("Smile & age")
    expect(page.locator("#edit-shots")).to_contain_text("Personalized, smile +1.0")
    page.locator("#edit-strength input[type=range]").press("ArrowRight")
    expect(page.locator("#edit-shots")).to_contain_text("Personalized, smile +1.1")
    v.tab("Personalize")
    page.get_by_role("button", name="Options").locator("visible=true").click()
    page.locator("#prior input").click()
    page.get_by_role("option", name="ffhq").click()
    v.tab("Selfies")
    expect(page.locator("#research-data")).to_contain_text("images-of-celebs")
    v.tab("Personalize")
    page.locator("#prior input").click()
    page.get_by_role("option", name="heads", exact=False).last.click()
    v.tab("Selfies")
    expect(page.locator("#research-data")).not_to_contain_text("images-of-celebs")
