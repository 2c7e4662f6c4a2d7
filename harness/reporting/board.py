"""leaderboard.md: a pure function of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from harness.config import MethodSettings

Results = dict[str, Any]

# At 80 prompts a preference rate's 95% interval is about ±17 points wide: less ranks nothing.
RANKABLE_PROMPTS = 80
KINDS = {"ceiling": "ceiling", "untrained": "start", "control": "control", "method": "method"}


def render(runs: Sequence[Results]) -> str:
    """The board of one or several runs, each in a section of its own: rows of different runs share no table."""
    head = "# Leaderboard\n\n"
    if not runs:
        return head + "No run is recorded yet: `python -m harness record RUN_DIR`.\n"
    return head + _LEGEND + "\n" + "\n".join(_section(run) for run in runs)


_LEGEND = """\
Students against their teacher on prompts that training never saw. **Preference rate** is (wins − losses) / N, ties
counting 0: 0 is parity with the teacher, negative is worse. **Win rate** is wins / N, ties are not wins. Brackets hold
95% intervals: a bootstrap over prompts, or Wilson's where all outcomes are alike. *Missing* prompts have a failed or
unparsable verdict and are not in N.
*Flips* are prompts where the judge contradicts itself when the responses change places: they are ties. *Identical*
responses are ties that no judge was asked about.
*Tokens* is the mean response length, *cut* the share of responses cut at the length limit.
"""


def _section(run: Results) -> str:
    pair, judge = run["pair"], run["judge"]
    parts = [f"## {pair['student']}, taught by {pair['teacher']}", _banner(run), _facts(run)]
    for prompt_set in run["prompt_sets"]:
        domain = "in-domain" if prompt_set["in_domain"] else "out-of-domain"
        teacher = prompt_set["teacher"]
        parts.append(
            f"### {prompt_set['name']} ({domain}, {prompt_set['prompts']} prompts)\n\n"
            f"Judge: {judge}{_setup(run, judge)}{_misses(run, judge)}. The teacher's responses: "
            f"{teacher['mean_tokens']:.0f} tokens, {teacher['cut_share']:.0%} cut.\n\n"
            f"{_set_table(run, prompt_set['name'])}"
        )
    parts += [_judges(run), _methods(run)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _judge(run: Results, judge: str) -> Results:
    return next(known for known in run["judges"] if known["name"] == judge)


def _setup(run: Results, judge: str) -> str:
    """Model, server, template: what an answer depends on, after a judge's name."""
    setup = _judge(run, judge).get("setup", {})
    return f" ({', '.join(f'{name} {value}' for name, value in setup.items())})" if setup else ""


def _misses(run: Results, judge: str) -> str:
    misses = _judge(run, judge)["misses"]
    return f", a proxy: it misses {misses}" if misses else ""


def smallest_set(run: Results) -> int:
    return min((row["n"] for row in run["rows"]), default=0)


def _banner(run: Results) -> str:
    smallest = smallest_set(run)
    proxies = [judge["name"] for judge in run["judges"] if judge["misses"]]
    lines = []
    if smallest < RANKABLE_PROMPTS:
        lines.append(
            f"> **Too small to rank.** The smallest set has {smallest} judged prompts and there is one seed: "
            "differences of tens of points are noise. This run demonstrates the road; rows stand in a fixed order."
        )
    if proxies:
        lines.append(
            f"> **The judge is a declared proxy** ({', '.join(proxies)}): no one, human or model, has read these "
            "responses. It says how much a student's responses resemble its teacher's, not how good they are."
        )
    return "\n>\n".join(lines)


