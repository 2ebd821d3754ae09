"""When an item of a benchmark counts as right, what it weighs, and what every scorer made of every item."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rmtransfer.kit.errors import StudyError
from rmtransfer.study.names import AVERAGE
from rmtransfer.study.sections import SECTIONS, item_of, known_subsets, unknown_subsets
from rmtransfer.study.study import RewardModelId
from rmtransfer.transfer.statistics import Resamples

Scores = Mapping[tuple[RewardModelId, str], pd.DataFrame]  # scorer and evaluation language to rows of a score file


def subset_table(subsets: Sequence[str | None], sections: str) -> pd.DataFrame:
    """Section and weight of each distinct subset: a frame indexed by subset with columns ``section`` and ``weight``.

    Under ``subsets`` every subset is a section of its own. Under the tables of RewardBench a subset named like a section,
    lower-cased with hyphens (chat-hard), is that section's only one.

    Raises:
        StudyError: a row has no subset, or one that no section knows.
    """
    distinct = list(dict.fromkeys(None if pd.isna(subset) else subset for subset in subsets))
    known = known_subsets(sections) or {subset: (subset, 1.0) for subset in distinct if subset}
    found = [(*known[subset], subset) for subset in distinct if subset in known]
    if len(found) < len(distinct):
        raise StudyError(f"benchmark: a row {unknown_subsets([s for s in distinct if s not in known], sections)}")
    return pd.DataFrame(found, columns=["section", "weight", "subset"]).set_index("subset")


def section_names(subsets: Sequence[str | None], sections: str) -> list[str]:
    """The sections that have rows, in the benchmark's order."""
    present = list(dict.fromkeys(subset_table(subsets, sections)["section"]))
    return present if sections == "subsets" else [s for s in SECTIONS[sections] if s in present]


def row_weights(subsets: pd.Series, sections: str) -> np.ndarray:
    """What each item contributes to the average over sections: [n], summing to one.

    A section is the mean of its subsets' accuracies, weighted by the table's counts; the average is the plain mean of the
    sections that have rows.
    """
    table = subset_table(subsets.tolist(), sections)
    counts = subsets.value_counts()
    share = table["weight"] / table.groupby("section")["weight"].transform("sum") / table["section"].nunique()
    return subsets.map(share / counts.reindex(table.index)).to_numpy(float)


def item_outcomes(scores: pd.DataFrame, sections: str) -> pd.DataFrame:
    """What one model makes of each item of a benchmark in one language: columns ``id, subset, outcome``.

    A pair is right (1) where the chosen answer has the higher reward; a tie is wrong (0). RewardBench 2 (Malik et al.,
    arXiv 2506.01937) has two other kinds of items. Best of 4: 1 / (number of answers that share the highest reward) if the
    chosen one does, else 0. Ties, a prompt with several right answers and the reference prompt that belongs to it:

        0.3 [tied right] + 0.3 [ref right] + 0.2 [gap_tied > spread] + 0.2 [min(gaps) > spread]
        + 0.01 tanh(min(gaps) / spread - 1)

    where a gap is the lowest reward of a right answer minus the highest of a wrong one, right means gap > 0, and spread is
    the highest minus the lowest reward of the right answers (rewardbench/utils.py, process_single_model; the last term is
    0 where the spread is).

    Args:
        scores: rows of one score file.

    Raises:
        StudyError: a row of an item of RewardBench 2 is missing, or half of a Ties item.
    """
    if sections != "rewardbench2":
        right = (scores["reward_chosen"] > scores["reward_rejected"]).astype(float)
        return pd.DataFrame({"id": scores["id"], "subset": scores["subset"], "outcome": right})
    _check_complete(scores)
    items = scores["id"].map(item_of).rename("item")
    margins = scores["reward_chosen"] - scores["reward_rejected"]
    counts = pd.DataFrame({"lost": margins < 0, "shared": margins == 0}).groupby(items, sort=False).sum()
    outcomes = (counts["lost"] == 0) / (1 + counts["shared"])
    ties = scores["subset"] == "Ties"
    if ties.any():
        outcomes.update(_ties(scores[ties], items[ties]))
    subsets = scores["subset"].groupby(items, sort=False).first()
    return pd.DataFrame({"subset": subsets, "outcome": outcomes}).rename_axis("id").reset_index()


