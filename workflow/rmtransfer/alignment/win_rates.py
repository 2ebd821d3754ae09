"""Win rates of contenders against the base policy, by judge: raw, length-controlled, and how far judges can be trusted.

Shapes: N instructions, K seeds of a selector, D draws of instructions.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rmtransfer.alignment.intervals import ANY, CHANGE, SHARE, Draws, Found, Statistic, difference, mean, ratio
from rmtransfer.alignment.judges import BASELINE, Bench
from rmtransfer.kit.errors import StudyError
from rmtransfer.study.aligning import Contender
from rmtransfer.study.names import ALL, IN_LANGUAGE, JUDGEMENTS, NOT_OURS
from rmtransfer.study.study import RewardModelId
from rmtransfer.texts.corpus import load_rows, same_answers
from rmtransfer.transfer.design import Design

TARGETS = "targets"  # in place of a language: the mean over the target languages
DEPARTS = 0.1  # from the raw win rate, from which on a length-controlled one is flagged
_RIDGE = 1e-5
_STEPS = 200
_NEAR = 1e-5  # a step as short as this squares what is left
_CACHED = 100_000  # numbers that a processor's cache holds several times
_FIRST, _SECOND = "A", "B"  # verdicts of a pairwise judge: which place wins
_ORDERS = ("chosen_first", "rejected_first")

Verdicts = Mapping[RewardModelId, Mapping[str, Path]]  # judge model to language to its rewards of comparisons
_ByLanguage = dict[str, list[np.ndarray]]  # outcomes [N] of each seed


class Comparisons:
    """What of one policy's comparisons is known before anyone judges; arrays [contenders, N].

    Attributes:
        contenders: ids, in the order of the file.
        ids: instructions, in order.
        alike: language to where both answers are equal, which is a tie whatever a judge says.
        longer: language to characters (Unicode code points) of the contender's answer less those of the base's.

    Raises:
        StudyError: languages differ in contenders or instructions, or a comparison is missing.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.alike: dict[str, np.ndarray] = {}
        self.longer: dict[str, np.ndarray] = {}
        self.contenders: list[str] = []
        self.ids: list[str] = []
        for language, path in files.items():
            rows = load_rows(path)
            contenders = list(dict.fromkeys(row["subset"] for row in rows))
            ids = sorted({row["cluster"] for row in rows})
            if self.ids and (sorted(contenders), ids) != (sorted(self.contenders), self.ids):
                raise StudyError(
                    f"{path}: compares other contenders or instructions than {next(iter(files.values()))}; delete the files "
                    "and run again"
                )
            self.contenders, self.ids = self.contenders or contenders, ids
            frame = pd.DataFrame(
                {
                    "subset": [row["subset"] for row in rows],
                    "cluster": [row["cluster"] for row in rows],
                    "alike": [float(same_answers(row)) for row in rows],
                    "longer": [float(_characters(row["chosen"]) - _characters(row["rejected"])) for row in rows],
                }
            )
            self.alike[language] = self.matrix(frame, "alike", path) == 1
            self.longer[language] = self.matrix(frame, "longer", path)

    def matrix(self, frame: pd.DataFrame, column: str, path: Path, given: np.ndarray | None = None) -> np.ndarray:
        """A column of rows ``subset, cluster`` as [contenders, N].

        Args:
            given: [contenders, N] where the row may be missing.

        Raises:
            StudyError: another row is.
        """
        wide = frame.pivot(index="subset", columns="cluster", values=column).reindex(self.contenders, columns=self.ids)
        found = wide.to_numpy(float)
        gaps = np.argwhere(np.isnan(found) & (~given if given is not None else True))
        if len(gaps):
            contender, instruction = gaps[0]
            raise StudyError(
                f"{path}: has no row {self.contenders[contender]}::{self.ids[instruction]}; delete the file and run again"
            )
        return found


