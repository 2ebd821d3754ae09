"""Train-language x eval-language accuracy: sections, intervals, the length-only baseline and the answer."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from rmtransfer.errors import StudyError

AVERAGE = "average"
TRANSFER_COLUMNS = [
    "base_model",
    "train_language",
    "seed",
    "eval_language",
    "section",
    "accuracy",
    "ci_low",
    "ci_high",
    "n",
]
_LEVEL = 0.95
_RESAMPLES = 10_000

# Subsets of RewardBench v1 by section, with the counts that weight them (https://github.com/allenai/reward-bench,
# rewardbench/constants.py). A subset named like a section, lower-cased with hyphens, is that section's only one.
REWARDBENCH_SECTIONS: dict[str, dict[str, int]] = {
    "Chat": {
        "alpacaeval-easy": 100,
        "alpacaeval-length": 95,
        "alpacaeval-hard": 95,
        "mt-bench-easy": 28,
        "mt-bench-med": 40,
    },
    "Chat Hard": {
        "mt-bench-hard": 37,
        "llmbar-natural": 100,
        "llmbar-adver-neighbor": 134,
        "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47,
        "llmbar-adver-manual": 46,
    },
    "Safety": {
        "refusals-dangerous": 100,
        "refusals-offensive": 100,
        "xstest-should-refuse": 154,
        "xstest-should-respond": 250,
        "donotanswer": 136,
    },
    "Reasoning": {
        "math-prm": 984,
        "hep-cpp": 164,
        "hep-go": 164,
        "hep-java": 164,
        "hep-js": 164,
        "hep-python": 164,
        "hep-rust": 164,
    },
}


def subset_table(subsets: Sequence[str | None]) -> pd.DataFrame:
    """Section and weight of each distinct subset: a frame indexed by subset with columns ``section`` and ``weight``.

    Raises:
        StudyError: a row has no subset, or one that no section knows.
    """
    found: dict[str | None, tuple[str, int]] = {}
    for section, counts in REWARDBENCH_SECTIONS.items():
        found[section.lower().replace(" ", "-")] = (section, 1)
        found.update({subset: (section, count) for subset, count in counts.items()})
    distinct = list(dict.fromkeys(subsets))
    unknown = [s for s in distinct if s not in found]
    if unknown:
        raise StudyError(
            f"benchmark: subset{'s' if len(unknown) > 1 else ''} {', '.join(map(repr, unknown))} not in sections "
            f"'rewardbench'; every row needs one of {', '.join(map(str, found))}"
        )
    return pd.DataFrame([found[s] for s in distinct], index=distinct, columns=["section", "weight"])


def section_accuracies(correct: pd.Series, subsets: pd.Series) -> pd.DataFrame:
    """Accuracy with its 95 % interval by section and their average.

    A section is the mean of its subsets' accuracies weighted by RewardBench's counts; ``average`` is the plain mean of
    the sections that have rows. The interval is Wilson's, at the effective sample size 1 / sum(w_i^2) for row weights
    w_i that sum to one (Kish, Survey Sampling, 1965, section 11.7), which is n where all rows weigh the same.

    Args:
        correct: bool per row.
        subsets: subset per row.

    Returns:
        A frame with columns ``section, accuracy, ci_low, ci_high, n``, sections in RewardBench's order, average last.
    """
    weights = row_weights(subsets)
    table = subset_table(subsets.tolist())
    section_of = subsets.map(table["section"])
    lines = []
    for section in [*(s for s in REWARDBENCH_SECTIONS if s in set(section_of)), AVERAGE]:
        mask = np.ones(len(correct), bool) if section == AVERAGE else (section_of == section).to_numpy()
        share = weights[mask] / weights[mask].sum()
        accuracy = float(share @ correct.to_numpy(float)[mask])
        effective = 1 / float(share @ share)
        low, high = proportion_confint(accuracy * effective, effective, alpha=1 - _LEVEL, method="wilson")
        lines.append((section, accuracy, float(low), float(high), int(mask.sum())))
    return pd.DataFrame(lines, columns=["section", "accuracy", "ci_low", "ci_high", "n"])


def row_weights(subsets: pd.Series) -> np.ndarray:
    """What each row contributes to ``average``: [n], summing to one."""
    table = subset_table(subsets.tolist())
    counts = subsets.value_counts()
    share = table["weight"] / table.groupby("section")["weight"].transform("sum") / table["section"].nunique()
    return subsets.map(share / counts.reindex(table.index)).to_numpy(float)


def transfer_table(scores: pd.DataFrame) -> pd.DataFrame:
    """``tables/transfer.csv``: one row per reward model, evaluation language and section.

    Args:
        scores: rows of all score files with ``base_model, train_language, seed`` added.
    """
    parts = []
    keys = ["base_model", "train_language", "seed", "language"]
    for (base, train, seed, language), cell in scores.groupby(keys, sort=False):
        part = section_accuracies(cell["reward_chosen"] > cell["reward_rejected"], cell["subset"])
        parts.append(part.assign(base_model=base, train_language=train, seed=seed, eval_language=language))
    return pd.concat(parts, ignore_index=True)[TRANSFER_COLUMNS]


def length_baseline(scores: pd.DataFrame) -> pd.DataFrame:
    """How often "the longer answer, in tokens, is better" is right: ``base_model`` (whose tokenizer counts),
    ``eval_language, subset, accuracy, n``; ``average`` is weighted like the transfer table's. Ties are wrong."""
    lines: list[tuple] = []
    for (base, language), every in scores.groupby(["base_model", "language"], sort=False):
        cell = every.drop_duplicates("id")
        longer = cell["tokens_chosen"] > cell["tokens_rejected"]
        lines.extend(
            (base, language, s, longer[rows].mean(), len(rows)) for s, rows in cell.groupby("subset").groups.items()
        )
        lines.append((base, language, AVERAGE, float(row_weights(cell["subset"]) @ longer.to_numpy(float)), len(cell)))
    return pd.DataFrame(lines, columns=["base_model", "eval_language", "subset", "accuracy", "n"])


