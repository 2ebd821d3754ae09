"""What a reward model buys a policy: the best of n of its answers, judged by the other reward models."""

from collections.abc import Mapping, Sequence
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd

_RESAMPLES = 10_000
_LEVEL = 0.95


def best_of_weights(samples: int, n: int) -> np.ndarray:
    """Probability that the answer of rank i (0 = best) is the best of n drawn without replacement from ``samples``.

    C(samples - 1 - i, n - 1) / C(samples, n): the unbiased best-of-n estimator uses all samples (Nakano et al., arXiv
    2112.09332, appendix I).
    """
    return np.array([comb(samples - 1 - i, n - 1) / comb(samples, n) for i in range(samples)])


def best_of_n(picker: np.ndarray, judges: np.ndarray, n: int) -> np.ndarray:
    """Expected reward, by judges, of the best of n answers by the picker.

    Args:
        picker: rewards [instructions, samples] of the model that picks.
        judges: rewards [judges, instructions, samples] of the models that judge. Each is standardised over all its
            answers first, because reward models share no scale.

    Returns:
        [instructions], in standard deviations of a judge's rewards, mean over judges; 0 on average for n = 1.
    """
    spread = judges.std(axis=(1, 2), keepdims=True)
    standard = (judges - judges.mean(axis=(1, 2), keepdims=True)) / np.where(spread > 0, spread, 1)
    order = np.argsort(-picker, axis=1, kind="stable")
    ranked = np.take_along_axis(standard.mean(axis=0), order, axis=1)
    return ranked @ best_of_weights(picker.shape[1], n)


def evaluate_best_of_n(
    reward_files: Mapping[tuple[str, str, int], Mapping[str, Path]], ns: Sequence[int], output: Path
) -> None:
    """Write ``tables/alignment.csv``.

    One row per picking model, language and n: ``base_model, train_language, seed, language, n, judges, mean_reward,
    ci_low, ci_high, instructions``. The judges are the models of the same base and seed trained in *other* languages, so
    that none judges its own choice. The interval is a 95 % percentile bootstrap over instructions of the gain on n = 1.
    """
    rewards = {
        model: {language: _matrix(path) for language, path in files.items()} for model, files in reward_files.items()
    }
    lines = []
    for (base, train, seed), by_language in rewards.items():
        others = [m for m in rewards if m[0] == base and m[2] == seed and m[1] != train]
        for language, picker in by_language.items():
            judges = np.stack([rewards[m][language] for m in others])
            baseline = best_of_n(picker, judges, 1)
            for n in ns:
                gain = best_of_n(picker, judges, n) - baseline
                draws = np.random.default_rng(0).choice(gain, (_RESAMPLES, len(gain))).mean(axis=1)
                low, high = np.quantile(draws, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
                lines.append((base, train, seed, language, n, len(others), gain.mean(), low, high, len(gain)))
    columns = [
        "base_model",
        "train_language",
        "seed",
        "language",
        "n",
        "judges",
        "mean_reward",
        "ci_low",
        "ci_high",
        "instructions",
    ]
    pd.DataFrame(lines, columns=columns).to_csv(output, index=False, float_format="%.6f")


def _matrix(path: Path) -> np.ndarray:
    """Rewards [instructions, samples] of a file of ``id, sample, reward``."""
    return pd.read_parquet(path).pivot(index="id", columns="sample", values="reward").sort_index().to_numpy(float)
