"""Results of a run, written by hand: every figure is another one. For tests of what is made of results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness.results.schema import RESULTS_SCHEMA, UNTOLD, Results
from harness.statistics.rates import Rates

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

# where rows are told apart
RANKS = {"teacher (second sample)": [1, 1], "dadpo": [2, 3], "ddpo-beta0.15": [2, 3], "kd": [4, 4], "untrained": [5, 5]}


def components(**values: float) -> dict[str, float | None]:
    """Of one seed and one sample, unless said otherwise."""
    return {"prompt": 0.61, "seed": None, "residual": None, "within": None, **values}


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
        "components": components(),
        "rank": None,
        **more,
    }


def judging(judge: str, n: int, **counts: int) -> dict[str, Any]:
    none = dict.fromkeys(("unparsable", "failed", "skipped", "identical", "truncated", "flips", "both_orders"), 0)
    verdicts = {"judge": judge, "verdicts": 10 * n, "ok": 10 * n, "forms": {}, "ties": 110, "outcomes": 10 * n}
    return {**verdicts, **none, **counts}


def make_run(n: int = 32, proxy: bool = True, ranked: bool = False) -> dict[str, Any]:
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
        row(
            prompt_set,
            method,
            kinds.get(method, "method"),
            judge,
            n,
            round(rate - shift - part, 4),
            rank=RANKS[method] if ranked and judge == "both" else None,
        )
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
            {
                "name": name,
                "summary": summary,
                "misses": misses,
                "setup": {},
                "digest": f"digest of {name}",
                "relation": "",
            }
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
                "unranked": "" if ranked else UNTOLD,
                "detectable": detectable,
                "digest": f"digest of {name}",
            }
            for name, prompts, tokens, cut, detectable in (
                ("near", 144, 71.6, 0.34, 0.213),
                ("far", 88, 82.3, 0.45, 0.094),
            )
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
        **{name: [] for name in ("stamps", "differing", "luck", "versus")},
        "first_measure": "",
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
        "seeds": 1,
        "difference": 0.2,
        "error": 0.0759,
        "degrees": 139.0,
        "interval": [0.05, 0.35],
        "p": 0.004,
        "p_holm": 0.012,
        "detectable": 0.214,
        "family": "methods",
        "declared": True,
        "equivalence": None,
        "margin_declared": False,
        "primary": False,
        **values,
    }
    return {"distinguishable": found["p_holm"] is not None and found["p_holm"] <= 0.05, **found}


def luck(measure: str = "", **values: Any) -> dict[str, Any]:
    return {
        "measure": measure,
        "own": 0.0288,
        "own_degrees": 8,
        "shared": 0.1401,
        "shared_degrees": 2,
        "rows": 5,
        "seeds": 3,
        "prompts": 48,
        **values,
    }


def of_seeds(run: dict[str, Any], *seeds: int, **more: Any) -> dict[str, Any]:
    """The same of several seeds, whose moves are known, in every row and contrast."""
    found = {
        **run,
        "runs": [{**run["runs"][0], "seed": seed} for seed in seeds],
        "luck": [luck(), *(luck(facts["name"], own=0.0, shared=0.021) for facts in run["measured"])],
        **more,
    }
    for name in ("contrasts", "measure_contrasts"):
        found[name] = [{**one, "seeds": len(seeds)} for one in found[name]]
    for name in ("rows", "measures"):
        found[name] = [{**one, "by_run": one["by_run"] * len(seeds)} for one in found[name]]
    return found


def versus(first: str = "dadpo", second: str = "kd", prompt_set: str = "near", **values: Any) -> dict[str, Any]:
    """Two rows judged against each other."""
    rates = row(prompt_set, first, "method", "both", 32, 0.125)
    known = {name: rates[name] for name in (*Rates.model_fields, "prompt_set", "in_domain", "judge")}
    flips = {"count": 5, "n": 32, "share": 5 / 32, "interval": [0.07, 0.32]}
    return {"first": first, "second": second, **known, "wins": 14, "ties": 8, "losses": 10, "flips": flips, **values}


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
        "difficulty": True,
        "reason": "",
        **values,
    }


def refused(reason: str, method: str = "dadpo", prompt_set: str = "near", **values: Any) -> dict[str, Any]:
    fitted = ("controlled_rate", "controlled_interval", "coefficient", "coefficient_interval", "difficulty")
    none = dict.fromkeys(fitted)
    return control(method, prompt_set, **{**none, "reason": reason, **values})


def with_rows(run: dict[str, Any], method: str, **values: Any) -> dict[str, Any]:
    for found in run["rows"]:
        if found["method"] == method:
            found.update(values)
    return run


# ---- measures

# name, head, group, unit, better, bound that it has where a server gives the top k; the value of `untrained` on `near`
MEASURES: tuple[tuple[str, str, str, str, str, str, float], ...] = (
    ("forward_kl", "forward KL", "fidelity", "nats a token", "lower", "lower", 0.4831),
    ("reverse_kl", "reverse KL", "fidelity", "nats a token", "lower", "lower", 0.5217),
    ("acceptance", "acceptance", "fidelity", "share of tokens", "higher", "upper", 0.7012),
    ("accepted_length", "accepted length", "fidelity", "tokens of 4 drafted", "higher", "exact", 2.113),
    ("top1", "same top token", "fidelity", "share of tokens", "higher", "exact", 0.7424),
    ("nll", "NLL", "fidelity", "nats a token", "lower", "exact", 1.7321),
    ("margin_accuracy", "pairs ranked right", "fidelity", "share of pairs", "higher", "exact", 0.5),
    ("length", "tokens", "text", "tokens a response", "neither", "exact", 40.25),
    ("cut", "cut", "text", "share of responses", "neither", "exact", 0.375),
    ("ended", "ended by itself", "text", "share of responses", "neither", "exact", 0.5625),
    ("distinct_1", "distinct-1", "text", "share of words", "neither", "exact", 0.6321),
    ("distinct_2", "distinct-2", "text", "share of word pairs", "neither", "exact", 0.8734),
    ("repetition", "in loops", "text", "share of words", "lower", "exact", 0.0912),
    ("self_bleu", "self-BLEU", "text", "BLEU points (0 to 100)", "neither", "exact", 11.25),
    ("prompt_repetition", "repeats the prompt", "text", "share of responses", "neither", "exact", 0.0312),
)
READS = {
    **dict.fromkeys(("forward_kl", "acceptance", "accepted_length", "top1", "nll"), "teacher_tokens"),
    "reverse_kl": "own_tokens",
    "margin_accuracy": "pairs",
}
# how far from `untrained` a row is, in the direction that the measure has for it
MEASURED = {"teacher (second sample)": 0.06, "kd": -0.162, "dadpo": -0.151, "ddpo-beta0.15": -0.1485, "untrained": 0.0}
PAIRS_OF_DPO = ("dadpo", "ddpo-beta0.15")


def measure_facts(name: str, **values: Any) -> dict[str, Any]:
    """A measure as results have it."""
    (_, head, group, unit, better, _, _) = next(one for one in MEASURES if one[0] == name)
    said = {"name": name, "head": head, "group": group, "unit": unit, "better": better, "bound": "exact"}
    said |= {"digest": f"digest of {name}", "teacher_bound": "exact", "reads": READS.get(name, "responses")}
    said["aside"] = name in ("ended", "distinct_1")
    return {**said, "summary": f"what {head} is", "misses": f"what {head} does not see", **values}


def measure_row(measure: str, method: str, kind: str, prompt_set: str, value: float, **values: Any) -> dict[str, Any]:
    return {
        "measure": measure,
        "prompt_set": prompt_set,
        "in_domain": prompt_set == "near",
        "method": method,
        "kind": kind,
        "value": value,
        "interval": [value * 0.95, value * 1.05],
        "count": 5904,
        "prompts": 48,
        "by_run": [value],
        "spread": None,
        "components": components(),
        "own_loss": False,
        **values,
    }


def measure_contrast(
    measure: str = "forward_kl", first: str = "dadpo", second: str = "kd", scope: str = "near", **values: Any
) -> dict[str, Any]:
    found = {
        "measure": measure,
        "first": first,
        "second": second,
        "scope": scope,
        "n": 48,
        "left_out": 0,
        "differing": 47,
        "seeds": 1,
        "difference": 0.0025,
        "error": 0.00055,
        "degrees": 47.0,
        "interval": [0.0014, 0.0036],
        "p": 0.0001,
        "p_holm": 0.0004,
        "detectable": 0.00172,
        "family": "methods",
        "declared": True,
        "better": second,
        **values,
    }
    return {"distinguishable": found["p_holm"] is not None and found["p_holm"] <= 0.05, **found}


def cost_facts(method: str, **values: Any) -> dict[str, Any]:
    return {
        "method": method,
        "trained_tokens": 98765,
        "teacher_read_tokens": 45678,
        "teacher_sampled_tokens": 6543,
        "student_sampled_tokens": 5432,
        "seconds": {"respond": 61.25, "train": 123.5},
        "peak_memory": 1_234_567_890,
        "device": "cpu",
        **values,
    }


def with_measures(run: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The same run measured: every measure of every system that has it, contrasts, costs; `far` a bit further off."""
    kinds = {found["method"]: found["kind"] for found in run["rows"]}
    rows = []
    for prompt_set, further in (("near", 0.0), ("far", 0.05)):
        for name, _, group, unit, better, _, untrained in MEASURES:
            sign = 1 if better == "lower" else -1
            top = 1.0 if unit.startswith("share") else float("inf")
            for method, shift in MEASURED.items():
                if group == "fidelity" and kinds[method] == "ceiling":
                    continue
                if name == "margin_accuracy" and method not in PAIRS_OF_DPO:
                    continue
                value = min(top, round(untrained * (1 + sign * (shift + further)), 5))
                own = (name, method) == ("forward_kl", "kd")
                rows.append(measure_row(name, method, kinds[method], prompt_set, value, own_loss=own))
            if group == "text" or name == "nll":
                value = round(untrained * (0.7 + further), 5)
                rows.append(measure_row(name, "teacher", "teacher", prompt_set, value))
    made = [
        measure_contrast(name, "dadpo", second, scope, **found)
        for name, _, _, unit, better, _, _ in MEASURES
        for scope in ("near", "far")
        for second, found in _CONTRASTS.items()
        if name != "margin_accuracy" or second in PAIRS_OF_DPO
    ]
    return {
        **run,
        "measured": [measure_facts(name) for name, *_ in MEASURES],
        "first_measure": "forward_kl",
        "measures": rows,
        "measure_contrasts": made,
        "costs": [cost_facts(entry["name"]) for entry in run["methods"]],
        **more,
    }


