"""Train-language x eval-language accuracy: sections, what differs beyond chance, consistency, calibration, the answer."""

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations, groupby
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from rmtransfer.kit.errors import StudyError
from rmtransfer.study.sections import SECTIONS, item_of
from rmtransfer.transfer.outcomes import item_outcomes, row_weights, section_names, subset_table
from rmtransfer.transfer.statistics import (
    Resamples,
    expected_calibration_error,
    holm,
    interval,
    kappa,
    permutation_p_values,
    wilson,
)

AVERAGE = "average"
OFF_THE_SHELF = "-"  # what stands for the training language of a model that is not ours
JUDGE = ["base_model", "train_language", "seed"]
TRANSFER_COLUMNS = [*JUDGE, "eval_language", "section", "accuracy", "ci_low", "ci_high", "n"]
SIGNIFICANCE_COLUMNS = [
    "eval_language",
    "base_a",
    "train_a",
    "base_b",
    "train_b",
    "family",
    "difference",
    "ci_low",
    "ci_high",
    "p_value",
    "p_holm",
    "n",
    "seeds",
]
IN_LANGUAGE = "in-language"
_ALPHA = 0.05
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

Judge = tuple[str, str, int]


class Outcomes:
    """What every judge made of every item of a benchmark, in every language that it judged.

    Attributes:
        items: frame of ``id, subset``, one line per item, the same for all judges and languages.
        sections: name of the section table.
        weights: [items], what each item contributes to the average.
        values: (judge, language) to outcomes [items].
    """

    def __init__(self, scores: Mapping[tuple[Judge, str], pd.DataFrame], sections: str) -> None:
        self.sections = sections
        self.values: dict[tuple[Judge, str], np.ndarray] = {}
        for key, rows in scores.items():
            frame = item_outcomes(rows, sections)
            if not self.values:
                self.items = frame[["id", "subset"]].reset_index(drop=True)
            self.values[key] = frame.set_index("id")["outcome"].loc[self.items["id"]].to_numpy(float)
        subsets = self.items["subset"]
        self.weights = row_weights(subsets, sections)
        self.section_of = subsets.map(subset_table(subsets.tolist(), sections)["section"])
        self.names = [*section_names(subsets.tolist(), sections), AVERAGE]
        self.judges = list(dict.fromkeys(judge for judge, _ in self.values))
        self.languages = list(dict.fromkeys(language for _, language in self.values))

    def share(self, section: str) -> np.ndarray:
        """Weights [items] of one section's items, zero elsewhere, summing to one."""
        inside = np.ones(len(self.items), bool) if section == AVERAGE else (self.section_of == section).to_numpy()
        return np.where(inside, self.weights, 0) / self.weights[inside].sum()

    def by_model(self, language: str) -> dict[tuple[str, str], np.ndarray]:
        """(base model, training language) to outcomes [items, seeds] in one language."""
        found: dict[tuple[str, str], list[np.ndarray]] = {}
        for (base, train, seed), where in self.values:
            if where == language:
                found.setdefault((base, train), []).append(self.values[(base, train, seed), where])
        return {model: np.stack(outcomes, axis=1) for model, outcomes in found.items()}


def transfer_table(outcomes: Outcomes) -> pd.DataFrame:
    """``transfer.csv``: accuracy with Wilson's interval, one row per judge, evaluation language and section."""
    lines = []
    for (judge, language), values in outcomes.values.items():
        for section in outcomes.names:
            share = outcomes.share(section)
            accuracy = float(share @ values)
            low, high = wilson(accuracy, share)
            lines.append((*judge, language, section, accuracy, low, high, int((share > 0).sum())))
    return pd.DataFrame(lines, columns=TRANSFER_COLUMNS)


