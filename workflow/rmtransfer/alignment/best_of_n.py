"""What a reward model buys a policy: the best of n of its answers, as others see it, and what the picks are like."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from rmtransfer.alignment.answers import Answers, load_answers, load_rewards
from rmtransfer.study.names import ITSELF, NOT_OURS, OTHER_LANGUAGES
from rmtransfer.study.study import RewardModelId
from rmtransfer.transfer.design import Design
from rmtransfer.transfer.evaluation import Sample, Section

COLUMNS = {
    "policy": "base model that sampled the answers",
    "base_model": "base model that the picking model was trained from: the policy; of one of reward_models its name",
    "train_language": "training set of the picking model; - for one of reward_models",
    "language": "language of instructions and answers",
    "judged_by": "whose rewards the gain is in: other languages, our models of the same base that are trained in a single "
    "language which the picking model's training set does not hold; one of reward_models; itself, the picking model",
    "n": "answers that the best is picked from",
    "referees": "models that judge the picks of one seed; 0 where a training set holds all languages",
    "same_seed": "yes: for want of another seed, the referees have the picking model's own",
    "seeds": "picking models, one per seed; whatever follows is their mean",
    "gain": "reward of the pick minus that of a single answer, in standard deviations of a referee's rewards of the answers "
    "to one instruction; mean over instructions, referees and seeds",
    "ci_low": "lower bound of the gain's 95 % interval over instructions and seeds, the referees as they are",
    "ci_high": "upper bound of that interval",
    "ideal": "gain of a picker that ranks as its referee does, if the rewards of an instruction's answers are normal",
    "in_language": "share of picks in the instruction's language, among those whose language can be told",
    "in_language_change": "that share minus the share among all answers",
    "in_language_low": "lower bound of the change's 95 % interval",
    "in_language_high": "upper bound of that interval",
    "told": "share of picks that are long enough to tell their language",
    "finished": "share of picks that ended by themselves, not at max_new_tokens",
    "finished_change": "that share minus the share among all answers",
    "finished_low": "lower bound of the change's 95 % interval",
    "finished_high": "upper bound of that interval",
    "characters": "mean length of the picks in Unicode code points",
    "characters_change": "that length minus the mean length of all answers",
    "instructions": "number of instructions",
}

Cell = tuple[str, str, str]  # base model and training set of the picking models; language
_UNKNOWN = (float("nan"),) * 3


def pick_weights(rewards: np.ndarray, n: int) -> np.ndarray:
    """Probability [instructions, samples] that an answer is the best of n that are drawn without replacement.

    The best of n is among the k best of all S answers with probability 1 - C(S - k, n) / C(S, n), so that means over picks
    are the unbiased best-of-n estimator (Nakano et al., arXiv 2112.09332, appendix I). Answers with equal rewards share what
    their ranks would get.

    Args:
        rewards: [instructions, samples] of the model that picks.
    """
    samples = rewards.shape[1]
    among = np.array([1 - comb(samples - k, n) / comb(samples, n) for k in range(samples + 1)])
    first, last = (stats.rankdata(-rewards, method, axis=1).astype(int) for method in ("min", "max"))
    return (among[last] - among[first - 1]) / (last - first + 1)


def standardised(rewards: np.ndarray) -> np.ndarray:
    """Rewards [instructions, samples] less each instruction's mean, in within-instruction standard deviations.

    Of these there is one for all instructions, so that none with nearly equal answers explodes: the root of the mean over
    instructions of the variance among an instruction's answers (S - 1 in the denominator), which the analysis of variance
    calls the pooled one. What differs between instructions does not count, because no pick changes it. Zeros of a model that
    sees no difference between any two answers.
    """
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    deviation = np.sqrt(rewards.var(axis=1, ddof=1).mean())
    return centred / deviation if deviation > 0 else np.zeros_like(centred)


def ideal_gain(n: int) -> float:
    """Expected maximum of n standard normal numbers: 0.56 for 2, 1.03 for 4."""
    return float(stats.order_statistic(stats.Normal(), r=n, n=n).mean())


def referees_of(picker: RewardModelId, models: Collection[RewardModelId], design: Design) -> list[RewardModelId]:
    """The study's own reward models that judge what a model picks.

    Each is trained in one of the study's languages, whole and alone, and in none that the picker is trained in: variants,
    mixtures and parts judge nobody, so that a gain does not depend on what else is in the study. Where there are several
    seeds, each has another than the picker: models of one seed start from the same head and see pairs in the same order, and
    agree more than their languages would have them do.

    Args:
        models: all that scored the policy's answers.
    """
    ours = picker.train_language in design.trained_in
    known = design.trained_in[picker.train_language] if ours else ()
    strangers = [m for m in models if design.is_plain(m.train_language) and m.train_language not in known]
    return [m for m in strangers if ours and m.seed != picker.seed] or strangers


def evaluate_best_of_n(
    answer_files: Mapping[str, Mapping[str, Path]],
    reward_files: Mapping[str, Mapping[RewardModelId, Mapping[str, Path]]],
    design: Design,
    baselines: Collection[str],
    ns: Sequence[int],
    output: Path,
) -> None:
    """Write ``tables/best_of_n.csv``: one row per policy, picker, language, kind of referee and n, with ``COLUMNS``.

    Args:
        answer_files: policy to language to its answers, see :func:`rmtransfer.alignment.answers.load_answers`.
        reward_files: policy to reward model to language to its rewards of those answers.
        baselines: names of reward models that pick and judge nobody.

    Raises:
        StudyError: an answer is missing, or the reward of one.
    """
    lines: list[dict[str, Any]] = []
    for policy, files in answer_files.items():
        answers = {language: load_answers(path, language, list(files)) for language, path in files.items()}
        rewards = {
            model: {language: load_rewards(path, answers[language]) for language, path in of_model.items()}
            for model, of_model in reward_files[policy].items()
        }
        for n in ns:
            lines += _rows(policy, answers, rewards, design, baselines, n)
    keys = ["policy", "base_model", "train_language", "language", "judged_by"]
    table = pd.DataFrame(lines, columns=list(COLUMNS))
    table = table.iloc[table.groupby(keys, sort=False).ngroup().argsort(kind="stable")]
    numbers = table.select_dtypes("number").columns
    table[numbers] = table[numbers].round(12) + 0  # an exact zero is no sum that came out just below it
    table.to_csv(output, index=False, float_format="%.6f")


def _rows(
    policy: str,
    answers: Mapping[str, Answers],
    rewards: Mapping[RewardModelId, Mapping[str, np.ndarray]],
    design: Design,
    baselines: Collection[str],
    n: int,
) -> Iterator[dict[str, Any]]:
    """The rows of one policy and n."""
    pickers: dict[tuple[str, str], list[RewardModelId]] = {}
    for model in rewards:
        pickers.setdefault(model[:2], []).append(model)
    # [seeds, instructions, samples]
    weights: dict[Cell, np.ndarray] = {
        (*picker, language): np.stack([pick_weights(rewards[model][language], n) for model in seeds])
        for picker, seeds in pickers.items()
        for language in answers
    }
    standard = {model: {k: standardised(these) for k, these in of.items()} for model, of in rewards.items()}
    shares = {name: _shares(weights, answers, name, design) for name in ("in_language", "finished")}
    for judged_by, referees in _panels(rewards, design, baselines).items():
        gains = _estimates(
            {
                # A single answer's is 0: that is the mean of an instruction's standardised rewards.
                cell: np.stack(
                    [
                        (w * np.mean([standard[r][cell[2]] for r in referees[picker]], axis=0)).sum(axis=1)
                        for w, picker in zip(of_cell, pickers[cell[:2]], strict=True)
                    ],
                    axis=1,
                )
                for cell, of_cell in weights.items()
                if referees.get(pickers[cell[:2]][0])
            },
            design,
        )
        for cell, of_cell in weights.items():
            first, *more = pickers[cell[:2]]
            if first not in referees:
                continue
            ours = judged_by == OTHER_LANGUAGES and first.train_language != NOT_OURS
            yield {
                **dict(zip(("base_model", "train_language", "language"), cell, strict=True)),
                **{"policy": policy, "judged_by": judged_by, "n": n},
                "referees": len(referees[first]),
                "same_seed": "yes" if ours and any(r.seed == first.seed for r in referees[first]) else "no",
                "seeds": 1 + len(more),
                **dict(zip(("gain", "ci_low", "ci_high"), gains.get(cell, _UNKNOWN), strict=True)),
                "ideal": ideal_gain(n),
                **shares["in_language"][cell],
                **shares["finished"][cell],
                **_means(of_cell, answers[cell[2]]),
                "instructions": of_cell.shape[1],
            }


def _panels(
    models: Collection[RewardModelId], design: Design, baselines: Collection[str]
) -> dict[str, dict[RewardModelId, list[RewardModelId]]]:
    """Kind of referee to picker to its referees of that kind. A model of others judges all but itself.

    What a picker itself thinks of its picks is no judgement: it is the proxy that the others' gains are to be held against
    as n grows (Gao et al., arXiv 2210.10760).
    """
    others = [m for m in models if m.train_language == NOT_OURS and m.base_model not in baselines]
    return {
        OTHER_LANGUAGES: {picker: referees_of(picker, models, design) for picker in models},
        **{judge.base_model: {picker: [judge] for picker in models if picker != judge} for judge in others},
        ITSELF: {picker: [picker] for picker in models},
    }


def _means(weights: np.ndarray, answers: Answers) -> dict[str, float]:
    characters = (weights * answers.characters).sum(axis=-1).mean()
    return {
        "told": (weights * answers.told).sum(axis=-1).mean(),
        "characters": characters,
        "characters_change": characters - answers.characters.mean(),
    }


def _shares(
    weights: Mapping[Cell, np.ndarray], answers: Mapping[str, Answers], name: str, design: Design
) -> dict[Cell, dict[str, float]]:
    """A share among picks, how it differs from that among all answers, and the difference's interval, by cell."""
    shares, differences = {}, {}
    for cell, of_cell in weights.items():
        these = answers[cell[2]]
        shown = getattr(these, name)
        known = these.told if name == "in_language" else np.ones_like(shown)
        share, moves = _ratio(of_cell, shown, known)
        before, moves_before = _ratio(np.full_like(of_cell, 1 / of_cell.shape[-1]), shown, known)
        shares[cell] = share, share - before
        if not np.isnan(share - before):
            differences[cell] = share - before + moves - moves_before
    found = _estimates(differences, design)
    names = (name, f"{name}_change", f"{name}_low", f"{name}_high")
    return {
        cell: dict(zip(names, (*these, *found.get(cell, _UNKNOWN)[1:]), strict=True)) for cell, these in shares.items()
    }


