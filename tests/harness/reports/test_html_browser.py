"""The report in a real headless Chromium, from disk: nothing runs or is fetched that should not, and it can be used."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.records import Message, RunPrompt, plain
from harness.reports.html import render_leaderboard, report_html
from harness.reports.report_data import ReportData, read_run
from harness.results.recording import recorded
from tests.harness.reports.test_grids import a_study
from tests.harness.reports.test_html import FULL, HOSTILE, METHODS, make_data, make_hostile
from tests.harness.results_made import all_results, as_results, cost_facts
from tests.harness.runs_made import make_folder
from tests.waiting import LIMIT

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
pytestmark = pytest.mark.slow
LAPTOP, PHONE = (1280, 800), (390, 844)


@dataclass
class Opened:
    """A page in the browser, with all that went wrong or out."""

    page: Any
    trouble: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def sound(self) -> None:
        """Nothing ran, nothing was asked of a network, nothing was complained of."""
        assert self.page.evaluate("window.pwned") is None
        assert self.trouble == []
        assert [url for url in self.requests if not url.startswith("file://")] == []
        assert len(self.requests) == 1

    def overflow(self) -> int:
        return int(self.page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth"))


Open = Callable[..., Opened]


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Open]:
    contexts: list[Any] = []

    def open_page(run: ReportData | str, size: tuple[int, int] = LAPTOP, scheme: str = "light") -> Opened:
        path = tmp_path / f"report-{len(contexts)}.html"
        path.write_text(run if isinstance(run, str) else report_html(run), encoding="utf-8")
        width, height = size
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        context.set_default_timeout(1000 * LIMIT)
        contexts.append(context)
        opened = Opened(context.new_page())
        opened.page.on("console", lambda message: opened.trouble.append(f"{message.type}: {message.text}"))
        opened.page.on("pageerror", lambda error: opened.trouble.append(str(error)))
        opened.page.on("request", lambda request: opened.requests.append(request.url))

        def refuse(dialog: Any) -> None:
            opened.trouble.append(f"dialog: {dialog.message}")
            dialog.dismiss()

        opened.page.on("dialog", refuse)
        opened.page.goto(path.as_uri())
        return opened

    yield open_page
    for context in contexts:
        context.close()


def settle(page: Any) -> None:
    """Wait until what was put into the page has been drawn, and what that set off has had its turn."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))")


def open_all(page: Any) -> None:
    """Unfold everything, so that all text of models is in the page."""
    while page.locator("#more").is_visible():
        page.locator("#more").click()
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    playwright.expect(page.locator(".item > .body")).to_have_count(page.locator(".item").count())
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")


def shown(page: Any) -> list[str]:
    """Set and id of each prompt in the list."""
    found: list[str] = page.locator(".item .where").all_text_contents()
    return found


def filtered(page: Any, count: int) -> list[str]:
    # not wait_for_function: the page's policy forbids what it does
    playwright.expect(page.locator("#count")).to_have_text(re.compile(f"^{count} of "))
    return shown(page)


def column(page: Any, place: int) -> list[str]:
    found: list[str] = (
        page.locator("#board table")
        .first.locator("tbody tr")
        .evaluate_all(f"rows => rows.map((row) => row.cells[{place}].innerText.trim())")
    )
    return found


def test_hostile_text_is_shown_and_never_runs(show: Open, tmp_path: Path) -> None:
    opened = show(make_data(HOSTILE), size=PHONE)
    open_all(opened.page)
    for hover in opened.page.locator(".side").all()[:30]:
        hover.hover()
    texts = opened.page.locator(".side.teacher > .text").all_text_contents()
    assert len(texts) == 2 * len(HOSTILE)
    unseen = re.compile("[\u0000-\u0008\u000e-\u001f\u202a-\u202e\u2066-\u2069\ufeff]")
    for text, expected in zip(texts, HOSTILE, strict=False):
        assert text == unseen.sub(lambda found: f"U+{ord(found.group()):04X}", expected)
    tags = opened.page.evaluate("[...new Set([...document.querySelectorAll('#list *')].map((node) => node.tagName))]")
    assert set(tags) <= {"DETAILS", "SUMMARY", "DIV", "P", "SPAN", "UL", "LI", "H4", "I"}
    assert opened.overflow() <= 0
    opened.page.locator("#list").screenshot(path=tmp_path / "hostile.png")
    settle(opened.page)
    opened.sound()


