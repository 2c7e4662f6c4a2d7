"""Measures of fidelity against a dose: smollm2-135m pruned by more and more, beside itself whole.

    python -m benchmarks.measures.doses        # writes benchmarks/measures/doses.csv and docs/figures/doses.svg

The stages are those of a run, and what they make is kept in the store: each student is pruned by the same calibration
responses, the teacher's responses to the held-out prompts are drawn once, and its hidden states are stored once. Values
are ratios over all prompts, Σ over tokens / count of tokens, with 95% intervals over prompts.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from harness.cli.options import open_store
from harness.config import resolve
from harness.core.progress import plain_console
from harness.core.records import Measured, Ref, read_records
from harness.measures import measures
from harness.measures.measure import is_share
from harness.results.costs import rests_on
from harness.run.jobs import MEASURED, Job
from harness.run.launch import run_jobs
from harness.run.road import Road, build_road
from harness.run.rows import TEACHER, UNTRAINED
from harness.statistics.ratios import Sums, ratios
from harness.store import Store

MODEL, PRUNED = "smollm2-135m", "smollm2-135m-pruned20"
DOSES = (0.0, 0.02, 0.05, 0.1, 0.2)
MEASURES = ("forward_kl", "reverse_kl", "acceptance", "accepted_length", "top1", "nll")
SETS = ("everyday-test", "longer-tasks")
FIELDS = ("pruned", "measure", "unit", "value", "low", "high", "count", "prompts", "teacher")
HERE = Path(__file__).parent
FIGURE = HERE.parents[1] / "docs" / "figures" / "doses.svg"
Row = dict[str, Any]


def road_of(ratio: float, prompts: int, store: Store) -> Road:
    """Of a run whose student is the model without such a share of its parameters; its trainings are left alone."""
    layer = {
        "student": PRUNED if ratio else MODEL,
        "teacher": MODEL,
        "methods": ["sft"],
        "judge": "typicality",
        "train_prompts": "everyday-train",
        "eval": list(SETS),
        "limits": {"eval": prompts},
        "eval_sampling": {"temperature": 0.8, "max_new_tokens": 64},
        "measures": list(MEASURES),
        **({"prune": {"ratio": ratio}} if ratio else {}),
    }
    return build_road(resolve([layer]), store, download=True)


def needed(road: Road, refs: Collection[Ref]) -> list[Job]:
    """The jobs of a road that make these artifacts, with all that those read, in its order."""
    found = {one for ref in refs for one in rests_on(ref, road.jobs)}
    return [job for ref, job in road.jobs.items() if ref in found]


def measured(road: Road, store: Store) -> list[Row]:
    """A row a measure: the untrained student's ratio over all sets, with the teacher's own value where it has one."""
    refs = {
        (evaluation.name, name): ref
        for evaluation in road.evaluations
        for name, ref in (
            (TEACHER, evaluation.measured),
            *((c.name, c.measured) for c in evaluation.candidates if c.name == UNTRAINED),
        )
        if ref is not None
    }
    run_jobs(needed(road, refs.values()), store, plain_console())
    parts = []
    for one in dict.fromkeys(prompt_set for prompt_set, _ in refs):
        cells = {
            (row.prompt_id, system): row.values
            for (prompt_set, system), ref in refs.items()
            if prompt_set == one
            for row in read_records(store.read(ref).path / MEASURED, Measured)
        }
        parts.append(Sums.of(MEASURES, (UNTRAINED, TEACHER), [cells]))
    shares = [name for name in MEASURES if is_share(measures.get(name).unit)]
    found = ratios(Sums.pooled(parts), shares)
    rows = []
    for name in MEASURES:
        ratio = found[name, UNTRAINED]
        low, high = ratio.interval or (None, None)
        teacher = found[name, TEACHER].value
        values = {"value": ratio.value, "low": low, "high": high, "teacher": teacher}
        rounded = {key: "" if value is None else f"{value:.6g}" for key, value in values.items()}
        rows.append(
            {
                "measure": name,
                "unit": measures.get(name).unit,
                **rounded,
                "count": ratio.count,
                "prompts": ratio.prompts,
            }
        )
    return rows


# ---- the picture

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 236, 190, 52, 30, 34
COLUMNS = 3


def figure(rows: Sequence[Row]) -> str:
    """An SVG with a panel a measure: its value against the dose, with intervals."""
    names = list(dict.fromkeys(str(row["measure"]) for row in rows))
    panels = [_panel(name, [row for row in rows if row["measure"] == name]) for name in names]
    lines = -(-len(panels) // COLUMNS)
    placed = [
        f'<g transform="translate({WIDTH * (number % COLUMNS)} {HEIGHT * (number // COLUMNS)})">{panel}</g>'
        for number, panel in enumerate(panels)
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {COLUMNS * WIDTH} {lines * HEIGHT}"'
    body = "\n".join(['<rect width="100%" height="100%" fill="white"/>', *placed])
    return f'{head} font-family="sans-serif" font-size="10" fill="#333">\n{body}\n</svg>\n'


def _panel(name: str, rows: Sequence[Row]) -> str:
    measure = measures.get(name)
    doses = [float(row["pruned"]) for row in rows]
    ends = [[float(row[key] or row["value"]) for key in ("low", "value", "high")] for row in rows]
    own = [float(row["teacher"]) for row in rows if row["teacher"]]
    bottom, top = min([*own, *(low for low, _, _ in ends)]), max([*own, *(high for _, _, high in ends)])
    room = 0.06 * (top - bottom) or 1.0
    bottom, top = bottom - room, top + room

    def across(dose: float) -> float:
        return LEFT + (WIDTH - LEFT - 16) * dose / (max(doses) or 1)

    def down(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (top - value) / (top - bottom)

    marks = [
        f'<text x="{LEFT}" y="14" font-size="12" font-weight="bold">{measure.head or name}</text>',
        f'<text x="{LEFT}" y="26" fill="#667">{measure.unit}, {measure.better} is nearer</text>',
        f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - 12}" fill="none" stroke="#99a"/>',
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">share of parameters pruned</text>',
    ]
    for dose in doses:
        marks.append(f'<text x="{across(dose):.1f}" y="{HEIGHT - 20}" text-anchor="middle">{dose:g}</text>')
    for value in (bottom + room, (bottom + top) / 2, top - room):
        marks.append(f'<text x="{LEFT - 4}" y="{down(value) + 3:.1f}" text-anchor="end">{value:.3g}</text>')
    if own:
        at = down(own[0])
        marks.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - 12}" stroke="#99a" stroke-dasharray="3 3"/>')
        marks.append(f'<text x="{WIDTH - 12}" y="{at - 3:.1f}" text-anchor="end" fill="#667">the teacher\'s own</text>')
    line = " ".join(f"{across(dose):.1f},{down(value):.1f}" for dose, (_, value, _) in zip(doses, ends, strict=True))
    marks.append(f'<polyline points="{line}" fill="none" stroke="#2f6db5" stroke-width="1.5"/>')
    for dose, (low, value, high) in zip(doses, ends, strict=True):
        x = across(dose)
        marks.append(f'<path d="M{x:.1f} {down(low):.1f}V{down(high):.1f}" stroke="#2f6db5"/>')
        marks.append(f'<circle cx="{x:.1f}" cy="{down(value):.1f}" r="2.5" fill="#2f6db5"/>')
    return "".join(marks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, default=HERE / "doses.csv", help="where the figures go")
    parser.add_argument("--figure", type=Path, default=FIGURE, help="where the picture goes")
    parser.add_argument("--prompts", type=int, default=16, help="held-out prompts of each set, at most")
    parser.add_argument("--doses", default=",".join(map(str, DOSES)), help="shares of the parameters that are pruned")
    args = parser.parse_args()
    store = open_store(None)
    rows: list[Row] = []
    for ratio in map(float, args.doses.split(",")):
        found = measured(road_of(ratio, args.prompts, store), store)
        rows += [{"pruned": ratio, **row} for row in found]
        print(f"{ratio:g}: " + ", ".join(f"{row['measure']} {row['value']}" for row in found), flush=True)
    with args.csv.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    args.figure.write_text(figure(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