def seeds_table(outcomes: Outcomes, resamples: Resamples) -> pd.DataFrame:
    """``seeds.csv``: mean and spread over seeds, the interval from draws of items and seeds."""
    lines: list[tuple] = []
    for language in outcomes.languages:
        models = outcomes.by_model(language)
        last = np.cumsum([these.shape[1] for these in models.values()])[:-1]
        values = np.concatenate(list(models.values()), axis=1)
        for section in outcomes.names:
            share = outcomes.share(section)
            of_models = np.split(share @ values, last)
            draws_of_models = np.split(resamples.means(values, share), last, axis=1)
            for (base, train), accuracies, draws in zip(models, of_models, draws_of_models, strict=True):
                spread = float(accuracies.std(ddof=1)) if len(accuracies) > 1 else None
                low, high = interval(resamples.two_way(draws))
                lines.append((base, train, language, section, accuracies.mean(), spread, low, high, len(accuracies)))
    columns = ["base_model", "train_language", "eval_language", "section", "mean", "sd", "ci_low", "ci_high", "seeds"]
    return pd.DataFrame(lines, columns=columns)


def significance_table(outcomes: Outcomes, resamples: Resamples) -> pd.DataFrame:
    """``significance.csv``: the difference in ``average`` of every two models in every language.

    Outcomes are means over seeds. The interval is a paired bootstrap over items, the p-value a paired permutation test,
    adjusted by Holm's method within a family: comparisons to the same base's model trained in the evaluation language
    (``in-language``), and all ``other`` ones.
    """
    cells: list[tuple[str, tuple[str, str], int]] = []  # language, model, seeds
    columns: list[np.ndarray] = []
    pairs: list[tuple[int, int]] = []
    for language in outcomes.languages:
        start = len(cells)
        for model, these in outcomes.by_model(language).items():
            cells.append((language, model, these.shape[1]))
            columns.append(these.mean(axis=1))
        for i, j in combinations(range(start, len(cells)), 2):
            # The in-language model is the one to compare to, so it comes second.
            (base, train), other = cells[i][1], cells[j][1]
            pairs.append((j, i) if train == language and base == other[0] else (i, j))
    if not pairs:
        return pd.DataFrame(columns=SIGNIFICANCE_COLUMNS)
    values = np.stack(columns, axis=1)
    first, second = np.array(pairs).T
    p_values = permutation_p_values(values, first, second, outcomes.weights)
    means = outcomes.weights @ values
    lines = []
    for language, tests in groupby(zip(pairs, p_values, strict=True), lambda test: cells[test[0][0]][0]):
        of_language = [k for k, cell in enumerate(cells) if cell[0] == language]
        draws = dict(zip(of_language, resamples.means(values[:, of_language], outcomes.weights).T.copy(), strict=True))
        for (i, j), p_value in tests:
            (_, a, seeds_a), (_, b, seeds_b) = cells[i], cells[j]
            family = IN_LANGUAGE if a[0] == b[0] and b[1] == language else "other"
            low, high = interval(draws[i] - draws[j])
            n, seeds = len(values), min(seeds_a, seeds_b)
            lines.append((language, *a, *b, family, means[i] - means[j], low, high, p_value, np.nan, n, seeds))
    table = pd.DataFrame(lines, columns=SIGNIFICANCE_COLUMNS)
    for _, rows in table.groupby("family").groups.items():
        table.loc[rows, "p_holm"] = holm(table.loc[rows, "p_value"].to_numpy())
    return table


def consistency_table(outcomes: Outcomes, source: str, resamples: Resamples) -> pd.DataFrame:
    """``consistency.csv``: Cohen's kappa between the outcomes in a language and in the source language.

    An item is right where its outcome is full, and a tie is wrong, as in the accuracy.
    """
    lines = []
    for judge in outcomes.judges:
        languages = [language for j, language in outcomes.values if j == judge and language != source]
        if not languages or (judge, source) not in outcomes.values:
            continue
        here = np.stack([outcomes.values[judge, language] >= 1 for language in languages], axis=1).astype(float)
        there = np.broadcast_to((outcomes.values[judge, source] >= 1).astype(float)[:, None], here.shape)
        for language, a, b, draws in zip(languages, here.T, there.T, resamples.kappas(here, there).T, strict=True):
            lines.append((*judge, language, kappa(a, b), *interval(draws), (a == b).mean(), len(a)))
    return pd.DataFrame(lines, columns=[*JUDGE, "eval_language", "kappa", "ci_low", "ci_high", "agreement", "n"])