@pytest.mark.parametrize("text", HOSTILE[:6], ids=range(6))
def test_hostile_names_never_run(show: Open, text: str) -> None:
    run = make_data()
    rows = [
        {**row, "method": text if row["method"] == "dadpo" else row["method"]} for row in plain(run.results)["rows"]
    ]
    judges = [{**judge, "misses": text, "summary": text} for judge in plain(run.results)["judges"]]
    prompts = [p.model_copy(update={"category": text}) for p in run.prompts or ()]
    verdicts = [
        v.model_copy(update={"candidate": text if v.candidate == "dadpo" else v.candidate}) for v in run.verdicts
    ]
    changed = {**plain(run.results), "rows": rows, "judges": judges}
    changed["runs"][0]["command"] = text
    opened = show(
        replace(
            run,
            results=as_results(changed),
            prompts=prompts,
            verdicts=verdicts,
            metrics={text: [{"step": 1, "loss": 1}]},
        )
    )
    open_all(opened.page)
    assert text in opened.page.locator("#board").inner_text()
    assert text in opened.page.locator("#filters select[name=category]").inner_text()
    opened.sound()


def test_an_injected_script_is_stopped_by_the_policy(show: Open) -> None:
    """The second wall: even markup that slipped through would not run."""
    opened = show(make_data())
    with opened.page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        opened.page.evaluate("document.body.innerHTML += `<img src=x onerror='window.pwned = 1'>`")
    settle(opened.page)
    assert opened.page.evaluate("window.pwned") is None


def test_columns_sort_by_click_and_by_keyboard(show: Open) -> None:
    rows = [{**row, "rank": None} for row in plain(make_data().results)["rows"]]
    opened = show(make_data(rows=rows))
    page = opened.page
    table = page.locator("#board table").first
    before = column(page, 0)
    assert before[0] == "teacher (second sample)"
    heads = table.locator("thead th")
    heads.nth(1).locator("button").click()
    assert heads.nth(1).get_attribute("aria-sort") == "descending"
    assert column(page, 0) == ["teacher (second sample)", "dadpo", "ddpo-beta0.15", "kd", "untrained"]
    heads.nth(1).locator("button").press("Enter")
    assert heads.nth(1).get_attribute("aria-sort") == "ascending"
    assert column(page, 0)[0] == "untrained"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    assert heads.nth(0).get_attribute("aria-sort") == "ascending"
    assert heads.nth(1).get_attribute("aria-sort") == "none"
    assert column(page, 0) == sorted(before)
    opened.sound()


def test_prompts_are_filtered_and_searched(show: Open) -> None:
    opened = show(make_data(("Bake a cake", "Count to ten", "cake AND tea", "nothing")))
    page = opened.page
    form = page.locator("#filters")
    assert len(filtered(page, 8)) == 8
    form.get_by_label("Set").select_option("far")
    assert filtered(page, 4) == [f"far · p{place} · talk" for place in range(4)]
    form.get_by_label("Search").fill("CAKE")
    assert filtered(page, 2) == ["far · p0 · talk", "far · p2 · talk"]
    assert page.locator("mark").all_text_contents() == ["cake", "cake"]
    form.get_by_label("Method").select_option("kd")
    form.get_by_label("Verdict").select_option("loss")
    assert filtered(page, 1) == ["far · p2 · talk"]
    page.locator(".item > summary").press("Enter")
    page.locator(".item > .body").wait_for()
    heads = page.locator(".side h4 .system").all_text_contents()
    assert heads == ["teacher", "kd"]
    verdicts = page.locator(".verdicts > li > span").all_text_contents()
    assert verdicts == [
        "both, method shown first: prefers teacher",
        "both, teacher shown first: prefers teacher (0.25 for kd)",
    ]
    assert "because 2" in page.locator(".verdicts").inner_text()
    page.get_by_text("the judge's words").first.click()
    assert page.locator(".verdicts details .text").first.inner_text() == "cake AND tea"
    form.get_by_label("Search").fill("no such words")
    assert filtered(page, 0) == []
    form.get_by_label("Search").fill("")
    form.get_by_label("Verdict").select_option("flip")
    playwright.expect(page.locator(".item .where")).to_have_text(["far · p3 · talk"])  # there was one before too
    opened.sound()


