"""The report's HTML: what it shows, what it leaves out, and that no text of a model becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.records import Message, Order, RunPrompt, RunResponse, Verdict, plain, write_jsonl
from harness.reports import html
from harness.reports.cells import spread_legend
from harness.reports.charts import clouds
from harness.reports.html import render_leaderboard, report_html
from harness.reports.report_data import ReportData, read_run
from harness.reports.tables import categories
from harness.results.figures import Declared, RunRows, figures
from harness.results.folder import RUN_TOKENS
from harness.results.recording import recorded
from harness.results.tokens import TokenViews, as_compact_json
from harness.statistics.outcomes import outcomes_by_prompt
from harness.statistics.panel import MAJORITY, MEAN, panel_verdicts
from tests.harness.results_made import (
    MEASURES,
    all_results,
    as_results,
    components,
    contrast,
    control,
    disagreement,
    harm,
    luck,
    make_run,
    of_seeds,
    refused,
    retention,
    token_views,
    versus,
    with_measures,
    with_rows,
)
from tests.harness.tabular import BOTH, verdict

METHODS = ("kd", "dadpo", "ddpo-beta0.15", "untrained", "teacher (second sample)")
HOSTILE = (
    "<script>window.pwned = 1</script>",
    "</script><script>window.pwned = 1</script>",
    "<!--<script>window.pwned = 1",
    '--></script></style></title><img src=x onerror="window.pwned = 1">',
    '<svg onload="window.pwned = 1"><circle/></svg>',
    "<svg><animate onbegin='window.pwned = 1' attributeName=x dur=1s></svg>",
    "</td></table></div></main></body></html><h1>end</h1>",
    "{{ 7 * 7 }}{% for x in y %}{{ config.__class__ }}{% endfor %}${7 * 7}#{7 * 7}<%= 49 %>",
    '[click](javascript:window.pwned=1) <a href="javascript:window.pwned=1">click</a>',
    "<iframe srcdoc=\"<script>parent.pwned = 1</script>\"></iframe><object data='data:text/html,x'></object>",
    "\u202egnp.exe\u202c \u2066hidden\u2069 \u200fright",
    "null\x00byte, bell\x07, escape\x1b[31m, \ufeffmark",
    "W" * 3000,
    "# head\n\n**bold** `code`\n\n```html\n<b onclick='window.pwned = 1'>x</b>\n```\n\n| a | b |\n|---|---|",
    "line\u2028separator\u2029paragraph",
    '" autofocus onfocus="window.pwned = 1" x=\'',
    "' + window.pwned + '`${window.pwned = 1}`",
    "<meta http-equiv=refresh content='0;url=http://example.com/'><base href='http://example.com/'>",
    "<link rel=stylesheet href=http://example.com/x.css><style>body{display:none}</style>@import 'http://example.com'",
    "<img src=http://example.com/x.png><video src=//example.com/x autoplay></video>",
    "&lt;b&gt; &amp; &#x3c;script&#x3e; &nbsp; \\u003cscript\\u003e",
    "__proto__ constructor $& $1 \\0 %00",
    "مرحبا שלום 你好 👩‍👩‍👧 é",
)


def make_verdicts(ids: list[str], raw: str = "I prefer it.", sets: tuple[str, ...] = ("near", "far")) -> list[Verdict]:
    """Both orders of every prompt by the main judge: the methods win, tie, lose and flip in turn."""
    pairs = [(1.0, 1.0), (0.5, 0.5), (0.0, 0.25), (1.0, 0.0)]
    orders: tuple[Order, Order] = ("candidate_first", "reference_first")
    return [
        Verdict(
            prompt_set=prompt_set,
            prompt_id=key,
            candidate=method,
            reference="teacher",
            order=order,
            status="ok",
            preference=preference,
            judge="both",
            candidate_tokens=10 + place,
            reference_tokens=12,
            detail=f"because {place}",
            raw=raw,
        )
        for prompt_set in sets
        for place, key in enumerate(ids)
        for shift, method in enumerate(METHODS)
        for order, preference in zip(orders, pairs[(place + shift) % len(pairs)], strict=True)
    ]


FULL = with_measures(  # with all that a run may have
    make_run(),
    contrasts=[
        contrast(family="primary"),
        contrast("in-domain"),
        contrast("far", family="anchors", second="untrained", declared=False),
    ],
    versus=[versus()],
    luck=[luck(), luck("forward_kl")],
    length=[control(), refused("too few", "kd")],
    disagreements=[disagreement()],
    retention=[retention("teacher", "teacher"), retention("kd", "method")],
)


def make_hostile(results: dict[str, Any], text: str) -> None:
    results["runs"][0] |= {"command": text, "name": text}
    results["pair"]["student"] = results["judges"][0]["summary"] = text
    results["judges"][0] |= {"misses": text, "setup": {text: text}}
    results["contrasts"] = [
        contrast(first=text, second=text, scope=text, judge=text, family=family)
        for family in ("primary", "methods", "anchors")
    ]
    results["versus"] = [versus(text, text, text, judge=text)]
    results["luck"] = [luck(text)]
    results["length"] = [control(unit=text, prompt_set=text, method=text, judge=text), refused(text)]
    results["prompt_sets"][0] |= {"name": text, "unranked": text}
    for row in [*results["rows"], *results["measures"]]:
        row["prompt_set"] = text if row["prompt_set"] == "near" else row["prompt_set"]
    results["prompt_sets"][1] |= {"unmeasured": text, "unpooled": [text]}
    results["first_measure"] = text
    for facts in results["measured"]:
        facts |= {"head": text, "unit": text, "summary": text, "misses": text}
    for made in results["measure_contrasts"]:
        made |= {"first": text, "second": text, "scope": text, "better": text}
    results["disagreements"] = [disagreement(first=text, second=text, scope=text, for_first=[text], for_second=["x"])]
    results["retention"] = [retention(text, "method", text, metric=text)]
    for cost in results["costs"]:
        cost |= {"device": text, "seconds": {text: 1.5}}


def make_data(texts: tuple[str, ...] = ("first", "second", "third", "fourth"), **results: Any) -> ReportData:
    """A run whose n-th prompt, with its responses and the judge's words, is texts[n]."""
    ids = [f"p{place}" for place in range(len(texts))]
    systems = ("teacher", *METHODS)
    pairs = [{"step": step, "loss": 1 / step, "margin": step / 9, "accuracy": 0.5} for step in range(1, 6)]
    for row in pairs:
        row |= {"log_prob_chosen": -100 - row["step"], "log_prob_rejected": -150 - row["step"]}
    verdicts = make_verdicts(ids)
    return ReportData(
        results=as_results({**FULL, **results}),
        verdicts=[v.model_copy(update={"raw": texts[ids.index(v.prompt_id)]}) for v in verdicts],
        metrics={"kd": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5}], "dadpo": pairs},
        prompts=[
            RunPrompt(prompt_set=name, id=key, messages=(Message(role="user", content=text),), category="talk")
            for name in ("near", "far")
            for key, text in zip(ids, texts, strict=True)
        ],
        responses=[
            RunResponse(prompt_set=name, prompt_id=key, system=system, text=text, tokens=7, finish="stop")
            for name in ("near", "far")
            for key, text in zip(ids, texts, strict=True)
            for system in systems
        ],
        config="seed: 4\n",
        tokens=TokenViews.model_validate(token_views(texts)),
    )