def rewards_table(scores: Mapping[tuple[Judge, str], pd.DataFrame]) -> pd.DataFrame:
    """``rewards.csv``: how rewards and margins are distributed, in the model's own units."""
    lines = []
    for (judge, language), rows in scores.items():
        kinds = {"chosen": rows["reward_chosen"], "rejected": rows["reward_rejected"], "margin": _margins(rows)}
        for what, values in kinds.items():
            spread = values.std(ddof=1) if len(values) > 1 else 0.0
            lines.append((*judge, language, what, values.mean(), spread, *np.quantile(values, _QUANTILES), len(values)))
    names = [f"q{100 * q:02.0f}" for q in _QUANTILES]
    return pd.DataFrame(lines, columns=[*JUDGE, "eval_language", "what", "mean", "sd", *names, "n"])


def calibration_table(scores: Mapping[tuple[Judge, str], pd.DataFrame]) -> pd.DataFrame:
    """``calibration.csv``: how far sigmoid(margin) is from the share of pairs that are right."""
    lines = []
    for (judge, language), rows in scores.items():
        margins = _margins(rows)
        error, confidence = expected_calibration_error(margins)
        lines.append((*judge, language, error, confidence, (margins > 0).mean(), int((margins == 0).sum()), len(rows)))
    columns = [*JUDGE, "eval_language", "ece", "confidence", "accuracy", "ties", "n"]
    return pd.DataFrame(lines, columns=columns)


def length_bias_table(scores: Mapping[tuple[Judge, str], pd.DataFrame]) -> pd.DataFrame:
    """``length_bias.csv``: accuracy where the chosen answer is the longer and where it is the shorter one, in tokens."""
    lines: list[tuple] = []
    for (judge, language), rows in scores.items():
        if rows["tokens_chosen"].isna().any():
            continue
        longer = (rows["tokens_chosen"] - rows["tokens_rejected"]).to_numpy(float)
        margins = _margins(rows)
        parts = [margins[longer > 0] > 0, margins[longer < 0] > 0]
        values = [value for part in parts for value in (part.mean() if len(part) else np.nan, len(part))]
        varied = len(set(margins)) > 1 and len(set(longer)) > 1
        lines.append((*judge, language, *values, spearmanr(margins, longer)[0] if varied else np.nan, len(rows)))
    columns = ["accuracy_longer", "n_longer", "accuracy_shorter", "n_shorter", "spearman", "n"]
    return pd.DataFrame(lines, columns=[*JUDGE, "eval_language", *columns])


def length_baseline(scores: Mapping[tuple[Judge, str], pd.DataFrame], sections: str) -> pd.DataFrame:
    """How often "the longer answer, in tokens, is better" is right: ``base_model`` (whose tokenizer counts),
    ``eval_language, subset, accuracy, n``; ``average`` is weighted like the transfer table's. Ties are wrong."""
    lines: list[tuple] = []
    counted: set[tuple[str, str]] = set()
    for ((base, train, _), language), rows in scores.items():
        # Translate-test counts the tokens of another text.
        if (base, language) in counted or rows["tokens_chosen"].isna().any() or train == "translate-test":
            continue
        counted.add((base, language))
        lengths = {"reward_chosen": rows["tokens_chosen"], "reward_rejected": rows["tokens_rejected"]}
        items = item_outcomes(rows.assign(**lengths), sections)
        for subset, these in items.groupby("subset", sort=True):
            lines.append((base, language, subset, these["outcome"].mean(), len(these)))
        average = float(row_weights(items["subset"], sections) @ items["outcome"].to_numpy(float))
        lines.append((base, language, AVERAGE, average, len(items)))
    return pd.DataFrame(lines, columns=["base_model", "eval_language", "subset", "accuracy", "n"])


