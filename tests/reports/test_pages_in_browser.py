"""The pages in a real browser: nothing runs, nothing loads, nothing spills over, and the switch works."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.reports.demo_report import write_demo_report
from sightline.reports.doctor_page import write_doctor_page
from tests.reports.invented import boxes, demo
from tests.reports.test_doctor_page import LINES, shown

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[object]:
    """One browser for all pages."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-background-networking", "--disable-quic"],
        )
        yield running
        running.close()


@pytest.mark.parametrize("width", [400, 1400])
def test_the_doctors_page_fits_its_window_quietly(browser, tmp_path: Path, width: int):
    box = ("a very long name of a thing", (4.0, 6.0, 20.0, 22.0))
    seen = shown(true_boxes=(box,), said_boxes=(box, box), answer="x" * 300)
    path = write_doctor_page(tmp_path / "page.html", name="run" * 20, lines=LINES, shown=(seen,), recipe="a: 1\n")
    view = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    view.on("console", lambda message: said.append(message.text))
    view.goto(path.as_uri())
    assert view.evaluate("document.documentElement.scrollWidth") == width
    assert said == []


@pytest.mark.parametrize("width", [400, 820, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_demo_page_fits_its_window_quietly(browser, tmp_path: Path, width: int, scheme: str):
    path = write_demo_report(tmp_path / "report.html", demo(boxes=boxes()))
    view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    view.on("console", lambda message: said.append(message.text))
    view.on("request", lambda request: said.append(request.url))
    view.goto(path.as_uri())
    assert view.evaluate("document.documentElement.scrollWidth") == width
    assert [words for words in said if not words.startswith(("file:", "data:"))] == []
    dark = view.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 21, 19)"
    assert dark == (scheme == "dark")
    view.close()


def test_the_switch_hides_the_boxes_by_mouse_and_keyboard(browser, tmp_path: Path):
    path = write_demo_report(tmp_path / "report.html", demo())
    view = browser.new_page()
    view.goto(path.as_uri())
    boxes = view.locator(".card .boxes").first
    assert boxes.is_visible()
    view.locator("label.switch").click()
    assert not boxes.is_visible()
    view.locator("#show-boxes").press("Space")
    assert boxes.is_visible()
    view.close()


def test_words_are_readable_against_their_ground(browser, tmp_path: Path):
    """WCAG AA for running text: a contrast of at least 4.5."""
    path = write_demo_report(tmp_path / "report.html", demo())
    for scheme in ("light", "dark"):
        view = browser.new_page(color_scheme=scheme)
        view.goto(path.as_uri())
        pairs = [
            *((ink, ground) for ink in ("--ink", "--muted") for ground in ("--paper", "--card", "--sunk")),
            *(("--good", "--card"), ("--bad", "--card"), ("--bad", "--bad-wash"), ("--ink", "--good-wash")),
            *(("--missed", "--sunk"), ("--good", "--sunk"), ("--bad", "--sunk")),
        ]
        for ink, ground in pairs:
            assert contrast(*(colour(view, name) for name in (ink, ground))) >= 4.5, (scheme, ink, ground)
        view.close()


def colour(view, name: str) -> tuple[float, float, float]:
    written = view.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('{name}')").strip()
    return tuple(int(written[i : i + 2], 16) / 255 for i in (1, 3, 5))  # type: ignore[return-value]


def contrast(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(channels: tuple[float, float, float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
