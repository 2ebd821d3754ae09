"""How accuracy grows with the number of training pairs and the size of the base model, by where a reward model comes from."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rmtransfer.study.names import ALL, IN_LANGUAGE, ORIGINS, SOURCE
from rmtransfer.study.study import RewardModelId, TrainingSet
from rmtransfer.transfer.design import Design
from rmtransfer.transfer.evaluate import load_scores
from rmtransfer.transfer.evaluation import Cell, Evaluation, Section

COLUMNS = {
    "base_model": "base model that the reward models were trained from",
    "parameters": "its number of parameters, embeddings included",
    "pairs": "number of pairs that they were trained on",
    "eval_language": "language of the benchmark's texts, or all: the mean over the target languages that have such models",
    "origin": "what they were trained in: in-language, the evaluation language; source, the source language; elsewhere, every "
    "other target language, of which this is the mean",
    "mean": "average accuracy, mean over seeds, from 0 to 1",
    "sd": "standard deviation of the accuracy over seeds; empty for one seed",
    "ci_low": "lower bound of the mean's 95 % interval over items and, where there are several, seeds",
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
    languages = [source, *targets]
    design = Design(source, list(parameters), {language: [language] for language in languages})
    scores = load_scores(score_files)
    rows = []
    for size in sorted({these.pairs or pairs for these in training_sets.values()}):
        # Every size is evaluated as if it were alone, each training set under its language: so its seeds' variance is its own.
        language_of = {name: k for name, s in training_sets.items() if (s.pairs or pairs) == size for k in s.shares}
        average = Evaluation(
            {
                (model._replace(train_language=language_of[model.train_language]), language): frame
                for (model, language), frame in scores.items()
                if model.train_language in language_of and language in languages
            },
            sections,
            design,
        ).average
        evaluated = list(dict.fromkeys(language for _, _, language in average.accuracies))
        for base in parameters:
            for origin in ORIGINS:
                cells = {k: [(base, t, k) for t in _trained_in(origin, k, source, targets)] for k in evaluated}
                cells[ALL] = [cell for k in evaluated if k != source for cell in cells[k]]
                for language, of_language in cells.items():
                    if of_language:
                        about = (base, parameters[base], size, language, origin)
                        rows.append((*about, *_mean(average, of_language)))
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(output, index=False, float_format="%.6f")


def _trained_in(origin: str, language: str, source: str, targets: Sequence[str]) -> list[str]:
    """The training languages behind an origin, for one evaluation language."""
    if origin == IN_LANGUAGE:
        return [language]
    if origin == SOURCE:
        return [source] if language != source else []
    return [target for target in targets if target != language]


def _mean(average: Section, cells: Sequence[Cell]) -> tuple[float, float | None, float, float, int, int]:
    """The columns from ``mean`` on, of the mean over cells."""
    accuracies = np.mean([average.accuracies[cell] for cell in cells], axis=0)
    spread = float(accuracies.std(ddof=1)) if len(accuracies) > 1 else None
    if len(cells) == 1:
        estimate, bounds = average.level(cells[0])
    else:
        estimate = average.estimate(dict.fromkeys(cells, 1 / len(cells)))
        bounds = estimate.interval()
    return estimate.value, spread, *bounds, estimate.seeds, estimate.n