def outcomes(verdicts: pd.DataFrame, path: Path, comparisons: Comparisons, language: str) -> np.ndarray:
    """What a judge makes of each comparison [contenders, N]: 1 the contender wins, 0 the base does, 1/2 a tie.

    A pairwise judge's rewards are shares of orders won, so that one who follows the order sees a tie, and so does one whose
    replies hold no verdict. Equal answers are a tie, which nobody need have judged.

    Args:
        verdicts: rows ``subset, cluster, reward_chosen, reward_rejected``.
        path: where they are from, for messages.
    """
    won = 0.5 + 0.5 * np.sign(verdicts["reward_chosen"] - verdicts["reward_rejected"])
    alike = comparisons.alike[language]
    return np.where(alike, 0.5, comparisons.matrix(verdicts.assign(won=won), "won", path, alike))


def length_controlled(outcomes: np.ndarray, longer: np.ndarray) -> Statistic:
    """The win rate if both answers were equally long.

    p(contender wins) = sigmoid(b0 + b1 tanh(d / sd)), fitted to the outcomes by maximum likelihood, at d = 0: sigmoid(b0)
    (Dubois et al., arXiv 2404.04475, section 3, without its difficulty of an instruction, which exists for 805 English ones
    alone). A tie is an outcome of 1/2 and a panel's may be any share: a fractional response (Papke and Wooldridge, Journal of
    Applied Econometrics 11, 1996). sd is the standard deviation of d over instructions (N - 1 in the denominator), the same in
    all draws: a unit. If nothing differs in length, or no outcome from another, it is their mean.

    Fits of all draws at once, by Newton's steps damped as in Sun and Tran-Dinh (Mathematical Programming 178, 2019), which
    reach the maximum from anywhere. So that there is one where length separates wins from losses, the log-likelihood has
    1e-5 / 2 (b0^2 + b1^2) taken away, which moves other win rates by less than 0.0001.

    Args:
        outcomes: [N], from 0 to 1.
        longer: [N], d: length of the contender's answer less the base's.
    """
    deviation = longer.std(ddof=1) if len(longer) > 1 else 0.0
    if not deviation > 0 or (outcomes == outcomes[0]).all():
        return mean(outcomes)
    features = np.stack([np.ones(len(longer)), np.tanh(longer / deviation)])

    def statistic(weights: np.ndarray) -> np.ndarray:
        return _sigmoid(_fitted(features, outcomes, weights)[:, 0])

    return statistic


