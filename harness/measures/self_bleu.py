"""How alike the samples of a prompt are (Zhu et al. 2018, arXiv 1802.01886), by sacreBLEU (arXiv 1804.08771)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from harness.measures.measure import Answered, Measure, Values

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU


@cache
def _bleu() -> BLEU:
    """BLEU of single texts: n-grams up to four, or as long as the text is; orders without a match are smoothed ('exp').

    Its tokens are our words, as in the other measures of text: its own tokenizers take a line of Chinese or Japanese
    for one word, or have to be told the language."""
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(tokenize="none", effective_order=True)


def values(answered: Answered) -> Values:
    """[responses]: of each sample of a prompt, its BLEU, 0 to 100, with all the others as references; none where there
    is one sample. One without words has 100 where another has none either, else 0."""
    texts = [" ".join(word for answer in answers for word in answer) for answers in answered.words]
    if len(texts) < 2:
        return np.array([])
    return np.array([_against(text, [*texts[:place], *texts[place + 1 :]]) for place, text in enumerate(texts)])


def _against(text: str, others: Sequence[str]) -> float:
    if not text:
        return 100.0 * ("" in others)
    return float(_bleu().sentence_score(text, others).score)


SELF_BLEU = Measure(
    name="self_bleu",
    reads="responses",
    values=values,
    summary="BLEU of each sample of a prompt against the other samples: high where a system says one thing again",
    misses="the same thought in other words; it rises with the number of samples, and where one answer alone is right",
    unit="BLEU points (0 to 100)",
    group="text",
    head="self-BLEU",
    samples=2,
)