def _facts(run: Results) -> str:
    training, sampling = run["training"], run["evaluation"]["sampling"]
    samples = f"; {run['judge_samples']} further teacher samples a prompt" if run["judge_samples"] else ""
    pruned = run["pruning"]
    student = (
        f"- student: pruned from {pruned['parameters_before']:,} to {pruned['parameters']:,} parameters "
        f"({pruned['parameters'] / pruned['parameters_before'] - 1:+.1%}) before training"
        if pruned
        else f"- student: {run['pair']['student']} as it comes"
    )
    return "\n".join(
        [
            student,
            f"- judge: {run['judge']}{samples}",
            f"- seed: {run['seed']}; date: {run['date']}; harness {run['harness']}; record: {run['name']}",
            f"- training: {training['prompts']} prompts of {training['prompt_set']}, "
            f"teacher at {sampling_text(training['sampling'])} "
            f"({training['cut_share']:.0%} of its responses cut); evaluation: everyone at {sampling_text(sampling)}",
            *_prepared(run),
            f"- to reproduce: `{run['command']}` (every setting: config.yaml of the record)",
        ]
    )


def _prepared(run: Results) -> list[str]:
    """What was done to the training data that a reader should know."""
    facts = [method["facts"] for method in run["methods"]]
    cut = max((known.get("prompts_cut", 0) for known in facts), default=0)
    lines = []
    if cut:
        limit = run["config"]["max_prompt_tokens"]
        lines.append(f"- {cut} training prompts lost their beginning: max_prompt_tokens = {limit}")
    if any(known.get("retokenised") for known in facts):
        lines.append("- student and teacher have two tokenizers: responses of one were split anew for the other")
    return lines


def sampling_text(sampling: Mapping[str, Any]) -> str:
    top_p = "" if sampling["top_p"] == 1 else f", top-p {sampling['top_p']:g}"
    return f"temperature {sampling['temperature']:g}{top_p}, at most {sampling['max_new_tokens']} tokens"


def _set_table(run: Results, prompt_set: str) -> str:
    rows = [r for r in run["rows"] if r["prompt_set"] == prompt_set and r["judge"] == run["judge"]]
    with_orders = any(r.get("flips", {"n": 0})["n"] for r in rows)
    frame = pd.DataFrame(
        {
            "": KINDS[row["kind"]],
            "method": row["method"],
            "preference rate": rate_cell(row["preference_rate"], row["preference_interval"], signed=True),
            "win rate": rate_cell(row["win_rate"], row["win_interval"]),
            "W / T / L": f"{row['wins']} / {row['ties']} / {row['losses']}",
            "N": row["n"],
            "missing": row["missing"],
            "failed verdicts": row["failed_verdicts"],
            **(_flips(row) if with_orders else {}),
            **({"identical": row["identical"]} if "identical" in row else {}),  # runs of before have no count
            "tokens": f"{row['mean_tokens']:.0f}",
            "cut": f"{row['cut_share']:.0%}",
        }
        for row in ordered(run, rows)
    )
    return markdown(frame)


def _flips(row: Results) -> Results:
    """Prompts where the two orders contradict each other, of those judged in both."""
    return {"flips": f"{row['flips']['count']} of {row['flips']['n']}"}


def ordered(run: Results, rows: list[Results]) -> list[Results]:
    """By preference rate where the run is large enough to rank; else the ceiling, the methods as asked, the start."""
    if smallest_set(run) >= RANKABLE_PROMPTS:
        return sorted(rows, key=lambda row: -row["preference_rate"])
    place = {"ceiling": 0, "method": 1, "control": 2, "untrained": 3}
    return sorted(rows, key=lambda row: place[row["kind"]])


def rate_cell(rate: float | None, interval: Sequence[float] | None, signed: bool = False) -> str:
    if rate is None or interval is None:
        return "none judged"
    sign = "+" if signed else ""
    return f"{100 * rate:{sign}.1f}% [{100 * interval[0]:{sign}.1f}, {100 * interval[1]:{sign}.1f}]"


