"""A visitor for the browser tests: a page in Chromium and what went wrong on it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
PATIENCE_MS = 60_000  # for anything to appear; the machine may be busy
TABS = (
    "Selfies",
    "Personalize",
    "Look around",
    "Inversion",
    "Inpainting",
    "Super-resolution",
    "Interpolation",
    "New looks",
    "Smile & age",
    "Compare",
    "About",
)
RED, BLUE = (200, 60, 60), (60, 60, 200)
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}

try:
    from playwright.sync_api import Browser, Page, expect, sync_playwright
except ImportError:
    sync_playwright = expect = None


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; where it is missing CI fails and everybody else is told."""
    if sync_playwright is None or not os.access(CHROMIUM, os.X_OK):
        missing = (
            "The browser tests need `pip install playwright` and Debian's chromium (tests/packages.txt)."
        )
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(f"NOT TESTED: {missing}")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass(eq=False)
class Visit:
    """One visitor's page and what went wrong on it."""

    page: Page
    errors: list[str] = field(default_factory=list)
    external: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)  # every request to the server

    def asked(self) -> list[str]:
        """Requests so far that ask for something new: films, scripts and answers may still be arriving from before."""
        late = (".mp4", "/assets/", "/queue/data")
        return [url for url in self.calls if not any(part in url for part in late)]

    def quiet(self) -> list[str]:
        """What was asked by the time that nothing new has been asked for a while.

        A finished task is followed by questions of its own (what may be pressed now), on a busy machine late.
        """
        before = None
        for _ in range(PATIENCE_MS // 1_000):
            now = self.asked()
            if now == before:
                return now
            before = now
            self.page.wait_for_timeout(1_000)
        raise AssertionError(f"the page went on asking: {now[-3:]}")

    def tab(self, name: str) -> None:
        """Open a tab, and wait until what is in it is there: it is laid out when it is opened first."""
        self.page.get_by_role("tab", name=name, exact=True).click()
        there = self.page.get_by_text("What this is") if name == "About" else self.page.locator(".m3-intro")
        expect(there.locator("visible=true")).to_have_count(1)

    def upload(self, box: str, paths: list[str] | str) -> None:
        self.page.set_input_files(f"{box} input[type=file]", paths)

    def consent(self) -> None:
        self.page.get_by_label("I am the person").check()

    def cards(self, count: int) -> None:
        expect(self.page.locator(".m3-card")).to_have_count(count)

    def selfies(self, paths: list[str]) -> None:
        """Consent, and have photos read."""
        self.consent()
        self.quiet()  # or what the page is told of no photos may come after what it is told of these
        self.upload("#photos", paths)
        self.cards(len(paths))

    def personalize(self) -> None:
        self.tab("Personalize")
        self.page.locator("#personalize").click()
        expect(self.page.locator("#to-look")).to_be_enabled()

    def fill_slider(self, label: str, value: str) -> None:
        """Type a slider's number and wait until it is taken over.

        Just after its box was opened a slider may still be built, and begins with its first value then; no hand is so
        quick. It is typed again, as whoever saw that would.
        """
        number = self.page.get_by_label(f"number input for {label}").first
        slider = self.page.get_by_label(f"range slider for {label}").first
        for _ in range(3):
            number.fill(value)
            number.blur()
            with suppress(AssertionError):
                expect(slider).to_have_value(value, timeout=2_000)
                self.page.wait_for_timeout(500)
                if slider.input_value() == value:
                    return
        expect(slider).to_have_value(value)

    def fill_number(self, label: str, value: str) -> None:
        """The same for a field without a slider."""
        number = self.page.get_by_label(label)
        for _ in range(3):
            number.fill(value)
            number.blur()
            self.page.wait_for_timeout(800)
            if number.input_value() == value:
                return
        expect(number).to_have_value(value)

    def run(self, task: str) -> None:
        """Start a task and wait for all of its results; what an earlier run left is not taken for them."""
        panel = self.page.locator(f"#{task}-panel")
        panel.evaluate("(panel) => { panel.querySelector('.m3-fit').dataset.old = 'yes'; }")
        self.page.locator(f"#{task}-start").click()
        expect(panel.locator("[data-old]")).to_have_count(0)
        expect(self.page.locator(f"#{task}-zip")).to_be_enabled()
        expect(panel).to_contain_text(re.compile("Done(?!, but)"))
        expect(self.page.locator(f"#{task}-start")).to_be_enabled()

    def turned(self) -> str:
        return self.page.locator(".m3-angle").inner_text()

    def colour(self, selector: str) -> list[int]:
        """Mean colour of the middle of a picture on the page."""
        return self.page.locator(selector).evaluate(
            """async (image) => {
                await image.decode();
                const canvas = document.createElement('canvas');
                canvas.width = canvas.height = 1;
                const n = image.naturalWidth;
                canvas.getContext('2d').drawImage(image, 0.35 * n, 0.2 * n, 0.3 * n, 0.1 * n, 0, 0, 1, 1);
                return [...canvas.getContext('2d').getImageData(0, 0, 1, 1).data.slice(0, 3)];
            }"""
        )


@pytest.fixture
def visit(browser: Browser, app) -> Iterator:
    """Open the page: visit("phone") -> Visit. At the end: no console error, no request to another host."""
    visits: list[Visit] = []

    def open_page(width: str = "desktop", **options) -> Visit:
        size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
        context = browser.new_context(
            viewport=size, has_touch=width == "phone", permissions=["camera"], **options
        )
        visit = Visit(context.new_page())
        visits.append(visit)
        page = visit.page
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: visit.errors.append(str(error)))
        page.on("console", lambda m: visit.errors.append(m.text) if m.type == "error" else None)
        page.on("response", lambda r: visit.errors.append(f"{r.status} {r.url}") if r.status >= 400 else None)

        def requested(request) -> None:
            if request.url.startswith(app.url):
                visit.calls.append(request.url)
            elif not request.url.startswith(("data:", "blob:")):
                visit.external.append(request.url)

        page.on("request", requested)
        page.goto(app.url)
        expect(page.locator("#selfies-status")).to_contain_text("Tick the box")
        return visit

    yield open_page
    for visit in visits:
        visit.page.context.close()
    for visit in visits:
        assert visit.errors == []
        assert visit.external == []