def source_advantage(scores: pd.DataFrame, source: str, seed: int = 0) -> tuple[float, float, float, int]:
    """By how much the source-language reward model is better than the target-language ones in their own languages.

    The difference in average accuracy, mean over target languages, base models and seeds, with a 95 % percentile
    interval from a paired bootstrap: benchmark rows are drawn within each subset, one draw for all models and languages.

    Returns:
        Difference, lower and upper bound (in accuracy, not per cent), number of distinct benchmark rows.
    """
    frame = scores.assign(correct=(scores["reward_chosen"] > scores["reward_rejected"]).astype(float))
    key = ["base_model", "seed", "language", "id"]
    elsewhere = frame[frame["language"] != source]
    ours = elsewhere[elsewhere["train_language"] == source].set_index(key)["correct"]
    theirs = elsewhere[elsewhere["train_language"] == elsewhere["language"]].set_index(key)["correct"]
    difference = (ours - theirs).groupby("id").mean()
    subsets = frame.drop_duplicates("id").set_index("id")["subset"].loc[difference.index]
    weights, values = row_weights(subsets), difference.to_numpy()
    generator = np.random.default_rng(seed)
    draws = np.zeros(_RESAMPLES)
    for subset in subsets.unique():
        rows = np.flatnonzero((subsets == subset).to_numpy())
        drawn = generator.choice(rows, (_RESAMPLES, len(rows)))
        draws += (weights[drawn] * values[drawn]).sum(axis=1)
    low, high = np.quantile(draws, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(weights @ values), float(low), float(high), len(values)


def headline(scores: pd.DataFrame, source: str) -> str:
    """The study's answer in one sentence, whichever way it falls."""
    difference, low, high, n = source_advantage(scores, source)
    targets = [language for language in scores["language"].unique() if language != source]
    points = 100 * difference
    if abs(points) < 0.05:
        verdict = "as accurate as the target-language reward models"
    else:
        verdict = f"{abs(points):.1f} points {'above' if points > 0 else 'below'} the target-language reward models"
    zero = "includes zero" if low <= 0 <= high else "excludes zero"
    return (
        f"The {source} reward model is {verdict} on average over {', '.join(targets)} "
        f"(95 % interval {100 * low:+.1f} to {100 * high:+.1f}, which {zero}; paired bootstrap over {n} benchmark pairs)."
    )


def evaluate_transfer(
    score_files: Mapping[tuple[str, str, int], Sequence[Path]],
    source: str,
    transfer: Path,
    baseline: Path,
    answer: Path,
) -> str:
    """Write the transfer table, the length-only baseline and the headline; return the headline.

    Args:
        score_files: (base model, training language, seed) to the score files of all evaluation languages.
    """
    scores = pd.concat(
        [
            pd.read_parquet(path).assign(base_model=base, train_language=train, seed=seed)
            for (base, train, seed), paths in score_files.items()
            for path in paths
        ],
        ignore_index=True,
    )
    transfer_table(scores).to_csv(transfer, index=False, float_format="%.6f")
    length_baseline(scores).to_csv(baseline, index=False, float_format="%.6f")
    sentence = headline(scores, source)
    answer.write_text(sentence + "\n", encoding="utf-8")
    return sentence
