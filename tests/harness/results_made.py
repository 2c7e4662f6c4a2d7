"""Results of a run, written by hand: every figure is another one. For tests of what is made of results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.results.figures import RANKABLE_PROMPTS
from harness.results.schema import RESULTS_SCHEMA, Results

FIXED = ["teacher (second sample)", "kd", "dadpo", "ddpo-beta0.15", "untrained"]
RANKED = ["teacher (second sample)", "dadpo", "ddpo-beta0.15", "kd", "untrained"]
SAMPLING = {"temperature": 0.8, "top_p": 0.95, "max_new_tokens": 96}
TRAINING = {
    "start": "sft",
    "learning_rate": 1e-5,
    "epochs": 2,
    "batch_size": 8,
    "warmup_ratio": 0.1,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "precision": "bf16",
}

# where there are enough prompts
RANKS = {"teacher (second sample)": [1, 1], "dadpo": [2, 3], "ddpo-beta0.15": [2, 3], "kd": [4, 4], "untrained": [5, 5]}


def row(prompt_set: str, method: str, kind: str, judge: str, n: int, rate: float, **more: Any) -> dict[str, Any]:
    interval = [rate - 0.125, rate + 0.125]
    return {
        "prompt_set": prompt_set,
        "in_domain": prompt_set == "near",
        "method": method,
        "kind": kind,
        "judge": judge,
        "n": n,
        "wins": 7,
        "ties": 11,
        "losses": 13,
        "missing": 0,
        "failed_verdicts": 0,
        "preference_rate": rate,
        "preference_interval": interval,
        "win_rate": 0.219,
        "win_interval": [0.1, 0.4],
        "half_tie_rate": (1 + rate) / 2,
        "half_tie_interval": [(1 + end) / 2 for end in interval],
        "mean_preference": 0.375,
        "mean_preference_interval": [0.25, 0.5],
        "prompts": n,
        "missing_share": 0.0,
        "orders": "none",
        "flips": {"count": 0, "n": 0, "share": None, "interval": None},
        "identical": 0,
        "mean_tokens": 61.4,
        "cut_share": 0.25,
        "by_run": [rate],
        "spread": None,
        "rank": RANKS[method] if n >= RANKABLE_PROMPTS and judge == "both" else None,
        **more,
    }


def judging(judge: str, n: int, **counts: int) -> dict[str, Any]:
    none = dict.fromkeys(("unparsable", "failed", "skipped", "identical", "truncated", "flips", "both_orders"), 0)
    verdicts = {"judge": judge, "verdicts": 10 * n, "ok": 10 * n, "forms": {}, "ties": 110, "outcomes": 10 * n}
    return {**verdicts, **none, **counts}


def make_run(n: int = 32, proxy: bool = True) -> dict[str, Any]:
    """Two prompt sets, two methods and a control, a judge of two parts; every figure is another one."""
    misses = "grammar" if proxy else ""
    rates = {
        "teacher (second sample)": -0.031,
        "kd": -0.406,
        "dadpo": -0.203,
        "ddpo-beta0.15": -0.305,
        "untrained": -0.508,
    }
    kinds = {"teacher (second sample)": "ceiling", "ddpo-beta0.15": "control", "untrained": "untrained"}
    rows = [
        row(prompt_set, method, kinds.get(method, "method"), judge, n, round(rate - shift - part, 4))
        for prompt_set, shift in (("near", 0.0), ("far", 0.05))
        for method, rate in rates.items()
        for judge, part in (("both", 0.0), ("part-one", 0.01), ("part-two", 0.02))
    ]
    return {
        "schema": RESULTS_SCHEMA,
        "name": "small-seed4-abc",
        "runs": [
            {
                "name": "small-seed4-abc",
                "seed": 4,
                "date": "2025-02-03",
                "harness": "0.1.0",
                "command": "python -m harness run --student small",
            }
        ],
        "pair": {"student": "small", "teacher": "large", "weights": {"student": "prune/1", "teacher": "convert/1"}},
        "pruning": {"parameters_before": 1000, "parameters": 800},
        "judge": "both",
        "judges": [
            {"name": name, "summary": summary, "misses": misses, "setup": {}, "digest": f"digest of {name}"}
            for name, summary in (
                ("both", "two parts together"),
                ("part-one", "the first part"),
                ("part-two", "the second part"),
            )
        ],
        "judge_samples": 2 if proxy else 0,
        "prompt_sets": [
            {
                "name": name,
                "in_domain": name == "near",
                "prompts": prompts,
                "teacher": {"mean_tokens": tokens, "cut_share": cut},
                "unranked": "" if n >= RANKABLE_PROMPTS else f"{n} judged prompts, and more are needed to rank",
                "digest": f"digest of {name}",
            }
            for name, prompts, tokens, cut in (("near", 144, 71.6, 0.34), ("far", 88, 82.3, 0.45))
        ],
        "training": {
            "prompt_set": "everyday",
            "prompts": 640,
            "digest": "digest of everyday",
            "sampling": {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 128},
            "mean_tokens": 93.6,
            "cut_share": 0.57,
        },
        "evaluation": {"sampling": SAMPLING},
        "methods": [
            {
                "name": "kd",
                "method": "kd",
                "controls": "",
                "token_matched": False,
                "why": "",
                "minimises": [],
                "settings": {**TRAINING, "start": "student", "learning_rate": 2e-4, "epochs": 3, "batch_size": 16},
                "artifact": "train/1",
                "facts": {"steps": 120, "tokens": 98765},
            },
            {
                "name": "dadpo",
                "method": "dadpo",
                "controls": "",
                "token_matched": False,
                "why": "",
                "minimises": [],
                "settings": {**TRAINING, "beta_reference": 0.1, "beta_teacher": 0.05, "teacher_margin": "own"},
                "artifact": "train/2",
                "facts": {"steps": 160, "tokens": 123456},
            },
            {
                "name": "ddpo-beta0.15",
                "method": "ddpo",
                "controls": "dadpo",
                "token_matched": False,
                "why": "the larger beta alone",
                "minimises": [],
                "settings": {**TRAINING, "beta": 0.15},
                "artifact": "train/3",
                "facts": {"steps": 161, "tokens": 123457},
            },
        ],
        "rows": rows,
        "judging": [judging(judge, n) for judge in ("both", "part-one", "part-two")],
        "agreement": [],
        "contrasts": [],
        "length": [],
        **{name: [] for name in ("measures", "measure_contrasts", "disagreements", "measured", "costs", "retention")},
        "config": {
            "student": "small",
            "teacher": "large",
            "methods": ["kd", "dadpo"],
            "contrasts": [],
            "judge": {"name": "both", "samples": 2},
            "train_prompts": "everyday",
            "train_sampling": {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 128},
            "eval_sampling": SAMPLING,
            "max_prompt_tokens": None,
            "scoring_precision": "bf16",
            "settings": {"kd": {}, "dadpo": {}},
            "seed": 4,
        },
    }


def as_results(run: dict[str, Any]) -> Results:
    """The same as the type that is rendered."""
    return Results.model_validate(run)


def all_results(runs: Iterable[dict[str, Any]]) -> list[Results]:
    return [as_results(run) for run in runs]


def contrast(scope: str = "near", **values: Any) -> dict[str, Any]:
    found = {
        "first": "dadpo",
        "second": "kd",
        "scope": scope,
        "judge": "both",
        "n": 140,
        "left_out": 4,
        "differing": 61,
        "difference": 0.2,
        "interval": [0.05, 0.35],
        "p": 0.004,
        "p_holm": 0.012,
        **values,
    }
    return {"distinguishable": found["p_holm"] is not None and found["p_holm"] <= 0.05, **found}


def control(method: str = "dadpo", prompt_set: str = "near", **values: Any) -> dict[str, Any]:
    return {
        "prompt_set": prompt_set,
        "method": method,
        "judge": "both",
        "n": 140,
        "unit": "tokens",
        "candidate_mean": 84.4,
        "reference_mean": 71.6,
        "spread": 30.2,
        "preference_rate": -0.2,
        "controlled_rate": -0.3,
        "controlled_interval": [-0.4, -0.2],
        "coefficient": 0.5,
        "coefficient_interval": [0.25, 0.75],
        "reason": "",
        **values,
    }


def refused(reason: str, method: str = "dadpo", prompt_set: str = "near", **values: Any) -> dict[str, Any]:
    none = dict.fromkeys(("controlled_rate", "controlled_interval", "coefficient", "coefficient_interval"))
    return control(method, prompt_set, **{**none, "reason": reason, **values})


def with_rows(run: dict[str, Any], method: str, **values: Any) -> dict[str, Any]:
    for found in run["rows"]:
        if found["method"] == method:
            found.update(values)
    return run
