"""What is set against what: contrasts, the primary one, and rows that are judged against each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from harness.config import Config, resolve
from harness.core.errors import UserError
from harness.methods import Control, methods
from harness.run.rows import (
    ANCHORS,
    CEILING,
    UNTRAINED,
    Kind,
    contrasts_of,
    domains_of,
    entries_of,
    is_anchor,
    primary_of,
    primary_scope,
    versus_of,
)

Pair = tuple[str, str]
DADPO = [("dadpo", "ddpo-beta0.15"), ("dadpo", UNTRAINED), (CEILING, "dadpo")]


def configured(**layer: Any) -> Config:
    return resolve([{"student": "s", "teacher": "t", "methods": ["dadpo"], "controls": "basic"}, layer])


def found(**layer: Any) -> tuple[tuple[Pair, ...], Pair | None]:
    config = configured(**layer)
    entries = entries_of(config)
    contrasts = contrasts_of(config, entries)
    return contrasts, primary_of(config, entries, contrasts)


def test_a_method_is_set_against_its_controls_the_start_and_the_ceiling() -> None:
    assert found() == (tuple(DADPO), DADPO[0])


def test_and_against_the_methods_that_it_is_compared_with() -> None:
    contrasts, primary = found(methods=["kd", "sft"], controls="none")
    assert contrasts == (
        ("kd", "sft"),
        ("kd", UNTRAINED),
        (CEILING, "kd"),
        ("sft", UNTRAINED),
        (CEILING, "sft"),
    )
    assert primary is None


@pytest.mark.parametrize("methods", [["dadpo", "kd"], ["kd", "dadpo"]], ids=str)
def test_the_primary_contrast_is_of_the_control_that_a_claim_travels_with(methods: list[str]) -> None:
    """KD has a control of the full level alone, which is no claim."""
    contrasts, primary = found(methods=methods, controls="full")
    assert ("kd", "kd-from-sft") in contrasts and primary == ("dadpo", "ddpo-beta0.15")


def test_the_control_may_be_a_method_that_was_asked_for() -> None:
    settings = {"ddpo": {"beta": 0.15}}
    contrasts, primary = found(methods=["dadpo", "ddpo"], settings=settings)
    assert ("dadpo", "ddpo") in contrasts and primary == ("dadpo", "ddpo")


def test_a_control_for_as_many_tokens_is_of_the_row_whose_tokens_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two methods that each bring SFT for as many tokens as theirs have two rows of it: they differ in nothing else."""
    matched = Control("sft-as-many-tokens", "sft", {"start": "sft"}, "", match_tokens=True)
    for name in ("kd", "ddpo"):
        other = replace(methods.get(name), controls=lambda _settings: [matched])
        monkeypatch.setitem(methods._all(), name, other)
    asked = configured(methods=["kd", "ddpo"])
    entries = entries_of(asked)
    assert [(entry.name, entry.controls) for entry in entries if entry.match] == [
        ("sft-as-many-tokens", "kd"),
        ("sft-as-many-tokens (for ddpo)", "ddpo"),
    ]
    contrasts = contrasts_of(asked, entries)
    assert ("kd", "sft-as-many-tokens") in contrasts and ("ddpo", "sft-as-many-tokens (for ddpo)") in contrasts
    assert ("ddpo", "sft-as-many-tokens") not in contrasts


def test_the_contrasts_that_a_configuration_names_are_all() -> None:
    assert found(contrasts=[["dadpo", UNTRAINED]]) == ((("dadpo", UNTRAINED),), None)
    assert found(contrasts=[["dadpo", "ddpo-beta0.15"]])[1] == ("dadpo", "ddpo-beta0.15")
    assert found(contrasts=[]) == ((), None)


def test_the_primary_one_that_is_named_is_among_them() -> None:
    contrasts, primary = found(primary=["dadpo", UNTRAINED])
    assert primary == ("dadpo", UNTRAINED) and contrasts == (primary, DADPO[0], DADPO[2])
    contrasts, primary = found(primary=[CEILING, "ddpo-beta0.15"], contrasts=[])
    assert contrasts == (primary,) == ((CEILING, "ddpo-beta0.15"),)
    # the other way round it takes the place of the method's own
    contrasts, primary = found(primary=["ddpo-beta0.15", "dadpo"])
    assert contrasts == (("ddpo-beta0.15", "dadpo"), *DADPO[1:])


