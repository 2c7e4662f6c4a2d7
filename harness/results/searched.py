"""How settings were chosen, as results say it; and whether what they say follows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isclose, isfinite
from typing import Any

from harness.config.study import OWN_LOSS
from harness.core.records import Ref
from harness.measures import measures
from harness.methods import methods
from harness.results.schema import FoundFacts, Results, SearchFacts, TryFacts
from harness.run.searching import Search, Try, Valued, at_edge, tries_of
from harness.store import Store

Best = Sequence[TryFacts]


def search_facts(search: Search, left_out: Mapping[str, str], store: Store) -> SearchFacts:
    """Of a search whose tries are all made. left_out: validation prompts without an answer."""
    criterion, measure = search.criterion, search.criterion.measure
    return SearchFacts(
        criterion=criterion.name,
        head=(measure.head or measure.name) if measure else "own loss",
        better=measure.better if measure else "lower",
        unit=measure.unit if measure else "",
        seed=search.seed,
        prompt_set=search.validation.name,
        digest=search.validation.digest,
        prompts=len(search.validation.prompts) - len(left_out),
        share=search.share,
        left_out=dict(left_out),
        own_losses=_own_losses(criterion.name, search.found),
        tries=tuple(_try(one, _found(search, one.method), search, store) for one in search.tries),
        found=tuple(
            FoundFacts(
                method=name,
                point=dict(point),
                edge=at_edge([one.point for one in search.of(name)], point),
            )
            for name, point in search.found.items()
        ),
    )


def _own_losses(criterion: str, names: Iterable[str]) -> tuple[str, ...]:
    """Those of methods, which are known here, whose own loss a criterion is."""
    return tuple(name for name in names if criterion == OWN_LOSS or criterion in methods.get(name).minimises)


def _found(search: Search, method: str) -> Try:
    return next(one for one in search.of(method) if one.point == search.found[method])


def _try(one: Try, best: Try, search: Search, store: Store) -> TryFacts:
    valued, of_best = search.values[one.value], search.values[best.value]
    finite = isfinite(valued.value)
    return TryFacts(
        method=one.method,
        point=dict(one.point),
        value=valued.value if finite else None,
        standard_error=valued.standard_error if finite else None,
        apart=valued.apart(of_best) if finite and one is not best else None,
        tokens=int(store.read(one.training).facts["tokens"]) if store.has(one.training) else None,
        seconds=round(sum(store.read(ref).manifest["seconds"] for ref in one.own if store.has(ref)), 3),
        training=one.training,
        measured=one.value,
    )


def not_following(results: Results, search: SearchFacts, trained: Mapping[Ref, Mapping[str, object]]) -> Iterator[str]:
    """What of a search does not follow from its own tries, from the configuration, from the measures and methods that
    are known here, or from what trainings say of themselves (`trained`, by their artifacts), one line each."""
    yield from _unfair(search)
    counts = {name: len(search.of(name)) for name in dict.fromkeys(one.method for one in search.tries)}
    if len(set(counts.values())) > 1:
        yield f"methods have different numbers of tries: {counts}"
    for name in counts.keys() ^ {one.method for one in search.found}:
        yield f"{name} was tried and nothing was found for it, or the other way round"
    for one in search.tries:
        if (trained.get(one.training) or {}).get("tokens") != one.tokens and one.value is not None:
            yield f"the try of {one.method} with {one.point} took other tokens than its training {one.training} says"
    for found in search.found:
        tries = search.of(found.method)
        best = _best(tries, search)
        if best is None or best.point != found.point:
            yield f"{found.method} was found with {found.point}, and the best of its tries is another"
        if at_edge([one.point for one in tries], found.point) != found.edge:
            yield f"{found.method}: what lies at the edge of what was tried is not {', '.join(found.edge) or 'nothing'}"
        settings = results.configured.settings.get(found.method, {})
        for key, value in found.point.items():
            if settings.get(key.rpartition(".")[2]) != value:
                yield f"{found.method} was found with {key} = {value}, and the configuration has another"


def _unfair(search: SearchFacts) -> Iterator[str]:
    """What is said of the criterion, where it is known here: which way is better, and whose own loss it is."""
    name = search.criterion
    if name != OWN_LOSS and name not in measures:
        return
    better = "lower" if name == OWN_LOSS else measures.get(name).better
    if better != search.better:
        yield f"the search takes {search.better} {name} for better; better is {better}"
    known = [one.method for one in search.found if one.method in methods]
    own, said = _own_losses(name, known), [one for one in search.own_losses if one in known]
    if sorted(own) != sorted(said):
        yield (
            f"{name} is the own loss of {', '.join(own) or 'no method'} here, and the search says "
            f"{', '.join(said) or 'of none'}"
        )


def _best(tries: Best, search: SearchFacts) -> TryFacts | None:
    finite = [one for one in tries if one.value is not None]
    sign = -1 if search.better == "higher" else 1
    return min(finite, key=lambda one: sign * (one.value or 0.0), default=None)


def not_as_declared(
    results: Results, search: SearchFacts | None, seed: int, axes: Sequence[Mapping[str, Sequence[Any]]], by: str
) -> Iterator[str]:
    """In what a run's search is not what its study declares: every method that a row is trained with, at every point of
    the axes, by the criterion, at the first seed."""
    if search is None or not axes:
        if search is not None or axes:
            yield "tries are declared, and none are there" if axes else "no tries are declared, and some are there"
        return
    if (search.criterion, search.seed) != (by, seed):
        yield f"tries are chosen by {search.criterion} at seed {search.seed}; declared is {by} at seed {seed}"
    for method in dict.fromkeys([*(row.method for row in results.methods), *(one.method for one in search.tries)]):
        if [one.point for one in search.of(method)] != tries_of(method, axes):
            yield f"{method} was tried with other settings than are declared"


def other_values(search: SearchFacts, values: Mapping[Ref, Valued]) -> Iterator[str]:
    """Tries whose values are not what their artifacts say (`values`, of those that are here)."""
    for one in search.tries:
        valued = values.get(one.measured)
        if valued is None:
            continue
        same = isclose(one.value, valued.value, rel_tol=1e-9, abs_tol=1e-12) if one.value is not None else False
        if not same and (one.value is not None or isfinite(valued.value)):
            yield f"the try of {one.method} with {one.point} is worth {one.value}; of its artifact it is {valued.value}"