_CONTRASTS: dict[str, dict[str, Any]] = {
    "kd": {},
    "ddpo-beta0.15": {
        "difference": -0.0007,
        "interval": [-0.0021, 0.0008],
        "p": 0.34,
        "p_holm": 0.34,
        "better": "",
    },
}


def harm(method: str = "dadpo", measure: str = "forward_kl", scope: str = "near", **values: Any) -> dict[str, Any]:
    known = {"n": 48, "left_out": 0, "differing": 48, "seeds": 1, "error": 0.035, "degrees": 47.0, "looks": 6}
    told = {"difference": 0.12, "interval": [0.05, 0.19], "p": 0.001, "p_holm": 0.006, "detectable": 0.12}
    return {"method": method, "measure": measure, "scope": scope, **known, **told, **values}


def disagreement(**values: Any) -> dict[str, Any]:
    return {
        "first": "dadpo",
        "second": "kd",
        "scope": "near",
        "for_first": ["both", "top1"],
        "for_second": ["forward_kl"],
        **values,
    }


def retention(method: str, kind: str, task: str = "sums", **values: Any) -> dict[str, Any]:
    return {
        "method": method,
        "kind": kind,
        "task": task,
        "digest": f"digest of {task}",
        "metric": "acc,none",
        "value": 0.412,
        "standard_error": 0.0156,
        "n": 200,
        "higher_is_better": True,
        **values,
    }