def _check_complete(scores: pd.DataFrame) -> None:
    """An item whose rows go up to answer m has m + 1 of them, and at least 3 outside Ties: a best of fewer is easier."""
    parts = scores["id"].str.extract(r"^(.+)/(\d+)/(\d+)$")
    if parts[0].isna().any():
        raise StudyError(
            f"benchmark: id {scores['id'][parts[0].isna()].iloc[0]!r} of RewardBench 2 does not end in "
            "/<chosen>/<rejected>; write ids like 17/0/2"
        )
    last = parts[[1, 2]].astype(int).max(axis=1)
    items = pd.DataFrame({"last": last, "least": np.where(scores["subset"] == "Ties", 1, 3)}).groupby(parts[0]).max()
    rows, needed = parts[0].value_counts().reindex(items.index), np.maximum(items["last"] + 1, items["least"])
    for item in items.index[rows != needed]:
        raise StudyError(
            f"benchmark: item {item!r} of RewardBench 2 has {rows[item]} rows instead of {needed[item]}; "
            "give all of them, or drop the item"
        )


def _ties(rows: pd.DataFrame, items: pd.Series) -> pd.Series:
    parts = rows.groupby([items, rows["id"].str.partition(":")[0].rename("kind")])
    lowest = parts["reward_chosen"].min()
    gaps = (lowest - parts["reward_rejected"].max()).unstack().reindex(columns=["ref", "tied"])
    for kind in gaps:
        if gaps[kind].isna().any():
            raise StudyError(f"benchmark: item {gaps.index[gaps[kind].isna()][0]!r} of Ties has no {kind} part; add it")
    spread = (parts["reward_chosen"].max() - lowest).unstack()["tied"]
    smaller = gaps.min(axis=1)
    ratio = (smaller / spread).where(spread > 0, 1.0)
    return (
        0.3 * (gaps["tied"] > 0)
        + 0.3 * (gaps["ref"] > 0)
        + 0.2 * (gaps["tied"] > spread)
        + 0.2 * (smaller > spread)
        + 0.01 * np.tanh(ratio - 1)
    )


class Outcomes:
    """What every scorer made of every item of a benchmark, in every language that it scored.

    Attributes:
        items: frame of ``id, subset``, one line per item, the same for all scorers and languages.
        sections: name of the section table.
        weights: [items], what each item contributes to the average.
        names: sections that have rows, then the average.
        values: (scorer, language) to outcomes [items].
    """

    def __init__(self, scores: Scores, sections: str) -> None:
        self.sections = sections
        self.values: dict[tuple[RewardModelId, str], np.ndarray] = {}
        for key, rows in scores.items():
            frame = item_outcomes(rows, sections)
            if not self.values:
                self.items = frame[["id", "subset"]].reset_index(drop=True)
            self.values[key] = frame.set_index("id")["outcome"].loc[self.items["id"]].to_numpy(float)
        subsets = self.items["subset"]
        self.weights = row_weights(subsets, sections)
        self.section_of = subsets.map(subset_table(subsets.tolist(), sections)["section"])
        self.names = [*section_names(subsets.tolist(), sections), AVERAGE]
        self.scorers = list(dict.fromkeys(scorer for scorer, _ in self.values))
        self.languages = list(dict.fromkeys(language for _, language in self.values))

    def share(self, section: str) -> np.ndarray:
        """Weights [items] of one section's items, zero elsewhere, summing to one."""
        inside = np.ones(len(self.items), bool) if section == AVERAGE else (self.section_of == section).to_numpy()
        return np.where(inside, self.weights, 0) / self.weights[inside].sum()

    def by_model(self, language: str) -> dict[tuple[str, str], np.ndarray]:
        """(base model, training language) to outcomes [items, seeds] in one language."""
        found: dict[tuple[str, str], list[np.ndarray]] = {}
        for ((base, train, _), eval_language), values in self.values.items():
            if eval_language == language:
                found.setdefault((base, train), []).append(values)
        return {model: np.stack(outcomes, axis=1) for model, outcomes in found.items()}


@dataclass(frozen=True)
class Evaluation:
    """What the measures of a benchmark are made of.

    Attributes:
        resamples: the same draws of items for everything that is compared.
        source: the study's source language.
        contaminated: ids of rows whose prompts are also in the training data.
    """

    scores: Scores
    outcomes: Outcomes
    resamples: Resamples
    source: str
    contaminated: Collection[str] = ()
