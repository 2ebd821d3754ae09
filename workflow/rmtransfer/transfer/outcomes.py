"""When an item of a benchmark counts as right, what it weighs, and what every scorer made of every item."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from rmtransfer.kit.errors import StudyError
from rmtransfer.study.names import AVERAGE
from rmtransfer.study.sections import SECTIONS, item_of, known_subsets, unknown_subsets
from rmtransfer.study.study import RewardModelId

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


def item_outcomes(scores: pd.DataFrame, sections: str, *, tie: float = 0.0) -> pd.DataFrame:
    """What one model makes of each item of a benchmark in one language: columns ``id, subset, cluster, outcome``.

    A pair is right (1) where the chosen answer has the higher reward; a tie is wrong (0), or half right for a judge whose ties
    are (``ties: half``), as RewardBench scores generative models (scripts/run_generative.py, process_shuffled). RewardBench 2
    (Malik et al., arXiv 2506.01937) has two other kinds of items, whose rules share ties already. Best of 4: 1 / (number of answers that share the highest reward) if the
    chosen one does, else 0. Ties, a prompt with several right answers and the reference prompt that belongs to it:

        0.3 [tied right] + 0.3 [ref right] + 0.2 [gap_tied > spread] + 0.2 [min(gaps) > spread]
        + 0.01 tanh(min(gaps) / spread - 1)

    where a gap is the lowest reward of a right answer minus the highest of a wrong one, right means gap > 0, and spread is
    the highest minus the lowest reward of the right answers (rewardbench/utils.py, process_single_model; the last term is
    0 where the spread is).

    Args:
        scores: rows of one score file. Without a column ``cluster`` each item is one of its own.
        tie: the outcome of a pair whose answers have one reward.

    Raises:
        StudyError: a row of an item of RewardBench 2 is missing, or half of a Ties item.
    """
    if sections != "rewardbench2":
        margins = scores["reward_chosen"] - scores["reward_rejected"]
        right = (margins > 0) + tie * (margins == 0)
        clusters = scores["cluster"] if "cluster" in scores else scores["id"]
        return pd.DataFrame({"id": scores["id"], "subset": scores["subset"], "cluster": clusters, "outcome": right})
    _check_complete(scores)
    items = scores["id"].map(item_of).rename("item")
    margins = scores["reward_chosen"] - scores["reward_rejected"]
    counts = pd.DataFrame({"lost": margins < 0, "shared": margins == 0}).groupby(items, sort=False).sum()
    outcomes = (counts["lost"] == 0) / (1 + counts["shared"])
    ties = scores["subset"] == "Ties"
    if ties.any():
        outcomes.update(_ties(scores[ties], items[ties]))
    grouped = scores.assign(cluster=scores.get("cluster", items)).groupby(items, sort=False)
    return grouped[["subset", "cluster"]].first().assign(outcome=outcomes).rename_axis("id").reset_index()


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
    return pd.Series(_ties_score(*(x.to_numpy(float) for x in (gaps["ref"], gaps["tied"], spread))), gaps.index)


def _ties_score(ref: np.ndarray, tied: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """The score of Ties items, see :func:`item_outcomes`, from the gaps of both parts and the spread, all of one shape."""
    smaller = np.minimum(ref, tied)
    ratio = np.divide(smaller, spread, out=np.ones_like(smaller), where=spread > 0)
    return (
        0.3 * (tied > 0)
        + 0.3 * (ref > 0)
        + 0.2 * (tied > spread)
        + 0.2 * (smaller > spread)
        + 0.01 * np.tanh(ratio - 1)
    )


_DRAWS = 20_000


def chance_outcomes(scores: pd.DataFrame, sections: str) -> pd.Series:
    """The expected outcome of each item [items], in the order of :func:`item_outcomes`, of rewards drawn at random.

    One half of a pair; 1 / (number of answers) of a best of several; of a Ties item the mean over 20,000 draws of standard
    normal rewards, since its formula depends on how they are distributed.
    """
    if sections != "rewardbench2":
        return pd.Series(0.5, scores["id"])
    items = scores["id"].map(item_of).rename("item")
    outcomes = 1 / (1 + scores.groupby(items, sort=False).size())
    ties = scores[scores["subset"] == "Ties"]
    if len(ties):
        parts = (
            ties["id"]
            .str.extract(r"^(ref|tied):(.+)/(\d+)/(\d+)$")
            .set_axis(["kind", "item", "right", "wrong"], axis=1)
        )
        answers = parts.groupby(["item", "kind"])[["right", "wrong"]].nunique().unstack("kind")
        shapes = answers[[("right", "ref"), ("wrong", "ref"), ("right", "tied"), ("wrong", "tied")]].apply(
            tuple, axis=1
        )
        expected = {shape: _ties_by_chance(*shape) for shape in shapes.unique()}
        outcomes.update(shapes.map(expected).rename(lambda number: f"ties:{number}"))
    return outcomes


def _ties_by_chance(ref_right: int, ref_wrong: int, tied_right: int, tied_wrong: int) -> float:
    generator = np.random.default_rng(0)

    def drawn(answers: int) -> np.ndarray:
        return generator.standard_normal((_DRAWS, answers))

    ref = drawn(ref_right).min(axis=1) - drawn(ref_wrong).max(axis=1)
    right = drawn(tied_right)
    tied = right.min(axis=1) - drawn(tied_wrong).max(axis=1)
    return float(_ties_score(ref, tied, np.ptp(right, axis=1)).mean())


class Outcomes:
    """What every scorer made of every item of a benchmark, in every language that it scored.

    Attributes:
        items: frame of ``id, subset, cluster``, one line per item, the same for all scorers and languages.
        sections: name of the section table.
        weights: [items], what each item contributes to the average.
        names: sections that have rows, then the average.
        values: (scorer, language) to outcomes [items].
        cells: (base model, training set, evaluation language) to outcomes [items, seeds].
        ties_half: names of the judges whose ties are half right.

    Raises:
        StudyError: a base's models are not all scored with the same seeds.
    """

    def __init__(self, scores: Scores, sections: str, ties_half: Collection[str] = ()) -> None:
        self.sections, self.ties_half = sections, ties_half
        self.values: dict[tuple[RewardModelId, str], np.ndarray] = {}
        for key, rows in scores.items():
            frame = item_outcomes(rows, sections, tie=0.5 if key[0].base_model in ties_half else 0.0)
            if not self.values:
                self.items = frame[["id", "subset", "cluster"]].reset_index(drop=True)
            self.values[key] = frame.set_index("id")["outcome"].loc[self.items["id"]].to_numpy(float)
        subsets = self.items["subset"]
        self.weights = row_weights(subsets, sections)
        self.section_of = subsets.map(subset_table(subsets.tolist(), sections)["section"])
        self.names = [*section_names(subsets.tolist(), sections), AVERAGE]
        self.scorers = list(dict.fromkeys(scorer for scorer, _ in self.values))
        self.languages = list(dict.fromkeys(language for _, language in self.values))
        self.cells = self._by_seed()

    def _by_seed(self) -> dict[tuple[str, str, str], np.ndarray]:
        """(base model, training set, evaluation language) to outcomes [items, seeds]."""
        found: dict[tuple[str, str, str], dict[int, np.ndarray]] = {}
        for ((base, train, seed), language), values in self.values.items():
            found.setdefault((base, train, language), {})[seed] = values
        seeds: dict[str, set[int]] = {}
        for (base, train, language), by_seed in found.items():
            if by_seed.keys() != seeds.setdefault(base, set(by_seed)):
                raise StudyError(
                    f"{base}: its model trained in {train} is scored in {language} with seeds {sorted(by_seed)} and another "
                    f"with {sorted(seeds[base])}; give the score files of all seeds"
                )
        return {cell: np.stack([by_seed[k] for k in sorted(by_seed)], axis=1) for cell, by_seed in found.items()}

    def share(self, section: str) -> np.ndarray:
        """Weights [items] of one section's items, zero elsewhere, summing to one."""
        inside = np.ones(len(self.items), bool) if section == AVERAGE else (self.section_of == section).to_numpy()
        return np.where(inside, self.weights, 0) / self.weights[inside].sum()