def _fitted(features: np.ndarray, outcomes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """b0 and b1 [D, 2] of logistic models of outcomes [N] by features [2, N], with weights [D, N]."""
    start = _ascended(features, outcomes, weights.mean(axis=0, keepdims=True), np.zeros((1, 2)))
    block = max(1, _CACHED // weights.shape[1])
    blocks = [weights[i : i + block] for i in range(0, len(weights), block)]
    return np.concatenate([_ascended(features, outcomes, w, np.repeat(start, len(w), axis=0)) for w in blocks])


def _ascended(features: np.ndarray, outcomes: np.ndarray, weights: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Coefficients [D, 2] of the maximum, from those to start at."""
    x = features[1]
    steep = float(np.sqrt((features**2).sum(axis=0)).max())
    left = np.arange(len(weights))
    for _ in range(_STEPS):
        b, w = coefficients[left], weights[left]
        p = _sigmoid(b @ features)
        error, curve = w * (outcomes - p), w * (p * (1 - p))
        g0, g1 = error.sum(axis=1) - _RIDGE * b[:, 0], error @ x - _RIDGE * b[:, 1]
        h00, h01, h11 = curve.sum(axis=1) + _RIDGE, curve @ x, curve @ x**2 + _RIDGE
        step = np.stack([h11 * g0 - h01 * g1, h00 * g1 - h01 * g0], axis=1) / (h00 * h11 - h01**2)[:, None]
        size = steep * np.sqrt((step**2).sum(axis=1))
        damping = np.divide(np.log1p(size), size, out=np.ones_like(size), where=size > 0)
        coefficients[left] = b + damping[:, None] * step
        left = left[size > _NEAR]
        if not len(left):
            break
    return coefficients


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(values / 2))


def cohen(first: np.ndarray, second: np.ndarray) -> Statistic:
    """Cohen's kappa of two judgements [N] with win, tie and loss as categories; NaN where all are in one."""
    both = (_categories(first)[:, :, None] * _categories(second)[:, None, :]).reshape(len(first), -1)

    def statistic(weights: np.ndarray) -> np.ndarray:
        shares = (weights @ both).reshape(len(weights), 3, 3) / weights.sum(axis=1)[:, None, None]
        agreement = np.einsum("dii->d", shares)
        return _beyond(agreement, (shares.sum(axis=1) * shares.sum(axis=2)).sum(axis=1))

    return statistic


def fleiss(judgements: Sequence[np.ndarray]) -> Statistic:
    """Fleiss' kappa (Psychological Bulletin 76, 1971) of several judgements [N], categories as in :func:`cohen`."""
    raters = len(judgements)
    counts = np.sum([_categories(these) for these in judgements], axis=0)
    agreeing = ((counts**2).sum(axis=1) - raters) / (raters * (raters - 1))

    def statistic(weights: np.ndarray) -> np.ndarray:
        total = weights.sum(axis=1)
        shares = weights @ counts / (raters * total)[:, None]
        return _beyond(weights @ agreeing / total, (shares**2).sum(axis=1))

    return statistic


def _beyond(agreement: np.ndarray, chance: np.ndarray) -> np.ndarray:
    defined = chance < 1 - 1e-12
    return np.where(defined, (agreement - chance) / np.where(defined, 1 - chance, 1), np.nan)


def _categories(outcomes: np.ndarray) -> np.ndarray:
    """Loss, tie and win as [N, 3] of 0 and 1; a panel's mean goes to the side that it is nearer to."""
    signs = np.sign(np.round(outcomes - 0.5, 9)).astype(int) + 1
    return np.eye(3)[signs]


class WinRates:
    """Everything that judges say of one policy's contenders, as rows of ``tables/alignment.csv`` without the policy.

    Args:
        files: language to comparisons.
        verdicts: of all judge models; a judge's judgements lie beside its verdicts.
        bench: who judges whom.
    """

    def __init__(self, files: Mapping[str, Path], verdicts: Verdicts, bench: Bench, design: Design) -> None:
        self._comparisons, self._verdicts, self._bench, self._design = Comparisons(files), verdicts, bench, design
        self._draws = Draws(len(self._comparisons.ids))
        self._languages = list(files)
        self._targets = targets_of(files, design)
        self._place = {contender: i for i, contender in enumerate(self._comparisons.contenders)}
        self._outcomes = cache(self._read_outcomes)
        self._judgements = cache(self._read_judgements)

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each measure."""
        sets = contender_sets(self._comparisons.contenders)
        for seeds in sets.values():
            judged: dict[str, _ByLanguage] = {}
            for judge in self._bench.judges:
                found = {
                    language: [self._outcome(contender, judge, language) for contender in seeds]
                    for language in self._languages
                }
                judged[judge] = {k: of for k, of in found.items() if all(o is not None for o in of)}  # type: ignore[misc]
                if judged[judge]:
                    yield from self._of_judge(seeds, judge, judged[judge])
            yield from self._between_judges(seeds, judged)
        yield from self._between_selectors(sets)

    def _of_judge(self, seeds: Sequence[str], judge: str, found: _ByLanguage) -> Iterator[dict[str, Any]]:
        first = Contender.parse(seeds[0])
        keys = {
            **first.columns,
            "judge": judge,
            "relation": self._bench.relation(judge, first.selector),
            "seeds": len(seeds),
        }
        raw = {k: [mean(o) for o in of] for k, of in found.items()}
        longer = self._comparisons.longer
        controlled = {
            k: [length_controlled(o, longer[k][self._place[c]]) for o, c in zip(of, seeds, strict=True)]
            for k, of in found.items()
            if keys["relation"] != BASELINE  # the longer answer's verdicts are nothing but length
        }
        ties = {k: [mean((o == 0.5).astype(float)) for o in of] for k, of in found.items()}
        rates = dict(self._estimates(raw, SHARE))
        at_equal_length = dict(self._estimates(controlled, SHARE))
        yield from self._lines(keys, "win_rate", rates.items())
        yield from self._lines(keys, "lc_win_rate", at_equal_length.items())
        for language, controlled_rate in at_equal_length.items():
            departs = float(abs(controlled_rate.value - rates[language].value) > DEPARTS)
            yield self._line(keys, "lc_departs", language, Found(departs, np.nan, np.nan))
        yield from self._lines(keys, "ties", self._estimates(ties, SHARE))
        yield from self._of_replies(seeds, judge, keys)
        source = self._design.source
        if source in found:
            other = {
                k: [cohen(a, b) for a, b in zip(of, found[source], strict=True)]
                for k, of in found.items()
                if k != source
            }
            yield from self._lines(keys, "kappa_languages", self._estimates(other, ANY))
            plain = [k for k in (source, *self._targets) if k in found]
            if len(plain) > 1 and len(plain) == 1 + len(self._targets):
                together = [fleiss([found[k][s] for k in plain]) for s in range(len(seeds))]
                yield from self._lines(
                    keys, "fleiss_languages", [(ALL, self._draws.estimate({ALL: together}, {ALL: 1}))]
                )

    def _of_replies(self, seeds: Sequence[str], judge: str, keys: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Position bias of a judge that compares, and the share of replies without a verdict, where answers differ."""
        bias, off = {}, {}
        for language in self._languages:
            replies = self._judgements(judge, language)
            if replies is None:
                continue
            first, decided, silent, asked = (these[[self._place[c] for c in seeds]] for these in replies)
            if decided.any():
                bias[language] = [ratio(a, b) for a, b in zip(first, decided, strict=True)]
            off[language] = [ratio(a, b) for a, b in zip(silent, asked, strict=True)]
        yield from self._lines(keys, "position_bias", self._estimates(bias, SHARE))
        yield from self._lines(keys, "off_format", self._estimates(off, SHARE))

    def _between_judges(self, seeds: Sequence[str], judged: Mapping[str, _ByLanguage]) -> Iterator[dict[str, Any]]:
        """Kappa of every two judges of contenders; those that know nothing, such as the longer answer, among them."""
        keys = {**Contender.parse(seeds[0]).columns, "relation": "", "seeds": len(seeds)}
        for a, b in combinations(sorted(judged), 2):
            both = {
                k: [cohen(x, y) for x, y in zip(judged[a][k], judged[b][k], strict=True)]
                for k in self._languages
                if k in judged[a] and k in judged[b]
            }
            yield from self._lines({**keys, "judge": f"{a} & {b}"}, "kappa_judges", self._estimates(both, ANY))

    def _between_selectors(self, sets: Mapping[Any, Sequence[str]]) -> Iterator[dict[str, Any]]:
        """The win rate of one selector's contenders less that of the in-language one's, seed by seed, by the same models.

        These are strangers to both selectors, so that what differs is the answers alone.
        """
        by_seed = {
            key: {Contender.parse(contender).selector.seed: contender for contender in seeds}
            for key, seeds in sets.items()
        }
        for mine in by_seed.values():
            first = Contender.parse(next(iter(mine.values())))
            selector = first.selector
            theirs = by_seed.get((first.method, first.n, selector.base_model, IN_LANGUAGE))
            if theirs is None or selector.train_language in (IN_LANGUAGE, NOT_OURS):
                continue
            pairs = [(mine[seed], theirs[seed]) for seed in mine if seed in theirs]
            for judge in self._bench.judges:
                found = {}
                for language in self._languages:
                    these = [self._pair(a, b, judge, language) for a, b in pairs]
                    if these and all(one is not None for one in these):
                        found[language] = [difference(mean(one[0]), mean(one[1])) for one in these if one is not None]
                keys = {
                    **first.columns,
                    "selector": f"{selector.train_language} - {IN_LANGUAGE}",
                    "judge": judge,
                    "relation": self._bench.relation(judge, selector),
                    "seeds": len(pairs),
                }
                yield from self._lines(keys, "win_rate_difference", self._estimates(found, CHANGE))

    def _estimates(
        self, found: Mapping[str, Sequence[Statistic]], bounds: tuple[float, float]
    ) -> Iterator[tuple[str, Found]]:
        return estimates(self._draws, found, self._targets, bounds)

    def _lines(self, keys: Mapping[str, Any], measure: str, found: Any) -> Iterator[dict[str, Any]]:
        for language, these in found:
            yield self._line(keys, measure, language, these)

    def _line(self, keys: Mapping[str, Any], measure: str, language: str, found: Found) -> dict[str, Any]:
        return line(keys, measure, language, found, self._draws.n)

    def _outcome(self, contender: str, judge: str, language: str) -> np.ndarray | None:
        """Outcomes [N] of a contender: the mean over the models of a judge; None where it has none for this selector."""
        models = self._bench.referees(judge, Contender.parse(contender).selector, language)
        return self._mean(contender, models, language)

    def _pair(self, a: str, b: str, judge: str, language: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Outcomes of two contenders by the models that may judge both."""
        of_a, of_b = (self._bench.referees(judge, Contender.parse(c).selector, language) for c in (a, b))
        common = [model for model in of_a if model in of_b]
        first, second = self._mean(a, common, language), self._mean(b, common, language)
        return None if first is None or second is None else (first, second)

    def _mean(self, contender: str, models: Sequence[RewardModelId], language: str) -> np.ndarray | None:
        if not models:
            return None
        return np.mean([self._outcomes(model, language)[self._place[contender]] for model in models], axis=0)

    def _read_outcomes(self, model: RewardModelId, language: str) -> np.ndarray:
        path = self._verdicts[model][language]
        columns = ["subset", "cluster", "reward_chosen", "reward_rejected"]
        return outcomes(pd.read_parquet(path, columns=columns), path, self._comparisons, language)

    def _read_judgements(self, judge: str, language: str) -> tuple[np.ndarray, ...] | None:
        """Replies for the first place, for any place, without a verdict, and all, each [contenders, N].

        None for a judge that wrote none.
        """
        path = self._verdicts.get(RewardModelId(judge), {}).get(language)
        path = path.with_suffix(JUDGEMENTS) if path is not None else None
        if path is None or not path.is_file():
            return None
        replies = pd.read_parquet(path, columns=["id", "order", "verdict"])
        places = replies["id"].str.split("::", n=1, expand=True)
        compared = replies["order"].isin(_ORDERS)
        counts = pd.DataFrame(
            {
                "subset": places[0],
                "cluster": places[1],
                "first": compared & (replies["verdict"] == _FIRST),
                "decided": compared & replies["verdict"].isin([_FIRST, _SECOND]),
                "silent": replies["verdict"].isna(),
                "asked": True,
            }
        )
        counts = counts.groupby(["subset", "cluster"], as_index=False).sum()
        alike = self._comparisons.alike[language]
        names = ("first", "decided", "silent", "asked")
        return tuple(np.where(alike, 0, self._comparisons.matrix(counts, name, path, alike)) for name in names)


def targets_of(languages: Mapping[str, Any], design: Design) -> list[str]:
    """The plain target languages among those of some files."""
    return [k for k in languages if design.is_plain(k) and k != design.source]


def contender_sets(contenders: Sequence[str]) -> dict[tuple[str, int | None, str, str], list[str]]:
    """Contenders that differ in their selector's seed alone, by method, n, base and training language."""
    found: dict[tuple[str, int | None, str, str], list[str]] = {}
    for contender in contenders:
        method, n, selector = Contender.parse(contender)
        found.setdefault((method, n, selector.base_model, selector.train_language), []).append(contender)
    return {key: sorted(these, key=lambda c: Contender.parse(c).selector.seed) for key, these in found.items()}


def estimates(
    draws: Draws, found: Mapping[str, Sequence[Statistic]], targets: Sequence[str], bounds: tuple[float, float]
) -> Iterator[tuple[str, Found]]:
    """A statistic by language, and its mean over target languages where it is known in all of them."""
    for language in found:
        yield language, draws.estimate(found, {language: 1}, bounds)
    if targets and all(language in found for language in targets):
        yield TARGETS, draws.estimate(found, {language: 1 / len(targets) for language in targets}, bounds)


def line(keys: Mapping[str, Any], measure: str, language: str, found: Found, items: int) -> dict[str, Any]:
    """A row of the table."""
    of_found = dict(zip(("value", "ci_low", "ci_high"), found, strict=True))
    return {**keys, "measure": measure, "language": language, **of_found, "items": items}


def _characters(messages: Sequence[Mapping[str, str]]) -> int:
    return len(messages[-1]["content"])