def _judges(run: Results) -> str:
    parts = ["### The judges" if len(run["judges"]) > 1 else "### The judge"]
    lines = []
    for judge in run["judges"]:
        misses = f" A proxy; it misses {judge['misses']}." if judge["misses"] else ""
        lines.append(f"- **{judge['name']}**{_setup(run, judge['name'])}: {judge['summary']}.{misses}")
    parts.append("\n".join(lines))
    if run.get("judging"):
        parts.append(_judging_table(run["judging"]))
    alone = [judge["name"] for judge in run["judges"][1:]]
    if alone:
        parts.append(f"Preference rates by each judge beside {run['judge']} (with what it misses as above):")
        parts.append(_alone_table(run, alone))
    if run.get("agreement"):
        parts.append(
            "Agreement of the judges on win, tie and loss, all rows and sets together; the interval of Cohen's κ "
            "resamples prompts, each with all its rows:"
        )
        parts.append(_agreement_table(run["agreement"]))
    return "\n\n".join(parts)


def _judging_table(judges: list[Results]) -> str:
    frame = pd.DataFrame(
        {
            "judge": judge["judge"],
            "verdicts": judge["verdicts"],
            **{status: judge[status] for status in ("ok", "unparsable", "failed", "skipped")},
            "identical": judge["identical"],
            "contradicts itself": f"{judge['flips']} of {judge['both_orders']}"
            if judge["both_orders"]
            else "no orders",
            "read in part": judge["truncated"],
            "asked for": ", ".join(f"{form}: {count}" for form, count in judge["forms"].items()),
        }
        for judge in judges
    )
    return markdown(frame)


def _agreement_table(pairs: list[Results]) -> str:
    frame = pd.DataFrame(
        {
            "judges": f"{pair['first']}, {pair['second']}",
            "κ": kappa_cell(pair),
            "same outcome": f"{pair['agreement']['count']} of {pair['n']}",
            "missing": pair["missing"],
            "note": pair["note"],
        }
        for pair in pairs
    )
    return markdown(frame)


def kappa_cell(pair: Results) -> str:
    if pair["kappa"] is None:
        return "undefined"
    interval = pair["kappa_interval"]
    return f"{pair['kappa']:.2f}" + ("" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]")


def _alone_table(run: Results, judges: list[str]) -> str:
    sets = [prompt_set["name"] for prompt_set in run["prompt_sets"]]
    rows = {(r["method"], r["prompt_set"], r["judge"]): r for r in run["rows"]}
    order = ordered(run, [r for r in run["rows"] if r["prompt_set"] == sets[0] and r["judge"] == run["judge"]])
    frame = pd.DataFrame(
        {
            "method": row["method"],
            **{
                f"{judge}, {name}": rate_cell(
                    rows[row["method"], name, judge]["preference_rate"],
                    rows[row["method"], name, judge]["preference_interval"],
                    signed=True,
                )
                for name in sets
                for judge in judges
            },
        }
        for row in order
    )
    return markdown(frame)


def _methods(run: Results) -> str:
    frame = pd.DataFrame(
        {
            "method": entry["name"],
            "starts from": {"student": "untrained student", "sft": "SFT student"}[entry["settings"]["start"]],
            "learning rate": f"{entry['settings']['learning_rate']:g}",
            "epochs": "by tokens" if entry["token_matched"] else entry["settings"]["epochs"],
            "batch": entry["settings"]["batch_size"],
            "steps": entry["facts"]["steps"],
            "tokens": f"{entry['facts']['tokens']:,}",
            "its own settings": ", ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in entry["settings"].items()
                if key not in MethodSettings.model_fields
            ),
            "control of": f"{entry['controls']}: {entry['why']}" if entry["controls"] else "",
        }
        for entry in run["methods"]
    )
    return "### What was trained\n\n" + markdown(frame)


def markdown(frame: pd.DataFrame) -> str:
    cells = frame.astype(str).map(lambda text: " ".join(text.split()).replace("|", "\\|"))
    return str(cells.to_markdown(index=False, disable_numparse=True))