def source_advantage(outcomes: Outcomes, source: str, resamples: Resamples) -> tuple[float, float, float, int] | None:
    """By how much the source-language reward model is better than the target-language ones in their own languages.

    The difference in average accuracy, mean over target languages, base models and seeds, with a 95 % percentile
    interval from a paired bootstrap over items.

    Returns:
        Difference, lower and upper bound (in accuracy, not per cent), number of items; None where no base has both.
    """
    differences = [
        outcomes.values[(base, source, seed), language] - values
        for ((base, train, seed), language), values in outcomes.values.items()
        if train == language != source and ((base, source, seed), language) in outcomes.values
    ]
    if not differences:
        return None
    difference = np.mean(differences, axis=0)
    low, high = interval(resamples.means(difference[:, None], outcomes.weights)[:, 0])
    return float(outcomes.weights @ difference), low, high, len(difference)


def headline(outcomes: Outcomes, significance: pd.DataFrame, source: str, resamples: Resamples) -> str:
    """The study's answer in a few sentences, whichever way it falls."""
    family = significance[significance["family"] == IN_LANGUAGE]
    advantage = source_advantage(outcomes, source, resamples)
    if advantage is None:
        sentences = _source_against_rest(outcomes, source, resamples)
    else:
        # A language that no model was trained in is evaluated, but there is nothing to compare to.
        targets = family.loc[family["train_a"] == source, "eval_language"].unique()
        sentences = [_source_against_targets(source, targets, *advantage)]
    if len(family):
        differing = family[family["p_holm"] < _ALPHA]
        worse = int((differing["difference"] < 0).sum())
        found = f"{len(differing)} are" if len(differing) != 1 else "1 is"
        found += f" ({worse} of them to the disadvantage of the model from elsewhere)"
        sentences.append(
            f"Of {len(family)} difference{'s' if len(family) > 1 else ''} to the in-language reward model, "
            f"{found if len(differing) else 'none is'} significant at 5 % after Holm's correction (paired permutation tests)."
        )
    if len(family) > 1:
        gap, low, high = _mean_difference(outcomes, family, resamples)
        sentences.append(
            f"On average the model from elsewhere is {abs(100 * gap):.1f} points {'above' if gap > 0 else 'below'} the "
            f"in-language one (95 % interval {100 * low:+.1f} to {100 * high:+.1f}; paired bootstrap)."
        )
    return "\n".join(sentences)


def _mean_difference(outcomes: Outcomes, tests: pd.DataFrame, resamples: Resamples) -> tuple[float, float, float]:
    """Mean over ``tests`` of the difference between two models, with an interval: what many small ones come to."""
    models = {language: outcomes.by_model(language) for language in tests["eval_language"].unique()}
    differences = [
        models[test.eval_language][test.base_a, test.train_a].mean(axis=1)
        - models[test.eval_language][test.base_b, test.train_b].mean(axis=1)
        for test in tests.itertuples()
    ]
    mean = np.mean(differences, axis=0)
    return float(outcomes.weights @ mean), *interval(resamples.means(mean[:, None], outcomes.weights)[:, 0])


def _source_against_targets(
    source: str, targets: Sequence[str], difference: float, low: float, high: float, n: int
) -> str:
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


def _source_against_rest(outcomes: Outcomes, source: str, resamples: Resamples) -> list[str]:
    """For models of others: accuracy in the source language and on average in the rest."""
    lines = []
    for judge in outcomes.judges:
        if (judge, source) not in outcomes.values:
            continue
        base, train, seed = judge
        name = base if train == OFF_THE_SHELF else f"{base} trained in {train} (seed {seed})"
        here = outcomes.values[judge, source]
        line = f"{name}: {100 * outcomes.weights @ here:.1f} % in {source}"
        rest = [v for (j, language), v in outcomes.values.items() if j == judge and language != source]
        if rest:
            there = np.mean(rest, axis=0)
            low, high = interval(resamples.means((there - here)[:, None], outcomes.weights)[:, 0])
            line += (
                f", {100 * outcomes.weights @ there:.1f} % on average over {len(rest)} other "
                f"language{'s' if len(rest) > 1 else ''} (difference {100 * outcomes.weights @ (there - here):+.1f} points, "
                f"95 % interval {100 * low:+.1f} to {100 * high:+.1f}; paired bootstrap over {len(here)} benchmark items)"
            )
        else:
            low, high = wilson(float(outcomes.weights @ here), outcomes.weights)
            line += f" (95 % interval {100 * low:.1f} to {100 * high:.1f}; {len(here)} benchmark items)"
        lines.append(f"{line}.")
    return lines