def test_what_was_resolved_once_is_resolved_to_the_same_again() -> None:
    contrasts, primary = found()
    assert found(contrasts=contrasts, primary=primary) == (contrasts, primary)


def test_rows_that_are_judged_against_each_other_are_those_named() -> None:
    config = configured(versus=[["dadpo", "ddpo-beta0.15"]])
    assert versus_of(config, entries_of(config)) == (("dadpo", "ddpo-beta0.15"),)
    assert versus_of(configured(), entries_of(configured())) == ()


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({"primary": ["dadpo", "nobody"]}, "primary: the board has no row 'nobody'"),
        ({"primary": ["dadpo", "ddpo-beta0.1"]}, "did you mean 'ddpo-beta0.15'"),
        ({"primary": ["dadpo", "dadpo"]}, "primary: 'dadpo' is set against itself"),
        ({"contrasts": [["kd", "dadpo"]]}, "contrasts: the board has no row 'kd'"),
        (
            {"contrasts": [["dadpo", UNTRAINED], [UNTRAINED, "dadpo"]]},
            f"contrasts: 'dadpo' and '{UNTRAINED}' are there in both directions; name them once",
        ),
        (
            {"primary": ["ddpo-beta0.15", "dadpo"], "contrasts": [["dadpo", "ddpo-beta0.15"]]},
            "are there in both directions; name them once",
        ),
        ({"versus": [["dadpo", "kd"]]}, "versus: the board has no row 'kd'"),
    ],
    ids=str,
)
def test_a_row_that_the_board_will_not_have_is_refused(layer: dict[str, Any], said: str) -> None:
    config = configured(**layer)
    entries = entries_of(config)
    with pytest.raises(UserError) as caught:
        contrasts_of(config, entries)
        versus_of(config, entries)
    assert said in str(caught.value) and "\n" not in str(caught.value)


# ---- sets, and rows that no training made


@pytest.mark.parametrize(
    ("sets", "scope"),
    [
        ({"home": True, "far": False}, "home"),
        ({"far": False, "home": True, "near": True}, "in-domain"),
        ({"far": False}, "far"),
        ({"far": False, "off": False}, "out-of-domain"),
    ],
)
def test_the_primary_contrast_is_in_domain_where_there_is_such_a_set(sets: dict[str, bool], scope: str) -> None:
    assert primary_scope(sets) == scope


def test_a_domain_has_its_sets_in_their_order() -> None:
    sets = {"far": False, "near": True, "off": False}
    assert domains_of(sets) == {"in-domain": ["near"], "out-of-domain": ["far", "off"]}
    assert domains_of({}) == {"in-domain": [], "out-of-domain": []}


def test_the_start_and_the_ceiling_are_anchors() -> None:
    assert [*ANCHORS] == [UNTRAINED, CEILING]
    assert [kind for kind in get_args(Kind) if is_anchor(kind)] == ["ceiling", "untrained"]


def matches(**layer: Any) -> dict[str, str]:
    return {entry.name: entry.match for entry in entries_of(configured(**layer))}


def test_all_rows_take_as_many_tokens_as_the_one_that_is_named() -> None:
    assert matches(methods=["sft", "kd", "dadpo"], match="dadpo") == {
        "sft": "dadpo",
        "kd": "dadpo",
        "dadpo": "",
        "ddpo-beta0.15": "dadpo",
    }


def test_a_control_that_equals_the_named_row_is_that_row() -> None:
    settings = {"ddpo": {"beta": 0.15}}
    assert matches(methods=["dadpo", "ddpo"], settings=settings, match="ddpo") == {"dadpo": "ddpo", "ddpo": ""}
    assert found(methods=["dadpo", "ddpo"], settings=settings, match="ddpo")[1] == ("dadpo", "ddpo")


def test_a_control_for_as_many_tokens_as_a_matched_row_takes_those_of_the_named_one() -> None:
    """One training then serves each that has such a control, and no step beyond a budget is counted twice."""
    of = matches(methods=["dadpo", "gkd", "opd"], match="dadpo")
    assert of["gkd"] == of["opd"] == of["sft-as-many-tokens-gkd"] == "dadpo" and "sft-as-many-tokens-opd" not in of
    # the named row's own control takes that row's
    assert matches(methods=["gkd"], match="gkd") == {
        "gkd": "",
        "sft-as-many-tokens-gkd": "gkd",
        "gkd-stored": "gkd",
    }