def test_a_response_is_shown_token_by_token_and_walked_by_keyboard(show: Open, tmp_path: Path) -> None:
    opened = show(make_data(HOSTILE), size=PHONE)
    page = opened.page
    tokens = page.locator("#token-view .t")
    assert tokens.count() == len(HOSTILE)
    unseen = re.compile("[\u0000-\u0008\u000e-\u001f\u202a-\u202e\u2066-\u2069\ufeff]")
    for text, expected in zip(tokens.all_text_contents(), HOSTILE, strict=True):
        assert text == unseen.sub(lambda found: f"U+{ord(found.group()):04X}", expected.replace("\n", "↵\n"))
    tags = page.evaluate("[...new Set([...document.querySelectorAll('#token-view *')].map((node) => node.tagName))]")
    assert set(tags) <= {"UL", "LI", "DIV", "P", "SPAN", "H3", "TABLE", "THEAD", "TBODY", "TR", "TH", "TD"}
    tokens.first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.title") == "token 2: 0.027 nats"
    assert page.locator("#token-view .said").inner_text() == "token 2: 0.027 nats"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.title") == "token 1: 0.013 nats"
    assert page.locator("#token-view .t[tabindex='0']").count() == 1
    assert opened.overflow() <= 0
    page.locator("#tokens").screenshot(path=tmp_path / "tokens.png")
    opened.sound()


def test_a_token_view_is_of_the_set_student_writer_and_prompt_that_are_chosen(show: Open) -> None:
    opened = show(make_data())
    page = opened.page
    form = page.locator("#token-filters")
    first = page.locator("#token-view .t").first
    assert [option.inner_text() for option in form.get_by_label("Student").locator("option").all()] == ["kd", "dadpo"]
    assert first.get_attribute("title") == "token 1: 0.013 nats"
    form.get_by_label("Student").select_option("dadpo")
    assert first.get_attribute("title") == "token 1: 1.013 nats"
    assert "Where dadpo departs most, on all sets" in page.locator("#token-view").inner_text()
    assert page.locator("#token-view tbody tr").count() == 3
    form.get_by_label("Whose response").select_option("its own")
    assert "the response of dadpo" in page.locator("#token-view").inner_text()
    assert page.locator("#token-view tbody tr").count() == 0
    form.get_by_label("Set").select_option("far")
    assert not form.get_by_label("Whose response").is_visible()  # the teacher's alone
    assert "the teacher's response" in page.locator("#token-view").inner_text()
    form.get_by_label("Prompt").select_option("p1 0")
    assert page.locator("#token-view .text").first.inner_text() == "second"
    opened.sound()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_token_can_be_read_on_each_of_its_colours(show: Open, scheme: str) -> None:
    page = show(make_data(), scheme=scheme).page
    found = page.locator("#token-view .scale li").evaluate_all(
        "nodes => nodes.map((node) => [getComputedStyle(node).color, getComputedStyle(node).backgroundColor])"
    )
    assert len(found) == 7 and len({ground for _, ground in found}) == 7
    for ink, ground in found[1:]:
        assert contrast(ink, ground) >= 4.5


