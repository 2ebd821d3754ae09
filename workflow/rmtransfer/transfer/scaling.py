"""How accuracy grows with the number of training pairs and the size of the base model, by where a reward model comes from."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rmtransfer.study.names import ALL, IN_LANGUAGE, ORIGINS, SOURCE
from rmtransfer.study.study import RewardModelId, TrainingSet
from rmtransfer.transfer.evaluate import load_scores
from rmtransfer.transfer.outcomes import Outcomes
from rmtransfer.transfer.statistics import Resamples, interval

COLUMNS = {
    "base_model": "base model that the reward models were trained from",
    "parameters": "its number of parameters, embeddings included",
    "pairs": "number of pairs that they were trained on",
    "eval_language": "language of the benchmark's texts, or all: the mean over the target languages that have such models",
    "origin": "what they were trained in: in-language, the evaluation language; source, the source language; elsewhere, every "
    "other target language, of which this is the mean",
    "mean": "average accuracy, mean over seeds, from 0 to 1",
    "sd": "standard deviation of the accuracy over seeds; empty for one seed",
    "ci_low": "lower bound of the mean's 95 % percentile bootstrap interval over items and seeds",
    "ci_high": "upper bound of that interval",
    "seeds": "number of seeds",
    "n": "items",
}


def evaluate_scaling(
    score_files: Mapping[RewardModelId, Mapping[str, Path]],
    sections: str,
    output: Path,
    *,
    source: str,
    targets: Sequence[str],
    training_sets: Mapping[str, TrainingSet],
    pairs: int,
    parameters: Mapping[str, int],
) -> None:
    """Write a benchmark's table of ``COLUMNS``.

    Args:
        score_files: reward model to evaluation language to score file; of every base, training set and seed.
        sections: name of the section table.
        output: CSV file to write.
        training_sets: name to a training set of one language.
        pairs: how many there are to train on, which a training set without a size has.
        parameters: base model to its number of parameters.

    Raises:
        StudyError: score files do not fit each other.
    """
    outcomes = Outcomes(load_scores(score_files), sections)
    resamples = Resamples(outcomes.items["subset"].to_numpy())
    models = {
        language: outcomes.by_model(language) for language in outcomes.languages if language in (source, *targets)
    }
    trained: dict[int, dict[str, str]] = {}  # size to language to training set
    for name, training_set in training_sets.items():
        (language,) = training_set.shares
        trained.setdefault(training_set.pairs or pairs, {})[language] = name
    rows = []
    for base in parameters:
        for size in sorted(trained):
            for origin in ORIGINS:
                # A mean over languages is one over outcomes: items and seeds are the same in all of them.
                cells = {
                    language: np.mean([models[language][base, trained[size][k]] for k in these], axis=0)
                    for language in models
                    if (these := _trained_in(origin, language, source, targets))
                }
                of_targets = [values for language, values in cells.items() if language != source]
                if of_targets:
                    cells[ALL] = np.mean(of_targets, axis=0)
                for language, values in cells.items():
                    accuracies = outcomes.weights @ values
                    spread = accuracies.std(ddof=1) if len(accuracies) > 1 else None
                    bounds = interval(resamples.two_way(resamples.means(values, outcomes.weights)))
                    about = (base, parameters[base], size, language, origin)
                    rows.append((*about, accuracies.mean(), spread, *bounds, len(accuracies), len(values)))
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(output, index=False, float_format="%.6f")


def _trained_in(origin: str, language: str, source: str, targets: Sequence[str]) -> list[str]:
    """The training languages behind an origin, for one evaluation language."""
    if origin == IN_LANGUAGE:
        return [language]
    if origin == SOURCE:
        return [source] if language != source else []
    return [target for target in targets if target != language]
