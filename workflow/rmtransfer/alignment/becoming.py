"""What a policy became: the language, end, length and repetition of its held-out answers, and how far it is from its base.

Shapes: N instructions, S samples of each.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rmtransfer.alignment.answers import load_answers
from rmtransfer.alignment.intervals import ANY, CHANGE, LENGTH, SHARE, Draws, Statistic, difference, mean, ratio
from rmtransfer.alignment.win_rates import contender_sets, estimates, line, targets_of
from rmtransfer.kit.errors import StudyError
from rmtransfer.study.aligning import Contender
from rmtransfer.study.names import BASE, NOT_OURS
from rmtransfer.transfer.design import Design

_GRAM = 4
# Scripts that are written without spaces: Han, Kana, Thai, Lao, Khmer, Burmese. A token there is a character.
_UNSPACED = "\u3400-\u9fff\uf900-\ufaff\u3040-\u30ff\u0e00-\u0eff\u1780-\u17ff\u1000-\u109f"
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
# Measures of answers, and what their values and changes may be.
_MEASURES = {
    "told": (SHARE, CHANGE),
    "in_language": (SHARE, CHANGE),
    "finished": (SHARE, CHANGE),
    "empty": (SHARE, CHANGE),
    "characters": (LENGTH, ANY),
    "repetition": (SHARE, CHANGE),
}


def repetition(text: str) -> float:
    """The share of a text's 4-grams of tokens that stood in it before: 1 - distinct 4-grams / 4-grams.

    seq-rep-4 of Welleck et al. (arXiv 1908.04319, section 3). Tokens are words between spaces, punctuation with them, and
    single characters of scripts without spaces, whatever language the text should be in. NaN for fewer than four tokens.
    """
    tokens = _TOKEN.findall(text)
    grams = list(zip(*(tokens[i:] for i in range(_GRAM)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else float("nan")


class Written(NamedTuple):
    """What one writer's held-out answers in one language are like.

    Attributes:
        ids: of instructions.
        sums: measure to what its share is of, above and below the line, each [N].
        duplicates: [N], whether samples of an instruction are not all distinct; None for one sample.
    """

    ids: list[str]
    sums: Mapping[str, tuple[np.ndarray, np.ndarray]]
    duplicates: np.ndarray | None

    @classmethod
    def load(cls, path: Path, language: str, languages: Sequence[str]) -> "Written":
        """Read a file of answers, see :func:`rmtransfer.alignment.answers.load_answers`."""
        answers = load_answers(path, language, languages)
        frame = pd.read_parquet(path, columns=["id", "sample", "answer"])
        frame["text"] = frame["answer"].map(lambda messages: messages[-1]["content"])
        texts = frame.pivot(index="id", columns="sample", values="text").reindex_like(answers.places)
        empty = texts.map(lambda text: not text.strip()).to_numpy(float)
        repeated = texts.map(repetition).to_numpy(float)
        all_of_them = np.ones_like(empty)
        above_below = {
            "told": (answers.told, all_of_them),
            "in_language": (answers.in_language, answers.told),
            "finished": (answers.finished, all_of_them),
            "empty": (empty, all_of_them),
            "characters": (answers.characters, all_of_them),
            "repetition": (np.nan_to_num(repeated), (~np.isnan(repeated)).astype(float)),
        }
        several = texts.shape[1] > 1
        return cls(
            list(texts.index),
            {name: (above.sum(axis=1), below.sum(axis=1)) for name, (above, below) in above_below.items()},
            (texts.nunique(axis=1) < texts.shape[1]).to_numpy(float) if several else None,
        )

    def share(self, measure: str) -> Statistic:
        """Mean of a measure over the answers that have it."""
        return ratio(*self.sums[measure])


def became(
    policy: str,
    answers: Mapping[str, Mapping[str, Path]],
    drift: Mapping[str, Mapping[str, Path]],
    design: Design,
) -> Iterator[dict[str, Any]]:
    """Rows of ``tables/alignment.csv`` on a policy and what was aligned from it, without the policy.

    An aligned policy's changes are from the mean over all of the base's samples, instruction by instruction. ``kl`` is the mean
    over its answers of log pi(y|x) - log pi_base(y|x), in nats an answer: the Monte Carlo estimate of KL(pi || pi_base) where
    answers are drawn from pi itself, at temperature 1 from all tokens, and else of the same mean under what they are drawn from.

    Args:
        answers: the policy, and contender ids of what was aligned from it, to language to held-out answers.
        drift: contender id to language to ``id, sample, reward``.

    Raises:
        StudyError: an answer is missing, or its drift.
    """
    languages = list(answers[policy])
    written = {
        writer: {k: Written.load(path, k, languages) for k, path in files.items()} for writer, files in answers.items()
    }
    base = written.pop(policy)
    ids = base[languages[0]].ids
    for writer, of in {policy: base, **written}.items():
        for language, these in of.items():
            if these.ids != ids:
                raise StudyError(
                    f"{answers[writer][language]}: answers other instructions than {answers[policy][languages[0]]}; "
                    "delete the files and run again"
                )
    draws, targets = Draws(len(ids)), targets_of(base, design)

    def lines(
        keys: Mapping[str, Any],
        measure: str,
        bounds: tuple[float, float],
        statistics: Mapping[str, Sequence[Statistic]],
    ) -> Iterator[dict[str, Any]]:
        for language, found in estimates(draws, statistics, targets, bounds):
            yield line(keys, measure, language, found, len(ids))

    keys: dict[str, Any] = {"method": BASE, "n": None, "selector_base": NOT_OURS, "selector": NOT_OURS}
    keys |= {"judge": NOT_OURS, "relation": ""}
    for measure, (bounds, _) in _MEASURES.items():
        shares = {k: [these.share(measure)] for k, these in base.items()}
        yield from lines({**keys, "seeds": 1}, measure, bounds, shares)
    duplicates = {k: [mean(these.duplicates)] for k, these in base.items() if these.duplicates is not None}
    yield from lines({**keys, "seeds": 1}, "duplicates", SHARE, duplicates)
    for seeds in contender_sets(list(written)).values():
        keys |= {**Contender.parse(seeds[0]).columns, "seeds": len(seeds)}

        def by_seed(of: Callable[[str, str], Statistic], seeds: Sequence[str] = seeds) -> dict[str, list[Statistic]]:
            return {k: [of(contender, k) for contender in seeds] for k in languages}

        for measure, (bounds, of_change) in _MEASURES.items():

            def share(contender: str, language: str, measure: str = measure) -> Statistic:
                return written[contender][language].share(measure)

            def change(contender: str, language: str, measure: str = measure) -> Statistic:
                return difference(written[contender][language].share(measure), base[language].share(measure))

            yield from lines(keys, measure, bounds, by_seed(share))
            yield from lines(keys, f"{measure}_change", of_change, by_seed(change))
        if all(contender in drift for contender in seeds):
            yield from lines(keys, "kl", ANY, by_seed(lambda c, k: mean(_drift(drift[c][k], ids))))


def _drift(path: Path, ids: Sequence[str]) -> np.ndarray:
    """Mean over samples of each instruction's drift [N]."""
    found = pd.read_parquet(path).groupby("id")["reward"].mean().reindex(ids)
    if found.isna().any():
        raise StudyError(f"{path}: has no reward for {found.index[found.isna()][0]!r}; delete the file and run again")
    return found.to_numpy(float)
