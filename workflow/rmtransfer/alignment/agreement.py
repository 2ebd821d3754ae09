"""How far reward models agree about a policy's answers: on their order, and on which is best."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rmtransfer.alignment.answers import load_rewards, load_texts
from rmtransfer.study.study import RewardModelId
from rmtransfer.transfer.statistics import RESAMPLES, interval

COLUMNS = {
    "policy": "whose answers they are",
    "base_model": "base model that one of two reward models was trained from; of one of reward_models its name",
    "train_language": "its training set; - for one of reward_models",
    "other_base_model": "the same of the other; a training set with itself is two seeds of it",
    "other_train_language": "see train_language",
    "language": "language of instructions and answers",
    "measure": "rank_correlation: Kendall's tau-b of the rewards of an instruction's answers; same_pick: share of instructions "
    "for which both pick the same answer, each its best, and at random among equally good ones. Means over instructions and "
    "over pairs of models, one of each training set; those of one base are of different seeds where there are several",
    "value": "rank_correlation from -1 to 1; same_pick from 0 to 1",
    "chance": "the value of reward models that know nothing of each other",
    "ci_low": "lower bound of the value's 95 % bootstrap interval over instructions; empty for fewer than 8",
    "ci_high": "upper bound of that interval",
    "instructions": "instructions that it is a mean over: with two different answers at least; for rank_correlation also "
    "those alone among whose answers both see a difference",
    "left_out": "other instructions",
}
RANKS, PICKS = "rank_correlation", "same_pick"
_FEWEST = 8  # instructions that an interval needs
_BLOCK = 1_000  # resamples in memory at a time

Group = tuple[str, str]  # base model and training set


def distinct(rewards: np.ndarray, texts: np.ndarray) -> list[np.ndarray]:
    """Rewards of each instruction's different answers, [models, answers] per instruction.

    Copies of an answer are one answer. Its reward is the first one's, from which others differ by rounding at most.

    Args:
        rewards: [models, instructions, samples].
        texts: [instructions, samples].
    """
    first = [np.sort(np.unique(row, return_index=True)[1]) for row in texts]
    return [rewards[:, index, samples] for index, samples in enumerate(first)]


def rank_correlations(rewards: np.ndarray) -> np.ndarray:
    """Kendall's tau-b [models, models] of the rewards [models, answers] of one instruction's answers.

    The number of pairs of answers that two models order alike less that of those that they order differently, over the
    geometric mean of how many pairs each orders at all (Kendall, Biometrika 33, 1945). Unlike Spearman's coefficient it
    expects the same however many answers there are. NaN where a model sees no difference.
    """
    first, second = np.triu_indices(rewards.shape[1], 1)
    order = np.sign(rewards[:, first] - rewards[:, second])
    ordered = np.sqrt(np.abs(order).sum(axis=1))
    with np.errstate(invalid="ignore"):
        return order @ order.T / np.outer(ordered, ordered)


def same_picks(rewards: np.ndarray) -> np.ndarray:
    """Probability [models, models] that two models pick the same answer, each one of its best at random."""
    best = rewards == rewards.max(axis=1, keepdims=True)
    picks = best / best.sum(axis=1, keepdims=True)
    return picks @ picks.T


def evaluate_agreement(
    reward_files: Mapping[str, Mapping[RewardModelId, Mapping[str, Path]]],
    answer_files: Mapping[str, Mapping[str, Path]],
    output: Path,
) -> None:
    """Write ``tables/agreement.csv``: a row per policy, language, pair of reward models and measure, with ``COLUMNS``.

    Args:
        reward_files: policy to reward model to language to its rewards of the policy's answers.
        answer_files: policy to language to the answers.

    Raises:
        StudyError: an answer is missing, or the reward of one.
    """
    lines: list[dict[str, Any]] = []
    for policy, files in answer_files.items():
        for language, path in files.items():
            texts = load_texts(path)
            models = [model for model, of_model in reward_files[policy].items() if language in of_model]
            if len(models) < 2:
                continue
            rewards = np.stack([load_rewards(reward_files[policy][model][language], texts) for model in models])
            lines += [
                {"policy": policy, "language": language, **line} for line in _rows(models, rewards, texts.to_numpy())
            ]
    table = pd.DataFrame(lines, columns=list(COLUMNS))
    numbers = table.select_dtypes("number").columns
    table[numbers] = table[numbers].round(12) + 0  # an exact zero is no sum that came out just below it
    table.to_csv(output, index=False, float_format="%.6f")


def _rows(models: Sequence[RewardModelId], rewards: np.ndarray, texts: np.ndarray) -> Iterator[dict[str, Any]]:
    """The rows of one policy and language."""
    answers = [these for these in distinct(rewards, texts) if these.shape[1] > 1]
    pairs = _pairs(models)
    chance = float(np.mean([1 / these.shape[1] for these in answers])) if answers else np.nan
    for measure, of_one, expected in ((RANKS, rank_correlations, 0.0), (PICKS, same_picks, chance)):
        agreed = np.array([of_one(these) for these in answers]).reshape(-1, len(models), len(models))
        # [instructions, pairs of training sets]
        values = np.stack([_mean(agreed[:, first, second]) for first, second in pairs.values()], axis=1)
        bounds = _intervals(values)
        for (one, other), column, (low, high) in zip(pairs, values.T, bounds, strict=True):
            known = np.isfinite(column)
            yield {
                **dict(zip(("base_model", "train_language"), one, strict=True)),
                **dict(zip(("other_base_model", "other_train_language"), other, strict=True)),
                "measure": measure,
                "value": column[known].mean() if known.any() else np.nan,
                "chance": expected,
                "ci_low": low,
                "ci_high": high,
                "instructions": int(known.sum()),
                "left_out": len(texts) - int(known.sum()),
            }


def _pairs(models: Sequence[RewardModelId]) -> dict[tuple[Group, Group], tuple[list[int], list[int]]]:
    """Pairs of training sets, a set with itself among them, to the models that are compared, by their indices.

    Models of one base and seed start from the same head and see pairs in the same order, and agree more than their training
    sets would have them do: they are compared only where there is no other seed.
    """
    groups: dict[Group, list[int]] = {}
    for index, model in enumerate(models):
        groups.setdefault(model[:2], []).append(index)
    found = {}
    for one, other in combinations_with_replacement(groups, 2):
        both = [(i, j) for i in groups[one] for j in groups[other] if i != j]
        apart = [(i, j) for i, j in both if one[0] != other[0] or models[i].seed != models[j].seed]
        if chosen := apart or both:
            first, second = zip(*chosen, strict=True)
            found[one, other] = list(first), list(second)
    return found


def _mean(values: np.ndarray) -> np.ndarray:
    """Means of rows, of what is defined in each; NaN where nothing is."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=1) / known.sum(axis=1)


def _intervals(values: np.ndarray, seed: int = 0) -> list[tuple[float, float]]:
    """Percentile bootstrap intervals of the means of columns, of what is defined in each, over rows.

    An instruction is drawn with all that is known of it: its answers, and all pairs of models.
    """
    known = np.isfinite(values)
    n, columns = values.shape
    generator, draws = np.random.default_rng(seed), []
    for _ in range(RESAMPLES // _BLOCK if n else 0):
        counts = generator.multinomial(n, np.full(n, 1 / n), _BLOCK).astype(float)
        with np.errstate(invalid="ignore"):
            draws.append(counts @ np.where(known, values, 0) / (counts @ known))
    enough = known.sum(axis=0) >= _FEWEST
    means = np.concatenate(draws) if draws else np.empty((0, columns))
    return [interval(means[:, c]) if enough[c] else (np.nan, np.nan) for c in range(columns)]