def contrast(ink: str, ground: str) -> float:
    """Between two colours as a browser has them (WCAG 2.2)."""

    def light(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((light(ink), light(ground)))
    return (high + 0.05) / (low + 0.05)


def test_quality_is_drawn_against_each_cost_of_the_measure_that_is_chosen(show: Open) -> None:
    costs = [cost_facts(name, trained_tokens=1000 * place) for place, name in enumerate(METHODS[:3], 1)]
    opened = show(make_data(costs=costs))
    page = opened.page
    charts = page.locator("#cost-charts figure")
    assert charts.locator("figcaption").all_text_contents() == ["student tokens trained"]  # the others are all alike
    titles = charts.locator("circle > title")
    assert titles.first.text_content() == "kd: 0.4048 nats a token, 1000"
    page.locator("#cost-filters").get_by_label("Quality").select_option("preference rate by both")
    assert titles.first.text_content() == "kd: −40.6%, 1000"
    page.locator("#cost-filters").get_by_label("Set").select_option("far")
    assert titles.first.text_content() == "kd: −45.6%, 1000"
    legend = page.locator("#cost-legend li").all_text_contents()
    assert legend == ["kd", "dadpo", "ddpo-beta0.15", "the untrained student"]
    opened.sound()


@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_judges_stand_side_by_side_with_their_names_and_marks_inside(show: Open, size: tuple[int, int]) -> None:
    opened = show(read_run(recorded()[0]), size=size)
    section = opened.page.locator("#judges")
    section.scroll_into_view_if_needed()
    open_all(opened.page)
    shapes = section.locator(".legend path").evaluate_all("found => found.map((one) => one.getAttribute('d'))")
    assert len(set(shapes)) == section.locator(".legend li").count() >= 2
    rates = section.locator("figure").first
    assert rates.locator("g > g > path").count() == len(shapes) * rates.locator(".who").count()
    inside = """found => found.every((one) => {
        const here = one.getBoundingClientRect(), whole = one.closest('svg').getBoundingClientRect();
        const across = here.left >= whole.left && here.right <= whole.right;
        return across && here.top >= whole.top && here.bottom <= whole.bottom;
    })"""
    for part in (".who", "g > g > path", "g > g > line"):
        assert section.locator(f"svg[role=img] {part}").evaluate_all(inside), part
    filled = section.locator("figure path").first.evaluate("one => getComputedStyle(one).fill")
    assert filled != "rgb(0, 0, 0)" and filled != "none"  # the colour of its system
    assert opened.overflow() <= 0
    settle(opened.page)
    opened.sound()


def test_everything_can_be_reached_by_keyboard(show: Open) -> None:
    page = show(make_data()).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    reached = set()
    for _ in range(200):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.name || document.activeElement.tagName"))
        if page.evaluate("document.activeElement.closest('.item') !== null"):
            break
    assert {"set", "category", "system", "verdict", "text", "SUMMARY"} <= reached
    page.keyboard.press("Enter")
    page.locator(".item .body").first.wait_for()


def test_a_leaderboard_sorts_turns_dark_and_fits_a_phone_without_prompts(show: Open, tmp_path: Path) -> None:
    hostile = copy.deepcopy(FULL)
    make_hostile(hostile, HOSTILE[3])
    opened = show(render_leaderboard(all_results([FULL, hostile])), size=PHONE)
    assert opened.overflow() <= 0
    head = opened.page.locator("#run-1 table").first.locator("thead th").first
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    ground = "getComputedStyle(document.body).backgroundColor"
    before = opened.page.evaluate(ground)
    opened.page.locator("#theme").press("Enter")
    assert opened.page.evaluate(ground) != before
    assert HOSTILE[3] in opened.page.locator("#run-2 h2").inner_text()
    opened.page.screenshot(path=tmp_path / "leaderboard.png", full_page=True)
    opened.sound()
    show(render_leaderboard([])).sound()


def test_dark_and_light_follow_the_system_and_the_button(show: Open, tmp_path: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = show(make_data()), show(make_data(), scheme="dark")
    grounds = [opened.page.evaluate(ground) for opened in (light, dark)]
    assert grounds[0] != grounds[1]
    for opened, other in ((light, grounds[1]), (dark, grounds[0])):
        opened.page.locator("#theme").click()
        assert opened.page.evaluate(ground) == other
        opened.page.screenshot(path=tmp_path / f"{other}.png")
        opened.sound()


def test_a_phone_never_scrolls_sideways(show: Open, tmp_path: Path) -> None:
    for run in [make_data(), *map(read_run, recorded())]:
        opened = show(run, size=PHONE)
        assert opened.overflow() <= 0
        open_all(opened.page)
        assert opened.overflow() <= 0
        assert opened.page.evaluate("document.querySelector('#board .scroll').scrollWidth") > PHONE[0]
        opened.page.screenshot(path=tmp_path / f"{plain(run.results)['name']}.png", full_page=True)
        opened.sound()


def test_a_run_opens_without_prompts_or_responses(show: Open, tmp_path: Path) -> None:
    opened = show(replace(make_data(), prompts=None, responses=None))
    opened.page.locator(".item > summary").first.click()
    assert "the response is not in this record" in opened.page.locator(".side.teacher").first.inner_text()
    opened.page.screenshot(path=tmp_path / "without.png", full_page=True)
    opened.sound()


def test_thousands_of_prompts_are_drawn_fifty_at_a_time(show: Open) -> None:
    texts = [f"question {place} of many" for place in range(5000)]
    prompts = [
        RunPrompt(prompt_set="near", id=f"q{place}", messages=(Message(role="user", content=text * 20),))
        for place, text in enumerate(texts)
    ]
    opened = show(replace(make_data(), prompts=prompts, responses=[], verdicts=[]))
    assert len(shown(opened.page)) == 50
    opened.page.get_by_label("Search").fill("question 4321 ")
    assert filtered(opened.page, 1) == ["near · q4321"]
    opened.page.get_by_label("Search").fill("")
    filtered(opened.page, 5000)
    opened.page.locator("#more").press("Enter")
    assert len(shown(opened.page)) == 100
    assert opened.page.evaluate("document.activeElement.tagName") == "SUMMARY"
    opened.sound()


def test_it_prints_in_light_without_controls(show: Open, tmp_path: Path) -> None:
    opened = show(make_data(), scheme="dark")
    opened.page.locator("#theme").click()
    opened.page.locator("#theme").click()  # dark by choice
    opened.page.emulate_media(media="print")
    assert opened.page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"
    assert not opened.page.locator("#filters").is_visible()
    assert len(opened.page.pdf(path=tmp_path / "report.pdf")) > 10_000
    assert METHODS[0] in opened.page.locator("#board").inner_text()


def test_each_sample_of_a_prompt_is_an_entry_with_its_number(show: Open, tmp_path: Path) -> None:
    run = make_folder(tmp_path / "made", samples=2, versus=[["ddpo", "sft"]])
    opened = show(read_run(run.folder))
    page = opened.page
    playwright.expect(page.locator("#count")).to_contain_text(
        "16 of 16 samples of prompts"
    )  # 2 sets, 4 prompts, 2 each
    places = page.locator("#list .where").all_inner_texts()
    assert places[:3] == ["near · p0 · sample 1", "near · p0 · sample 2", "near · p1 · sample 1"]
    second = page.locator("#list details.item").nth(1)
    second.locator("summary").first.click()
    playwright.expect(second.locator(".side.teacher")).to_contain_text("again 1")
    # what was said of ddpo against sft is not among what was said of it against the teacher
    ddpo = second.locator(".others .side").filter(has=page.locator("h4", has_text="ddpo"))
    assert ddpo.locator(".verdicts > li").count() == 2
    opened.sound()


def test_curves_are_those_of_the_figure_and_the_set_that_are_chosen(show: Open) -> None:
    results = as_results(a_study([{"settings.dadpo.beta_teacher": beta} for beta in (0.0, 0.05, 0.1)]))
    opened = show(ReportData(results, []))
    page = opened.page
    seen = page.locator("#settings figure:visible figcaption")

    def titles() -> list[str]:
        return [text.partition(" by ")[0].partition(" nats")[0] for text in seen.all_inner_texts()]

    assert titles() == ["preference rate, near", "preference rate, far", "forward KL, near"]
    page.select_option("#settings select[name=measure]", label="win rate")
    assert titles() == ["win rate, near", "win rate, far"]
    page.select_option("#settings select[name=set]", label="far")
    assert titles() == ["win rate, far"]
    page.select_option("#settings select[name=measure]", label="NLL")
    assert titles() == []
    page.select_option("#settings select[name=set]", label="all sets")
    assert titles() == ["NLL, near"]
    opened.sound()
    assert show(ReportData(results, []), size=PHONE).overflow() == 0