def _ratio(weights: np.ndarray, shown: np.ndarray, known: np.ndarray) -> tuple[float, np.ndarray]:
    """The share of what is shown in what is known, and by how much each instruction and seed moves it, [N, K].

    Both sums of the ratio vary, so that the interval is that of its linearisation (Cochran, Sampling Techniques, 1977,
    section 6.4). NaN where nothing is known.
    """
    above, below = ((weights * these).sum(axis=-1).T for these in (shown, known))
    if not below.any():
        return float("nan"), np.full_like(below, np.nan)
    share = above.sum() / below.sum()
    return float(share), (above - share * below) / below.mean()


def _estimates(cells: Mapping[Cell, np.ndarray], design: Design) -> dict[Cell, tuple[float, float, float]]:
    """Mean of each cell's values [N, K] and its 95 % interval over instructions and seeds.

    What seeds do is pooled over the study's languages, see :class:`rmtransfer.transfer.variance.SeedGrid`.
    """
    if not cells:
        return {}
    n = len(next(iter(cells.values())))
    section = Section(Sample(np.full(n, 1 / n), ["instructions"] * n, range(n)), cells, design)
    found = {cell: section.estimate({cell: 1}) for cell in cells}
    return {cell: (estimate.value, *estimate.interval()) for cell, estimate in found.items()}
