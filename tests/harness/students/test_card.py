"""The model card: what it must say, and that nothing in it is more than text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.core.records import plain
from harness.results.schema import Results
from harness.students.card import HUB_LICENSES, Origin, Source, card_markdown, known_terms, terms_of
from tests.harness.results_made import measure_facts, measure_row
from tests.harness.runs_made import COMMAND, Run, make_folder

SMALL, LARGE = Source("small"), Source("large")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_folder(tmp_path_factory.mktemp("runs") / "root")


def card(
    results: Results | dict[str, Any], student: Source = SMALL, teacher: Source = LARGE, name: str = "ddpo"
) -> str:
    found = Results.model_validate(results)
    return card_markdown(found, name, Origin(student, teacher, "DPO; arXiv 2305.18290", "MIT"))


def front_matter(text: str) -> dict[str, Any]:
    assert text.startswith("---\n")
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found


def body(text: str) -> str:
    return text.split("---\n", 2)[2]


def test_the_hub_reads_its_front_matter(run: Run) -> None:
    assert front_matter(card(run.results, Source("small", "owner/small", "Apache-2.0"))) == {
        "base_model": "owner/small",
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["distillation", "ddpo", "dadpo-harness"],
    }


def test_a_student_that_trained_on_responses_of_its_own_is_said_to_have(run: Run) -> None:
    data = run.results if isinstance(run.results, dict) else plain(run.results)
    assert "of its own" not in body(card(data))
    (entry,) = (one for one in data["methods"] if one["name"] == "ddpo")
    own = {**entry, "settings": {**entry["settings"], "fresh_share": 0.5}}
    own["facts"] = {**entry["facts"], "fresh_tokens": 77}
    text = body(card({**data, "methods": [own if one is entry else one for one in data["methods"]]}))
    assert "It trained on responses of its own, sampled as it trained, in 50% of the examples." in text
    assert "fresh_tokens: 77" in text


@pytest.mark.parametrize(
    ("license", "wanted"),
    [
        ("", {}),
        ("MIT", {"license": "mit"}),
        ("My Own 1.0", {"license": "other", "license_name": "My Own 1.0"}),
        ("a: b\n---\nc", {"license": "other", "license_name": "a: b\n---\nc"}),
    ],
)
def test_a_licence_that_the_hub_does_not_know_is_another_one(run: Run, license: str, wanted: dict[str, str]) -> None:
    text = card(run.results, Source("small", "", license))
    head = text.removeprefix("---\n").split("\n---\n\n", 1)[0]
    found = yaml.safe_load(head)
    assert {key: found[key] for key in found if key.startswith("license")} == wanted
    assert "base_model" not in found  # a folder is no model of the hub
    assert "licence not known here" in body(text)


def test_each_figure_stands_with_its_interval_judge_and_n(run: Run) -> None:
    rows = [row for row in run.data["rows"] if row["method"] in ("ddpo", "student (untrained)")]
    lines = [line for line in card(run.results).splitlines() if line.startswith("| `") and line.count("|") == 11]
    assert len(lines) == len(rows) == 4
    for row in rows:
        interval = row["preference_interval"]
        rate = f"{100 * row['preference_rate']:+.1f}% [{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]"
        found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        (mine,) = [
            cells for cells in found if cells[0].startswith(f"`{row['prompt_set']}`") and row["method"] in cells[2]
        ]
        assert mine[1] == "`openai:m`" and mine[3] == rate and mine[6] == str(row["n"])


def test_warnings_of_the_board_and_the_command_are_on_the_card(run: Run) -> None:
    text = card(run.results)
    assert "> **No row is told from the next on " in text and "4 prompts and one seed tell neighbours apart" in text
    assert "All of it is about this checkpoint, not about its method" in " ".join(text.split())
    assert f"```bash\n{COMMAND}\n```" in text
    assert "from_pretrained" in text and "learning_rate" in text and "starting from the student after SFT" in text


def test_a_proxy_is_called_one(tmp_path: Path) -> None:
    found = make_folder(tmp_path / "root", judge={"name": "typicality"})
    assert "declared proxy" in card(found.results)


def test_a_control_says_what_it_controls(run: Run) -> None:
    methods = [{**entry, "controls": "dadpo", "why": "a larger β"} for entry in run.data["methods"]]
    assert "It is a control of `dadpo`: a larger β." in card({**run.data, "methods": methods})


def test_judges_verdicts_are_said_not_to_have_been_trained_on(run: Run) -> None:
    text = card(run.results)
    assert "its verdicts were **not** trained on here" in text
    assert "no legal advice" in text
    assert "OpenAI's terms" not in text  # `openai:m` is a protocol: the server here is another one
    judges = [{**run.data["judges"][0], "setup": {"model": "m", "server": "https://api.openai.com/v1"}}]
    assert "[OpenAI's terms](https://openai.com/policies/)" in card({**run.data, "judges": judges})


def test_terms_of_base_and_teacher_are_named(run: Run) -> None:
    text = card(run.results, Source("google/gemma-2-2b-it", "google/gemma-2-2b-it"), Source("/m/Llama-3.2-3B-Instruct"))
    assert "Gemma Terms of Use" in text and "Llama Community Licence (3.1 and later)" in text
    assert "Built with Llama" in text
    assert "no terms on training on its outputs are known by its name" in card(run.results)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("meta-llama/Llama-3.2-1B-Instruct", "Llama Community Licence (3.1 and later)"),
        ("meta-llama/Meta-Llama-3.1-8B", "Llama Community Licence (3.1 and later)"),
        ("meta-llama/Llama-4-Scout-17B-16E", "Llama Community Licence (3.1 and later)"),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "Llama Community Licence (3.1 and later)"),
        ("meta-llama/Llama-2-7b-chat-hf", "Llama 2 or Llama 3 Community Licence"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "Llama 2 or Llama 3 Community Licence"),
        ("google/gemma-7b-it", "Gemma Terms of Use"),
        ("google/gemma-3-1b-it", "Gemma Terms of Use"),
        ("Qwen/Qwen2.5-3B-Instruct", "Qwen Research Licence"),
        ("Qwen/Qwen2.5-72B-Instruct", "Qwen Licence"),
        ("CohereForAI/c4ai-command-r-v01", "CC-BY-NC of Cohere's open weights, with its Acceptable Use Policy"),
        ("mistralai/Ministral-8B-Instruct-2410", "Mistral Research Licence"),
        ("openai:gpt-4o-mini", "OpenAI's terms"),
        ("openai:o3", "OpenAI's terms"),
        ("https://api.anthropic.com/v1", "Anthropic's commercial terms"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "Gemini API Additional Terms of Service"),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", None),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", None),
        ("Qwen/Qwen2.5-1.5B-Instruct", None),
        ("Qwen/Qwen2.5-32B-Instruct", None),
        ("Qwen/Qwen3-8B", None),
        ("openai/gpt-oss-20b", None),
        ("openai:m", None),
        ("", None),
    ],
)
def test_terms_go_by_name(name: str, title: str | None) -> None:
    assert [terms.title for terms in terms_of([name])] == ([] if title is None else [title])


def test_of_a_folder_the_last_part_alone_counts() -> None:
    assert terms_of(Source("/models/llama-2/my-model").names) == []


def test_the_table_is_a_sentence_and_an_address_each() -> None:
    for terms in known_terms():
        assert terms.url.startswith("https://") and terms.text.endswith(".") and "\n" not in terms.text
    assert all(known == known.lower() for known in HUB_LICENSES)


HOSTILE = [
    "`rm -rf ~`",
    "a``b",
    "<script>alert(1)</script>",
    "[x](javascript:1)",
    "# big",
    "a|b",
    "a\n---\nlicense: mit",
    "{{ 7*7 }}{% for x in y %}",
    "\u202ereversed\u001b[31m",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text(run: Run, name: str) -> None:
    """It stands in code spans and fences, or with its markup escaped."""
    methods = [
        {**entry, "name": name, "method": name, "controls": name, "why": name} for entry in run.data["methods"][1:]
    ]
    rows = [{**row, "method": name} for row in run.data["rows"] if row["method"] == "ddpo"]
    runs = [{**one, "command": f"run {name}\n```\n# out"} for one in run.data["runs"]]
    hostile = {
        **run.data,
        "methods": methods,
        "rows": rows,
        "measures": [{**row, "method": name} for row in run.data["measures"] if row["method"] == "ddpo"],
        "measured": [{**facts, "head": name, "unit": name, "summary": name} for facts in run.data["measured"]],
        "runs": runs,
        "pair": {"student": name, "teacher": name, "weights": {}},
    }
    text = card(hostile, Source(name, name, name), Source(name, "", name), name)
    head = front_matter_of_any(text)
    assert head["tags"][1] == name and head["base_model"] == name
    outside = re.sub(r"(?ms)^(`{3,})\w*\n.*?^\1$", "", text.split("\n---\n\n", 1)[1])  # without fenced blocks
    outside = re.sub(r"(?<!`)(`+)(?!`)[^\n]*?(?<!`)\1(?!`)", "", outside)  # without code spans
    for markup in ("<script", "](javascript", "\n# big", "{{ 7", "\u202e", "\u001b", "\n---", "\n# out"):
        assert not re.search(r"(?<!\\)" + re.escape(markup), outside), markup
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {11, 5}


def front_matter_of_any(text: str) -> dict[str, Any]:
    """What stands before the first line of its own dashes, as the hub splits it."""
    match = re.match(r"\A---\n(.*?)\n---\n", text, re.DOTALL)
    assert match
    found: dict[str, Any] = yaml.safe_load(match[1])
    return found


def measured(results: dict[str, Any]) -> dict[str, Any]:
    """The same results with two measures of the student and of the untrained one on one set."""
    prompt_set = results["prompt_sets"][0]["name"]
    kinds = {"ddpo": "method", "student (untrained)": "untrained", "sft": "method"}
    rows = [
        measure_row(name, method, kind, prompt_set, value)
        for name, value in (("forward_kl", 0.5), ("acceptance", 0.75), ("nll", 1.5))
        for method, kind in kinds.items()
    ]
    facts = [measure_facts(name) for name in ("forward_kl", "acceptance", "nll")]
    return {**results, "measured": facts, "measures": rows}


def test_a_measured_student_s_card_has_its_fidelity_beside_the_untrained_one_s(run: Run) -> None:
    assert "Fidelity" not in card({**run.data, "measured": [], "measures": []})
    text = card(measured(run.data))
    found = text.split("Fidelity to the teacher, both at temperature ")[1].split("\n\n")
    near = run.results.prompt_sets[0].name
    assert [" ".join(line.split()) for line in found[1].splitlines()[2:]] == [
        f"| `{near}` | `{method}` | 0.500 [0.475, 0.525] | 75.0% [71.2, 78.8] |"
        for method in ("ddpo", "student (untrained)")
    ]
    assert found[2].startswith("- `forward KL` (nats a token): what forward KL is\n- `acceptance` (share of tokens)")
    assert "minimises" not in text
    data = measured(run.data)
    data["measures"][0]["own_loss"] = True
    assert "0.500 [0.475, 0.525] †" in card(data) and "† its training minimises this measure, at temperature 1" in card(
        data
    )
    assert "≥" not in card(data)
    data["measured"][0]["bound"] = "lower"
    assert "≥ 0.500 [0.475, 0.525]" in card(data) and "≥ and ≤ mark bounds, as a server gave" in card(data)