def token_views(texts: Sequence[str] = ("Once", " upon", " a", " time", ".\n", "The", " end")) -> dict[str, Any]:
    """What a run keeps token by token: every text is a token of every response."""
    methods = ("kd", "dadpo")
    kl = {
        name: [round(0.013 * 2.1**place + shift, 4) for place in range(len(texts))]
        for shift, name in enumerate(methods)
    }
    response = {"sample": 0, "tokens": len(texts), "pieces": list(texts)}
    views = [
        {"prompt_set": name, "prompt_id": key, "writer": "teacher", **response, "kl": kl}
        for name in ("near", "far")
        for key in ("p0", "p1")
    ]
    views += [{**views[0], "writer": name, "kl": {name: kl[name]}} for name in methods]
    who = [("kd", "teacher"), ("dadpo", "teacher"), ("kd", "kd")]
    positions = [
        {
            "prompt_set": "near",
            "method": method,
            "writer": writer,
            "width": 1,
            "total": [9 * value for value in kl[method]],
            "count": [9] * len(texts),
        }
        for method, writer in who
    ]
    departures = [
        {
            "prompt_set": "near",
            "method": method,
            "writer": writer,
            "prompt_id": "p1",
            "sample": 0,
            "position": place,
            "kl": 5.5 - place,
            "before": "".join(texts[:place]),
            "token": texts[place],
            "teacher_top": texts[0],
            "student_top": texts[-1],
        }
        for method, writer in who
        for place in range(min(3, len(texts)))
    ]
    return {"views": views, "positions": positions, "departures": departures}
