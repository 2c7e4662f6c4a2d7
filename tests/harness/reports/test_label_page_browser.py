"""The page on which people label pairs, in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.reports.label_page import label_page
from harness.results.label_pairs import COLUMNS, as_csv, read_labels
from tests.waiting import LIMIT

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
pytestmark = pytest.mark.slow
NASTY = (
    "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>",
    '=HYPERLINK("http://x","y")',
    "${window.pwned = 1} {{ 7 * 7 }}",
    'a\u202eb\x07 c; "d",\n\n- e\te',
)
ROWS = [
    dict(zip(COLUMNS, (name, f"Why {name}?", f"A of {name}", NASTY[number], ""), strict=True))
    for number, name in enumerate(("bcdf", "ghjk", "lmnp", "qrst"))
]


class Opened:
    def __init__(self, page: Any, folder: Path) -> None:
        self.page, self.folder = page, folder
        self.trouble: list[str] = []
        page.on("console", lambda message: self.trouble.append(message.text))
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on("request", lambda request: self.asked(request.url))

    def asked(self, url: str) -> None:
        if not url.startswith(("file://", "blob:")):
            self.trouble.append(url)

    def expect(self, count: str) -> None:
        playwright.expect(self.page.locator("#count")).to_have_text(count)

    def keys(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def saved(self) -> Path:
        with self.page.expect_download() as download:
            self.page.locator("#save").click()
        assert download.value.suggested_filename == "l.csv"
        path = self.folder / "saved.csv"
        download.value.save_as(path)
        return path

    def sound(self) -> None:
        assert self.page.evaluate("window.pwned") is None
        assert self.trouble == []


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    contexts: list[Any] = []

    def open_page(rows: list[dict[str, str]] = ROWS, context: Any = None) -> Opened:
        path = tmp_path / "l.html"
        path.write_text(label_page(rows, "l.csv"), encoding="utf-8")
        if context is None:
            context = browser.new_context(accept_downloads=True)
            context.set_default_timeout(1000 * LIMIT)
            contexts.append(context)
        found = Opened(context.new_page(), tmp_path)
        found.page.goto(path.as_uri())
        return found

    yield open_page
    for context in contexts:
        context.close()


def test_pairs_are_labelled_by_keys_and_saved(opened: Callable[..., Opened]) -> None:
    view = opened()
    view.expect("pair 1 of 4; 0 labelled")
    view.keys("a")
    view.expect("pair 2 of 4; 1 labelled")
    view.keys("ArrowRight", "T")
    view.expect("pair 4 of 4; 2 labelled")
    view.keys("b")
    playwright.expect(view.page.locator("#note")).to_have_text("The last pair; some before it have no label.")
    assert read_labels(view.saved()) == {"bcdf": "a", "ghjk": "", "lmnp": "tie", "qrst": "b"}
    view.page.get_by_text("To the first one without a label").click()
    view.expect("pair 2 of 4; 3 labelled")
    view.keys("b")
    playwright.expect(view.page.locator("#note")).to_have_text("All pairs are labelled: save the file.")
    view.keys("ArrowLeft", "Backspace")
    view.expect("pair 1 of 4; 4 labelled")
    view.page.get_by_role("button", name="Tie").click()
    text = view.saved().read_bytes()
    expected = [{**row, "label": label} for row, label in zip(ROWS, ("tie", "b", "tie", "b"), strict=True)]
    assert text == as_csv(expected).encode()  # byte by byte as the file beside the page
    view.sound()


def test_a_label_is_marked_and_can_be_changed(opened: Callable[..., Opened]) -> None:
    view = opened()
    view.keys("a", "ArrowLeft")
    pressed = view.page.locator("[aria-pressed=true]")
    playwright.expect(pressed).to_have_count(1)
    playwright.expect(pressed).to_contain_text("A is better")
    view.keys("b", "ArrowLeft")
    playwright.expect(pressed).to_contain_text("B is better")
    view.expect("pair 1 of 4; 1 labelled")
    view.keys("Control+b", "x")
    view.expect("pair 1 of 4; 1 labelled")


def test_texts_are_data_whatever_they_hold(opened: Callable[..., Opened]) -> None:
    view = opened()
    for number, nasty in enumerate(NASTY):
        view.expect(f"pair {number + 1} of 4; 0 labelled")
        shown = re.sub("[\u202e\x07]", lambda found: f"[U+{ord(found.group()):04X}]", nasty)
        assert view.page.locator("#b").text_content() == shown
        assert view.page.locator("#b *").count() == 0
        view.keys("ArrowRight")
    view.sound()


def test_what_was_said_is_there_when_the_page_is_opened_again(opened: Callable[..., Opened]) -> None:
    view = opened()
    view.keys("a", "b")
    view.expect("pair 3 of 4; 2 labelled")
    again = opened(context=view.page.context)
    again.expect("pair 3 of 4; 2 labelled")
    other = opened([{**row, "pair": row["pair"][::-1]} for row in ROWS], context=view.page.context)
    other.expect("pair 1 of 4; 0 labelled")
    again.sound()


def test_a_half_filled_file_is_gone_on_with(opened: Callable[..., Opened], tmp_path: Path) -> None:
    view = opened()
    view.keys("a")
    half = tmp_path / "half.csv"
    filled = [{**row, "label": label} for row, label in zip(ROWS, ("", "Tie", "B", ""), strict=True)]
    half.write_text(as_csv(filled), encoding="utf-8")
    view.page.locator("#load").set_input_files(half)
    playwright.expect(view.page.locator("#note")).to_have_text("2 labels taken over.")
    view.expect("pair 4 of 4; 3 labelled")
    half.write_text("label;pair\na;qrst\nb;none\nc;bcdf\n")  # as a spreadsheet may save it
    view.page.locator("#load").set_input_files(half)
    playwright.expect(view.page.locator("#note")).to_have_text(
        "1 labels taken over; 2 are of other pairs, or none of a, b and tie."
    )
    half.write_text("x,y\n1,2\n")
    view.page.locator("#load").set_input_files(half)
    playwright.expect(view.page.locator("#note")).to_have_text("That file has no columns pair and label.")
    assert read_labels(view.saved()) == {"bcdf": "a", "ghjk": "tie", "lmnp": "b", "qrst": "a"}
    view.sound()


def test_the_page_fits_a_telephone(opened: Callable[..., Opened]) -> None:
    view = opened()
    view.page.set_viewport_size({"width": 390, "height": 844})
    assert view.page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth") <= 0