def evaluate_transfer(
    score_files: Mapping[Judge, Mapping[str, Path]],
    sections: str,
    source: str,
    outputs: Mapping[str, Path],
    *,
    contaminated: Collection[str] = (),
) -> str:
    """Write a benchmark's tables and the answer; return the answer.

    Args:
        score_files: judge to evaluation language to score file; a judge may lack languages.
        sections: name of the section table.
        outputs: what to write where: ``transfer, transfer_clean, length_baseline, seeds, significance, consistency,
            rewards, calibration, length_bias, answer``.
        contaminated: ids of rows that ``transfer_clean`` leaves out.

    Raises:
        StudyError: a reward is not a finite number, or the ids of a file are not those of the others.
    """
    scores = _load(score_files)
    outcomes = Outcomes(scores, sections)
    resamples = Resamples(outcomes.items["subset"].to_numpy())
    significance = significance_table(outcomes, resamples)
    tables = {
        "transfer": transfer_table(outcomes),
        "transfer_clean": _without(scores, sections, contaminated),
        "length_baseline": length_baseline(scores, sections),
        "seeds": seeds_table(outcomes, resamples),
        "significance": significance,
        "consistency": consistency_table(outcomes, source, resamples),
        "rewards": rewards_table(scores),
        "calibration": calibration_table(scores),
        "length_bias": length_bias_table(scores),
    }
    for name, table in tables.items():
        table.to_csv(outputs[name], index=False, float_format="%.6f")
    answer = "\n".join([headline(outcomes, significance, source, resamples), *_empty_sections(outcomes)])
    outputs["answer"].write_text(answer + "\n", encoding="utf-8")
    return answer


def _empty_sections(outcomes: Outcomes) -> list[str]:
    empty = [section for section in SECTIONS.get(outcomes.sections, ()) if section not in outcomes.names]
    if not empty:
        return []
    there = ", ".join(name for name in outcomes.names if name != AVERAGE)
    return [f"The benchmark has no rows in {', '.join(empty)}: the average is that of {there}."]


def _load(score_files: Mapping[Judge, Mapping[str, Path]]) -> dict[tuple[Judge, str], pd.DataFrame]:
    scores: dict[tuple[Judge, str], pd.DataFrame] = {}
    ids: list[str] | None = None
    for judge, files in score_files.items():
        for language, path in files.items():
            rows = pd.read_parquet(path).astype({"reward_chosen": float, "reward_rejected": float})
            rewards = rows[["reward_chosen", "reward_rejected"]].to_numpy(float)
            if not np.isfinite(rewards).all():
                first = rows["id"][~np.isfinite(rewards).all(axis=1)].iloc[0]
                raise StudyError(
                    f"{path}: the rewards of {first!r} are not finite numbers; score again, or drop the model"
                )
            if ids is None:
                ids = rows["id"].tolist()
            elif rows["id"].tolist() != ids:
                raise StudyError(f"{path}: holds other rows than the other score files; remove it and run again")
            scores[judge, language] = rows
    return scores


def _without(
    scores: Mapping[tuple[Judge, str], pd.DataFrame], sections: str, contaminated: Collection[str]
) -> pd.DataFrame:
    """The transfer table over the items that hold no contaminated row."""
    first = next(iter(scores.values()))
    group = first["id"].map(item_of) if sections == "rewardbench2" else first["id"]
    clean = ~group.isin(set(group[first["id"].isin(set(contaminated))])).to_numpy()
    if not clean.any():
        return pd.DataFrame(columns=TRANSFER_COLUMNS)
    return transfer_table(Outcomes({key: rows[clean] for key, rows in scores.items()}, sections))


def _margins(rows: pd.DataFrame) -> np.ndarray:
    return (rows["reward_chosen"] - rows["reward_rejected"]).to_numpy(float)
