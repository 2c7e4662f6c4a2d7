"""The model card of a trained student: a pure function of a run's results and of where its models come from.

A card is read by people and by the hub (its front matter). Names, settings and commands in it are data: they are
quoted, never rendered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from harness.core import records
from harness.core.escape import block, literal, plain
from harness.core.section import parse_yaml
from harness.reports import columns as c
from harness.reports import measured
from harness.reports.cells import BOUNDS_SAID, OWN_LOSS_SAID, facts, sampling_text, temperatures, warnings
from harness.reports.columns import Column, column, markdown
from harness.reports.measured import Measured
from harness.results.schema import JudgeFacts, MeasureFacts, MethodFacts, Results, Row

# licences that the hub knows by these ids; any other is `other` there, with a name
HUB_LICENSES = frozenset(
    {"afl-3.0", "apache-2.0", "bigscience-bloom-rail-1.0", "bigscience-openrail-m", "bsd-2-clause", "bsd-3-clause"}
    | {"cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-sa-4.0", "cc0-1.0", "gemma", "gpl-3.0", "llama2"}
    | {"llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "mit", "mpl-2.0", "openrail", "unlicense"}
)
FIDELITY = ("forward_kl", "acceptance")  # the measures of a card: what distillation is for, and what drafting needs
LEGEND = """\
Judged against the teacher's responses. **Preference rate** is (wins − losses) / N, ties counting 0: 0 is parity with
the teacher, negative is worse. **Win rate** is wins / N. Brackets hold 95% intervals over prompts. All of it is
about this checkpoint, not about its method: another seed, or another judge, is in no interval. *Cut* is the share of
responses cut at the length limit. The other rows of this run are in its leaderboard.md."""
_LOADING = """\
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(".")  # this folder, or the id of its repository
tokenizer = AutoTokenizer.from_pretrained(".")"""


@dataclass(frozen=True)
class Source:
    """A model as a card names it: as it was asked for, its id on the hub, its licence; empty where not known."""

    name: str
    hub: str = ""
    license: str = ""

    @property
    def names(self) -> list[str]:
        """What its terms are known by; of a folder its last part."""
        return [self.hub, self.name if self.name == self.hub else Path(self.name).name]


@dataclass(frozen=True)
class Origin:
    """What a card says beyond the run's results."""

    student: Source
    teacher: Source
    method: str  # its summary and source
    prompts_license: str = ""


@dataclass(frozen=True)
class Terms:
    """Terms that restrict what is trained on a model's outputs."""

    title: str
    pattern: re.Pattern[str]
    text: str
    url: str


@cache
def known_terms() -> tuple[Terms, ...]:
    """The table in benchmarks/terms.yaml."""
    text = (resources.files("benchmarks") / "terms.yaml").read_text(encoding="utf-8")
    entries = parse_yaml(text, "terms.yaml").values()
    return tuple(Terms(**{**entry, "pattern": re.compile(entry["pattern"], re.IGNORECASE)}) for entry in entries)


def terms_of(names: Iterable[str]) -> list[Terms]:
    """The terms whose pattern is in one of the names."""
    names = list(names)
    return [terms for terms in known_terms() if any(terms.pattern.search(name) for name in names)]


def card_markdown(results: Results, name: str, origin: Origin) -> str:
    """The card of one trained method of a run."""
    entry = next(entry for entry in results.methods if entry.name == name)
    parts = [
        f"# {literal(last_part(origin.student.name))}, trained with {literal(name)}",
        _what(entry, origin),
        "## Figures",
        *(f"> **{plain(title)}** {plain(text)}" for title, text in warnings(results)),
        LEGEND,
        _figures(results, name),
        *_fidelity(results, name),
        "\n".join(f"- {plain(what)}: {plain(text)}" for what, text in facts(results)),
        "## To reproduce",
        *(block(one.command, "bash") for one in results.runs),
        "Every setting is in config.yaml of the run's folder. This method's:",
        block(yaml.safe_dump(_settings(entry), sort_keys=False, allow_unicode=True), "yaml"),
        "## To load it",
        block(_LOADING, "python"),
        f"It was judged at {sampling_text(results.evaluation.sampling)}, through the chat template of the "
        "tokenizer. The weights are float32.",
        "## Licences and terms",
        _licences(results, origin),
    ]
    return f"---\n{_front_matter(entry, origin)}---\n\n" + "\n\n".join(parts) + "\n"


def last_part(name: str) -> str:
    """A model's name; of a folder or a hub id the last part."""
    return Path(name).name or name


def _front_matter(entry: MethodFacts, origin: Origin) -> str:
    data = {
        **({"base_model": origin.student.hub} if origin.student.hub else {}),
        **_hub_license(origin.student.license),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": list(dict.fromkeys(["distillation", str(entry.method), "dadpo-harness"])),
    }
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _hub_license(license: str) -> dict[str, str]:
    if not license:
        return {}
    known = license.lower()
    return {"license": known} if known in HUB_LICENSES else {"license": "other", "license_name": license}