def write_run(folder: Path, run: ReportData) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_text(json.dumps(plain(run.results)))
    write_jsonl(folder / "verdicts.jsonl", run.verdicts)
    for name, rows in (("prompts", run.prompts), ("responses", run.responses)):
        if rows is not None:
            write_jsonl(folder / f"{name}.jsonl", rows)
    for name, curve in (run.metrics or {}).items():
        (folder / "metrics").mkdir(exist_ok=True)
        write_jsonl(folder / "metrics" / f"{name}.jsonl", [dict(row) for row in curve])
    (folder / RUN_TOKENS).write_text(as_compact_json(run.tokens))
    if run.config is not None:
        (folder / "config.yaml").write_text(run.config)
    return folder


class Page(HTMLParser):
    """Every tag with its attributes, the text of scripts, and all other text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.text = ""
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in self.raw:
            self.raw[tag].append("")
            self._in = tag

    def handle_endtag(self, tag: str) -> None:
        self._in = "" if tag == self._in else self._in

    def handle_data(self, data: str) -> None:
        if self._in:
            self.raw[self._in][-1] += data
        else:
            self.text += data

    @property
    def island(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.raw["script"][0])
        return found


def words(text: str) -> str:
    return " ".join(text.split())


def section(page: str, name: str) -> str:
    found = re.search(f'<section id="{name}".*?</section>', page, re.S)
    assert found, name
    return found.group()


def test_the_same_run_gives_the_same_bytes_also_from_its_folder(tmp_path: Path) -> None:
    run = make_data()
    assert report_html(run) == report_html(make_data())
    assert report_html(read_run(write_run(tmp_path / "run", run))) == report_html(run)


@pytest.mark.parametrize("folder", recorded(), ids=lambda folder: folder.name)
def test_recorded_runs_have_a_page_of_reasonable_size(folder: Path) -> None:
    page = report_html(read_run(folder))
    assert len(page.encode()) < 1_500_000
    assert read_run(folder).results.pair.student in Page(page).text


def test_hostile_text_reaches_the_island_whole_and_no_markup() -> None:
    page = report_html(make_data(HOSTILE))
    plain = report_html(make_data(tuple(f"text {place}" for place in range(len(HOSTILE)))))
    parsed, expected = Page(page), Page(plain)
    assert [tag for tag, _ in parsed.tags] == [tag for tag, _ in expected.tags]
    island = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert island
    assert not re.search("[<>&\u2028\u2029\u202e\x00]", island.group(1))
    responses = [prompt["responses"]["dadpo"][0] for prompt in parsed.island["prompts"]]
    assert responses == [*HOSTILE, *HOSTILE]
    assert parsed.island["prompts"][0]["verdicts"]["dadpo"][0][5] == HOSTILE[0]


@cache
def ordinary_tags() -> list[set[str]]:
    """Those of a report and of a leaderboard that nothing is wrong with."""
    pages = (report_html(make_data()), render_leaderboard(all_results([FULL])))
    return [{tag for tag, _ in Page(page).tags} for page in pages]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_stay_text(text: str) -> None:
    """Names of methods, judges, categories, prompt sets and settings, and commands, are in the HTML itself."""
    run = make_data()
    results = json.loads(json.dumps(plain(run.results)).replace('"dadpo"', json.dumps(text)))
    make_hostile(results, text)
    prompts = [p.model_copy(update={"category": text, "id": text}) for p in run.prompts or ()]
    changed = replace(
        run, results=as_results(results), prompts=prompts, metrics={text: [{"step": 1, "loss": 2.0}]}, config=text
    )
    pages = ((report_html(changed), 4), (render_leaderboard(all_results([results])), 1))
    for (page, scripts), tags in zip(pages, ordinary_tags(), strict=True):
        parsed = Page(page)
        assert {tag for tag, _ in parsed.tags} <= tags | {"br"}
        assert [tag for tag, _ in parsed.tags].count("script") == scripts
        for _, attributes in parsed.tags:
            assert not any(name.startswith("on") or name in ("src", "style", "srcdoc") for name in attributes)
            assert (attributes.get("href") or "#").startswith("#")
        assert words(str(html.visible(text))) in words(parsed.text)
        assert not re.search("[\x00\x07\x1b\u202e\u2066]", parsed.text)


def test_the_policy_allows_the_page_s_own_style_and_script_alone() -> None:
    parsed = Page(report_html(make_data(HOSTILE)))
    policy = next(a["content"] for _, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy")
    style, script = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (parsed.raw["style"][0], parsed.raw["script"][-1])
    )
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
        "base-uri 'none'; form-action 'none'"
    )
    code = parsed.raw["script"][-1].replace("http://www.w3.org/2000/svg", "")  # a name of elements, never fetched
    assert "http" not in parsed.raw["style"][0] + code
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|fetch\(", code)


def test_header_names_pair_judge_and_what_the_judge_misses() -> None:
    run = make_run()
    run["judges"][0]["setup"] = {"model": "reader-7b", "server": "https://judge.example", "template": "pairwise"}
    page = words(Page(report_html(ReportData(as_results(run), []))).text)
    assert "small taught by large" in page
    assert "model reader-7b, server https://judge.example, template pairwise" in page
    assert "A proxy; it misses grammar" in page
    assert "No row is told from the next on near, far." in page
    assert "The judges are declared proxies (both, part-one, part-two)." in page


def test_a_large_run_with_a_real_judge_has_no_warning_and_is_ranked() -> None:
    page = report_html(ReportData(as_results(make_run(proxy=False, ranked=True)), []))
    assert 'class="warning"' not in page
    board = section(page, "board")
    assert board.index("teacher (second sample)") < board.index("dadpo") < board.index("kd") < board.index("untrained")


def test_the_board_shows_every_rate_with_its_interval_and_judge() -> None:
    board = section(report_html(make_data()), "board")
    assert board.count("<table") == 2
    assert "-20.3% [-32.8, -7.8]" in board
    assert "judge both (a proxy)" in board
    assert board.count('aria-sort="none"') == board.count('class="sort"') == board.count('<th scope="col"')


def test_contrasts_and_length_have_places_of_their_own_where_they_are() -> None:
    page = report_html(make_data())
    assert page.index('id="outcomes"') < page.index('id="contrasts"') < page.index('id="categories"')
    contrasts = words(section(page, "contrasts"))
    assert "this checkpoint of dadpo is better than that of kd" in contrasts
    assert '<p class="primary"><b>Primary contrast, declared before the run: dadpo − kd on near,' in contrasts
    assert "What another seed moves in the preference rate, as an SD: in each trained row" in contrasts
    captions = ("The primary contrast", "Methods against each other", "Against the start and the ceiling")
    places = [contrasts.index(f"<span>{caption}") for caption in captions]
    assert places == sorted(places) and contrasts.count('class="band"') > len(captions)
    assert contrasts.index("Judged against each other") > contrasts.index("Differences of forward KL")
    assert "which hold a row's checkpoints fixed" in words(section(page, "measures"))
    assert "a row's own hold its checkpoints fixed" in words(section(page, "board"))
    length = section(page, "length")
    assert "At equal length" in length
    assert "too few" in length
    bare = report_html(make_data(contrasts=[], measure_contrasts=[], versus=[], length=[]))
    assert "Method against method" not in bare
    assert "equal length" not in bare


def test_reasons_for_no_rate_at_equal_length_are_said_in_brief() -> None:
    one = section(report_html(make_data(length=[refused("too few"), refused("too few", "kd")])), "length")
    assert "No rate at equal length: too few." in one
    assert "At equal length" not in one
    several = section(report_html(make_data(length=[refused("too few"), refused("unknown", "kd")])), "length")
    assert "<summary>No system has a rate at equal length: why</summary>" in several


def test_a_pooled_run_lists_its_runs_in_the_details() -> None:
    runs = [{**make_run()["runs"][0], "seed": seed, "command": f"run --seed {seed}"} for seed in (4, 5)]
    details = section(report_html(make_data(runs=runs)), "details")
    for seed in (4, 5):
        assert f"<code>run --seed {seed}</code>" in details
    assert "to reproduce run 2" in details


def test_what_stands_beside_figures_of_several_runs_is_said_as_on_the_board() -> None:
    run = of_seeds(with_rows(make_run(), "kd", components=components(seed=0.0, residual=0.49)), 4, 5)
    lines = [f"<b>{head}</b>: {text}." for head, text in spread_legend([as_results(run)])]
    assert len(lines) == 2
    for page in (report_html(ReportData(as_results(run), [])), render_leaderboard(all_results([make_run(), run]))):
        shown = words(page).replace("&#39;", "'")
        assert [line for line in lines if line not in shown] == []
        assert "SD between seeds" not in page
    assert "SD of runs" not in words(render_leaderboard(all_results([make_run()])))


def test_measures_have_panels_tables_contrasts_costs_and_tokens() -> None:
    page = report_html(make_data())
    measures = section(page, "measures")
    assert measures.count('class="chart panel"') == 2 * (1 + len(MEASURES))
    assert "Fidelity to the teacher: near" in measures and "What the responses are like: far" in measures
    assert "0.405 [0.385, 0.425] †" in measures and "minimises this measure, at temperature 1" in words(measures)
    assert measures.count("Along a response") == 1
    contrasts = section(page, "contrasts")
    assert words(contrasts).count("One seed: what is found is of these checkpoints, not of the methods.") == 1
    assert "forward KL was declared as the one to look at first." in words(contrasts)
    assert "kd is nearer to the teacher than that of dadpo (†)" in contrasts and "Differences of self-BLEU" in contrasts
    assert "dadpo against kd on near: this checkpoint of dadpo is better by the judge (both), same top" in contrasts
    assert "1.2 GB" in section(page, "cost") and "0.412 ± 0.016" in section(page, "retention")
    assert 'id="token-data"' in page and "What each measure is and misses" in words(page)
    assert "stands under Details." in words(page)
    said = "what forward KL is (nats a token; lower is better). Misses: what forward KL does not see."
    assert said in words(section(page, "details"))


def test_harm_is_a_warning_and_marked_on_both_pages() -> None:
    leaderboard = render_leaderboard(all_results([{**FULL, "harms": [harm()]}]))
    for page in (report_html(make_data(harms=[harm()])), leaderboard):
        text = words(Page(page).text)
        said = "this checkpoint of dadpo by forward KL on near, +0.120 [+0.050, +0.190] nats a token."
        assert f"Further from the teacher than before training: {said}" in text
        assert re.search(r"0\.\d+ \[[^]]*\] ⚠", text) and "⚠ marks a row" in text
    assert "⚠" not in report_html(make_data())


def test_a_leaderboard_explains_measures_once_and_says_where() -> None:
    page = render_leaderboard(all_results([FULL, {**FULL, "name": "other"}]))
    assert "stands under The measures, at the end of this page." in words(page)
    assert page.count("what forward KL does not see") == 1 and "under Details" not in words(page)
    assert "what forward KL does not see" in section(page, "definitions")


def test_a_declared_first_measure_that_is_not_there_is_named_and_none_is_none() -> None:
    page = words(section(report_html(make_data(first_measure="of_a_plugin")), "contrasts"))
    assert "of_a_plugin, declared as the first, is not measured here." in page and "look at first" not in page
    assert "declared as the" not in words(report_html(make_data(first_measure="")))


def test_bounds_and_what_is_not_measured_are_said() -> None:
    sets = plain(make_data().results)["prompt_sets"]
    sets[1] |= {"unmeasured": "its prompts have several turns", "unpooled": ["top1"]}
    near = [row for row in FULL["measures"] if row["prompt_set"] == "near"]
    served = [{**facts, "bound": "lower"} for facts in FULL["measured"]]
    page = report_html(make_data(prompt_sets=sets, measures=near, measured=served))
    measures = section(page, "measures")
    assert "Not everything is measured here: its prompts have several turns." in measures
    assert "Not pooled, as the runs do not have them alike: same top token." in measures
    assert words(page).count("A difference of two bounds is no bound of the difference.") == len(MEASURES)
    assert "≥ 0.405 [0.385, 0.425]" in measures and "as a server gave the teacher" in words(measures)
    assert "as a server gave" not in words(report_html(make_data()))


def test_a_run_without_measures_has_no_place_for_them() -> None:
    bare = report_html(replace(make_data(), results=as_results(make_run()), tokens=TokenViews()))
    assert not re.search('id="(measures|tokens|token-data|cost|cost-data|retention)"', bare)
    assert not re.search('href="#(measures|tokens|cost)"', bare)


def test_the_view_of_tokens_reads_responses_in_tokens_with_each_student_s_kl() -> None:
    found = Page(report_html(make_data(HOSTILE))).raw["script"]
    island = json.loads(next(text for text in found if '"views"' in text))
    assert island["views"][0]["pieces"] == list(HOSTILE)
    assert island["views"][0]["kl"]["kd"][:3] == [0.013, 0.027, 0.057]
    assert {one["method"] for one in island["departures"]} == {"kd", "dadpo"}


def test_quality_is_set_against_each_cost_by_any_measure() -> None:
    found = Page(report_html(make_data())).raw["script"]
    island = json.loads(next(text for text in found if '"costs"' in text))
    assert [name for name, *_ in island["measures"]] == [*(name for name, *_ in MEASURES), "preference rate"]
    assert island["points"]["near"]["forward_kl"]["kd"] == pytest.approx([0.40484, 0.384598, 0.425082])
    assert "teacher" not in island["points"]["near"]["nll"]
    assert dict(island["costs"])["seconds"] == {"kd": 184.75, "dadpo": 184.75, "ddpo-beta0.15": 184.75}
    assert island["untrained"] == ["untrained"]


def test_curves_over_settings_have_a_section_where_there_are_any() -> None:
    run = make_run()
    other = {**run["methods"][1], "name": "kd"}
    other["settings"] = {**other["settings"], "beta_teacher": 0.2}
    assert 'id="settings"' in report_html(ReportData(as_results({**run, "methods": [run["methods"][1], other]}), []))
    assert 'id="settings"' not in report_html(ReportData(as_results(run), []))


def test_a_leaderboard_has_a_section_a_run_and_no_prompts() -> None:
    other = json.loads(json.dumps(FULL).replace('"small"', '"tiny"'))
    page = render_leaderboard(all_results([FULL, other]))
    assert "small" in section(page, "run-1")
    for name in ("run-1", "run-2"):
        found = section(page, name)
        for title in ("near", "far", "Method against method", "At equal length", "The judges", "What was trained"):
            assert title in found
        assert "A proxy; it misses" in found
        assert "No row is told from the next on near, far." in found
    assert "tiny" not in section(page, "run-1")
    assert re.findall('<a href="(.*?)">', page) == ["#run-1", "#run-2"]
    assert len(Page(page).raw["script"]) == 1
    assert 'id="list"' not in page
    assert "Training curves" not in page
    assert render_leaderboard(all_results([FULL, other])) == page


def test_a_leaderboard_of_nothing_says_so() -> None:
    text = words(Page(render_leaderboard([])).text)
    assert "No run is recorded yet: python -m harness record RUN_DIR." in text
    assert "Preference rate" not in text


def test_missing_parts_are_named() -> None:
    run = ReportData(as_results(make_run()), make_verdicts(["p0"]))
    page = words(Page(report_html(run)).text)
    assert "This record holds no prompts and no responses: what it lacks is left out below." in page
    assert "This record holds no prompts, so there are no categories to show." in page
    assert "This record holds no training curves." in page
    assert "This record holds no" not in words(Page(report_html(make_data())).text)
    assert Page(report_html(run)).island["prompts"][0]["verdicts"]["kd"]


def test_prompts_without_categories_say_so() -> None:
    run = make_data()
    prompts = [prompt.model_copy(update={"category": ""}) for prompt in run.prompts or ()]
    assert "The prompts of this run have no categories." in words(Page(report_html(replace(run, prompts=prompts))).text)


def test_categories_hold_the_rates_of_their_prompts_alone() -> None:
    run = make_data(("a", "b", "c", "d"))
    prompts = [p.model_copy(update={"category": {"p0": "won", "p2": "lost"}.get(p.id, "")}) for p in run.prompts or ()]
    known = {(p.prompt_set, p.id): p for p in prompts}
    found = categories(run.results, known, html._deciding(run))
    near = found[0]
    assert near.columns[:3] == ["category", "prompts", "kd"]
    assert [row[0].text for row in near.rows] == ["lost", "won"]
    assert [row[2].sort for row in near.rows] == [-1.0, 1.0]
    assert near.rows[0][2].text.startswith("-100% [-100, ")


def test_rows_of_a_category_are_one_table() -> None:
    """A row whose samples all agree has its interval by how alike those of the other row are, as on the board."""
    known = {"candidate_tokens": 5, "reference_tokens": 7}
    said = {"kd": [(0.0, 0.0)] * 6, "dadpo": [(0.0, 1.0), (1.0, 0.5), (0.0, 0.0), (1.0, 0.0), (0.5, 1.0), (0.0, 0.5)]}
    verdicts = [
        verdict(f"p{n}", "none", value, candidate=name, sample=sample, **known)
        for name, values in said.items()
        for n, samples in enumerate(values)
        for sample, value in enumerate(samples)
    ]
    board = figures(
        Declared({"set": True}, dict.fromkeys(said, "method"), ["judge"], [], []), {"run": RunRows(verdicts, [])}
    )
    sets = [{**entry, "digest": ""} for entry in plain(board)["prompt_sets"]]
    results = as_results({**FULL, **plain(board), "prompt_sets": sets, "judge": "judge", "methods": []})
    prompts = {
        ("set", f"p{n}"): RunPrompt(
            prompt_set="set", id=f"p{n}", messages=(Message(role="user", content="?"),), category="talk"
        )
        for n in range(6)
    }
    data = ReportData(results, verdicts, prompts=list(prompts.values()))
    (table,) = categories(results, prompts, html._deciding(data))
    for row in results.rows:
        drawn = table.rows[0][table.columns.index(row.method)].drawn
        assert drawn is not None and row.preference_interval is not None
        assert (drawn[0], drawn[2]) == pytest.approx(row.preference_interval)


def test_outcomes_and_flips_of_the_main_judge_are_in_the_island() -> None:
    prompts = Page(report_html(make_data())).island["prompts"]
    assert [prompt["outcomes"]["kd"] for prompt in prompts[:4]] == ["win", "tie", "loss", "tie"]
    assert [prompt["flips"] for prompt in prompts[:4]] == [
        ["untrained"],
        ["ddpo-beta0.15"],
        ["dadpo"],
        ["kd", METHODS[4]],
    ]


def test_each_sample_is_shown_with_what_was_said_of_it() -> None:
    run = make_data()
    assert run.responses is not None
    again = [row.model_copy(update={"sample": 1, "text": f"{row.text} again"}) for row in run.responses]
    turned = [v.model_copy(update={"sample": 1, "preference": 1 - (v.preference or 0)}) for v in run.verdicts]
    direct = [v.model_copy(update={"reference": "dadpo"}) for v in run.verdicts if v.candidate == "kd"]
    two = replace(run, verdicts=[*run.verdicts, *turned, *direct], responses=[*run.responses, *again])
    one, both = (Page(report_html(data)).island["prompts"] for data in (run, two))
    assert not any("sample" in prompt for prompt in one)
    assert [(prompt["set"], prompt["id"], prompt["sample"]) for prompt in both] == [
        (prompt["set"], prompt["id"], sample) for prompt in one for sample in (0, 1)
    ]
    other = {"win": "loss", "loss": "win", "tie": "tie"}
    for was, (first, second) in zip(one, zip(both[::2], both[1::2], strict=True), strict=True):
        assert {**first, "sample": None} == {**was, "sample": None}  # what was said of kd against dadpo is not there
        assert second["messages"] == was["messages"]
        assert second["responses"]["kd"][0] == f"{was['responses']['kd'][0]} again"
        assert second["outcomes"] == {system: other[found] for system, found in was["outcomes"].items()}
        assert second["flips"] == was["flips"]
    (cloud, *_), (clouded, *_) = (clouds(data.results, html._deciding(data)) for data in (run, two))
    assert len(clouded.series[0].marks) == 2 * len(cloud.series[0].marks)
    assert clouded.series[0].label.endswith("responses") and cloud.series[0].label.endswith("prompts")


@pytest.mark.parametrize("second", [False, True])
def test_board_page_and_panel_have_one_rule_of_outcomes(second: bool) -> None:
    """Five prompts in one order alone are whole; they are missing where a sixth was asked in both. So everywhere."""
    known = {"candidate": "kd", "candidate_tokens": 5, "reference_tokens": 7}
    alone = [verdict(f"p{n}", "candidate_first", said, **known) for n, said in enumerate((0.9, 0.7, 0.5, 0.3, 0.1))]
    both = [verdict("p5", order, 0.0, **known) for order in BOTH] if second else []
    said = {name: [v.model_copy(update={"judge": name}) for v in (*alone, *both)] for name in ("one", "two")}
    expected = dict.fromkeys(("p0", "p1", "p2", "p3", "p4"), "missing") | {"p5": "loss"}
    if not second:
        expected = {"p0": "win", "p1": "win", "p2": "tie", "p3": "loss", "p4": "loss"}
    counts = Counter(expected.values())

    made = RunRows([*said["one"], *said["two"]], [])
    board = figures(Declared({"set": True}, {"kd": "method"}, ["one", "two"], [], []), {"run": made})
    for row in board.rows:
        if row.judge != MEAN:
            kinds = ("win", "tie", "loss", "missing")
            assert [row.wins, row.ties, row.losses, row.missing] == [counts[kind] for kind in kinds]
    assert outcomes_by_prompt(panel_verdicts(said)[MAJORITY]) == expected

    judges = [{"name": MAJORITY, "summary": "", "misses": "", "setup": {"judges": "one, two"}, "digest": ""}]
    judges += [{"name": name, "summary": "", "misses": "", "setup": {}, "digest": ""} for name in said]
    prompts = [
        RunPrompt(prompt_set="set", id=name, messages=(Message(role="user", content="?"),), category=found)
        for name, found in expected.items()
    ]
    for judge in (MAJORITY, "one"):
        sets = [{**entry, "digest": ""} for entry in plain(board)["prompt_sets"]]
        said = {"prompt_sets": sets, "judge": judge, "judges": judges, "methods": []}
        results = as_results({**FULL, **plain(board), **said})
        run = ReportData(results, made.verdicts, prompts=prompts)
        island = Page(report_html(run)).island["prompts"]
        assert {prompt["id"]: prompt["outcomes"]["kd"] for prompt in island} == expected
        deciding = html._deciding(run)
        # of a category, too, the outcomes are those of the whole comparison
        (table,) = categories(results, {("set", prompt.id): prompt for prompt in prompts}, deciding)
        rates = {"win": 1.0, "tie": 0.0, "loss": -1.0, "missing": ""}
        assert {row[0].text: row[2].sort for row in table.rows} == {name: rates[name] for name in counts}
        # and the cloud has a point for each prompt with an outcome
        (cloud,) = clouds(results, deciding)
        assert len(cloud.series[0].marks) == counts.total() - counts["missing"]


def test_a_panel_s_outcomes_follow_from_its_members() -> None:
    run = make_data()
    judge = {
        "name": "panel (majority)",
        "summary": "most",
        "misses": "",
        "setup": {"judges": "one, two, three"},
        "digest": "",
    }
    results = json.loads(json.dumps(plain(run.results)).replace('"judge": "both"', '"judge": "panel (majority)"'))
    results["judges"] = [judge]
    votes = {"one": 1.0, "two": 1.0, "three": 0.0}
    verdicts = [
        v.model_copy(update={"judge": name, "preference": vote}) for v in run.verdicts for name, vote in votes.items()
    ]
    island = Page(report_html(replace(run, results=as_results(results), verdicts=verdicts))).island
    assert {found for prompt in island["prompts"] for found in prompt["outcomes"].values()} == {"win"}


def test_a_folder_that_is_no_run_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no results\.json"):
        read_run(tmp_path)
    folder = write_run(tmp_path / "run", make_data())
    (folder / "responses.jsonl").write_text('{"prompt_set": "near"}\n')
    with pytest.raises(UserError, match=r"responses\.jsonl:1: not a RunResponse"):
        read_run(folder)
