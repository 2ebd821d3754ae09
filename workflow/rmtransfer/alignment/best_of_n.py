"""What a reward model buys a policy: the best of n of its answers, as the other reward models see it."""

from collections.abc import Mapping, Sequence
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd

from rmtransfer.study.study import RewardModelId
from rmtransfer.transfer.statistics import RESAMPLES, interval

COLUMNS = {
    "base_model": "base model that sampled the answers and that the picking reward model was trained from",
    "train_language": "language or mixture that the picking model was trained in",
    "seed": "seed that it was trained with",
    "language": "language of instructions and answers",
    "n": "answers that it picks the best of",
    "referees": "reward models of the same base and seed, trained otherwise, that see what it picked",
    "gain": "reward of the pick minus that of a single answer, in standard deviations of a referee's rewards; mean over "
    "instructions and referees",
    "ci_low": "lower bound of the gain's 95 % percentile bootstrap interval over instructions",
    "ci_high": "upper bound of that interval",
    "instructions": "number of instructions",
}


def best_of_weights(samples: int, n: int) -> np.ndarray:
    """Probability that the answer of rank i (0 = best) is the best of n drawn without replacement from ``samples``.

    C(samples - 1 - i, n - 1) / C(samples, n): the unbiased best-of-n estimator uses all samples (Nakano et al., arXiv
    2112.09332, appendix I).
    """
    return np.array([comb(samples - 1 - i, n - 1) / comb(samples, n) for i in range(samples)])


def best_of_n(picker: np.ndarray, referees: np.ndarray, n: int) -> np.ndarray:
    """Expected reward, by the referees, of the best of n answers by the picker.

    Args:
        picker: rewards [instructions, samples] of the model that picks.
        referees: rewards [referees, instructions, samples] of the others. Each is standardised over all its answers
            first, because reward models share no scale.

    Returns:
        [instructions], in standard deviations of a referee's rewards, mean over referees; 0 on average for n = 1.
    """
    spread = referees.std(axis=(1, 2), keepdims=True)
    standard = (referees - referees.mean(axis=(1, 2), keepdims=True)) / np.where(spread > 0, spread, 1)
    order = np.argsort(-picker, axis=1, kind="stable")
    ranked = np.take_along_axis(standard.mean(axis=0), order, axis=1)
    return ranked @ best_of_weights(picker.shape[1], n)


def evaluate_best_of_n(
    reward_files: Mapping[RewardModelId, Mapping[str, Path]], ns: Sequence[int], output: Path
) -> None:
    """Write ``tables/alignment.csv``: one row per picking model, language and n, with ``COLUMNS``.

    The referees are the models of the same base and seed trained in *other* languages, so that none sees its own choice.

    Args:
        reward_files: reward model to language to its rewards of the base's answers, a file of ``id, sample, reward``.
    """
    rewards = {
        model: {language: _matrix(path) for language, path in files.items()} for model, files in reward_files.items()
    }
    lines = []
    for model, by_language in rewards.items():
        base, train, seed = model
        others = [m for m in rewards if m[0] == base and m[2] == seed and m[1] != train]
        for language, picker in by_language.items():
            referees = np.stack([rewards[m][language] for m in others])
            single = best_of_n(picker, referees, 1)
            for n in ns:
                gain = best_of_n(picker, referees, n) - single
                draws = np.random.default_rng(0).choice(gain, (RESAMPLES, len(gain))).mean(axis=1)
                lines.append((*model, language, n, len(others), gain.mean(), *interval(draws), len(gain)))
    pd.DataFrame(lines, columns=list(COLUMNS)).to_csv(output, index=False, float_format="%.6f")


def _matrix(path: Path) -> np.ndarray:
    """Rewards [instructions, samples] of a file of ``id, sample, reward``."""
    return pd.read_parquet(path).pivot(index="id", columns="sample", values="reward").sort_index().to_numpy(float)