def _what(entry: MethodFacts, origin: Origin) -> str:
    start = "the student after SFT" if entry.settings.start == "sft" else "the untrained student"
    said = (
        f"{literal(origin.student.name)} after distillation from {literal(origin.teacher.name)} with "
        f"{literal(entry.method)} ({plain(origin.method)}), starting from {start}."
    )
    if (share := entry.settings.own.get("fresh_share")) and entry.facts.fresh_tokens:
        said += f" It trained on responses of its own, sampled as it trained, in {share:.0%} of the examples."
    if entry.controls:
        said += f" It is a control of {literal(entry.controls)}: {plain(entry.why)}."
    return said


def _figures(results: Results, name: str) -> str:
    domains = {True: "in-domain", False: "out-of-domain"}
    shown = [row for row in results.rows if row.method == name or row.kind == "untrained"]
    # the student's own rows first in each set: what training changed is the difference to the other
    order = {entry.name: place for place, entry in enumerate(results.prompt_sets)}
    shown.sort(key=lambda row: (order[row.prompt_set], row.judge != results.judge, row.method != name))
    columns: list[Column[Row]] = [
        column("prompt set", lambda row: f"{literal(row.prompt_set)} ({domains[row.in_domain]})"),
        column("judge", lambda row: literal(row.judge)),
        column("student", lambda row: literal(row.method)),
        *(c.PREFERENCE, c.WIN, c.OUTCOMES, c.N, c.LACKING, c.TOKENS, c.CUT),
    ]
    return markdown(columns, shown)


def _fidelity(results: Results, name: str) -> list[str]:
    """How near the student's distribution is to its teacher's, beside the untrained one's; nothing if unmeasured."""
    shown = [facts for facts in results.measured if facts.name in FIDELITY]
    rows = [
        (entry.name, row)
        for entry in results.prompt_sets
        for row in sorted(measured.students(results, entry.name, "fidelity"), key=lambda row: row.method != name)
        if row.method == name or row.kind == "untrained"
    ]
    if not shown or not rows:
        return []
    columns: list[Column[tuple[str, Measured]]] = [
        column("prompt set", lambda row: literal(row[0])),
        column("student", lambda row: literal(row[1].method)),
        *(_of_set(facts, [row for _, row in rows]) for facts in shown),
    ]
    lines = [f"- {literal(facts.head)} ({plain(facts.unit)}): {plain(facts.summary)}" for facts in shown]
    read = temperatures(shown, results)
    said = f"Fidelity to the teacher{f', {read}' if read else ''}, with 95% intervals over prompts, of this checkpoint:"
    own = [OWN_LOSS_SAID] if any(_own(row, shown) for _, row in rows) else []
    bounds = [f"{BOUNDS_SAID}."] if any(facts.bound != "exact" for facts in shown) else []
    return [said, markdown(columns, rows), "\n".join(lines), *own, *bounds]


def _of_set(facts: MeasureFacts, rows: Sequence[Measured]) -> Column[tuple[str, Measured]]:
    return c.measure(facts, rows).named(plain(facts.head)).of(lambda row: row[1])


def _own(row: Measured, shown: Sequence[MeasureFacts]) -> bool:
    return any(row.values[facts.name].own_loss for facts in shown if facts.name in row.values)


def _settings(entry: MethodFacts) -> dict[str, Any]:
    """The method's settings, and what its training came to."""
    facts = records.plain(entry.facts)
    counts = {key: value for key, value in facts.items() if key in ("steps", "examples", "tokens", "fresh_tokens")}
    return {**records.plain(entry.settings), "training": counts}


def _licences(results: Results, origin: Origin) -> str:
    prompts = origin.prompts_license or "not known here"
    lines = [
        f"- base model, {_licence(origin.student)}",
        *_quoted(terms_of(origin.student.names)),
        f"- teacher, {_licence(origin.teacher)}. Its outputs were trained on",
        *(_quoted(terms_of(origin.teacher.names)) or ["  - no terms on training on its outputs are known by its name"]),
        f"- training prompts, {literal(results.training.prompt_set)}: licence {plain(prompts)}",
        f"- judge, {literal(results.judge)}: its verdicts were **not** trained on here, they only measure",
        *_quoted(_judge_terms(results.judges)),
    ]
    lines.append(
        "\nTerms are found by names, in a small table, and told in short: the texts linked are what counts, others may "
        "apply, and this is no legal advice."
    )
    return "\n".join(lines)


def _licence(source: Source) -> str:
    hub = f" ({literal(source.hub)} on the hub)" if source.hub and source.hub != source.name else ""
    return f"{literal(source.name)}{hub}: licence {plain(source.license) or 'not known here; see the model itself'}"


def _judge_terms(judges: Sequence[JudgeFacts]) -> list[Terms]:
    names = [str(text) for judge in judges for text in (judge.name, *judge.setup.values())]
    return terms_of(names)


def _quoted(found: Sequence[Terms]) -> list[str]:
    return [f"  - [{terms.title}]({terms.url}), by its name: {terms.text.strip()}" for terms in found]
