"""Sections and outcomes against the code of RewardBench and values worked out by hand."""

import importlib
import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from rmtransfer.kit.errors import StudyError
from rmtransfer.study.sections import SECTIONS, item_of
from rmtransfer.study.study import RewardModelId
from rmtransfer.transfer.outcomes import Outcomes, item_outcomes, row_weights, section_names, subset_table


@pytest.fixture(scope="module")
def rewardbench():
    """``constants`` and ``utils`` of the package, whose own dependencies need not be there."""
    spec = importlib.util.find_spec("rewardbench")
    assert spec, "pip install --no-deps -r envs/parity.lock"
    package = ModuleType("rewardbench")
    package.__path__ = [str(Path(spec.origin).parent)]
    models, fastchat, conversation = map(ModuleType, ("rewardbench.models", "fastchat", "fastchat.conversation"))
    models.REWARD_MODEL_CONFIG, conversation.Conversation = {}, object
    with pytest.MonkeyPatch.context() as patch:
        for module in (package, models, fastchat, conversation):
            patch.setitem(sys.modules, module.__name__, module)
        found = SimpleNamespace(
            **{name: importlib.import_module(f"rewardbench.{name}") for name in ("constants", "utils")}
        )
        for name in ("constants", "utils"):
            patch.delitem(sys.modules, f"rewardbench.{name}")
    return found


def pairs(item, chosen, rejected, subset):
    """The score rows of an item of RewardBench 2 with these rewards."""
    rows = max(len(chosen), len(rejected))
    where = [(k % len(chosen), k % len(rejected)) for k in range(rows)]
    return pd.DataFrame(
        {
            "id": [f"{item}/{i}/{j}" for i, j in where],
            "subset": subset,
            "reward_chosen": [float(chosen[i]) for i, _ in where],
            "reward_rejected": [float(rejected[j]) for _, j in where],
        }
    )


def test_rewardbench_sections_and_counts_are_the_packages(rewardbench):
    ours = SECTIONS["rewardbench"]
    assert {section: list(counts) for section, counts in ours.items()} == rewardbench.constants.SUBSET_MAPPING
    assert {s: n for counts in ours.values() for s, n in counts.items()} == rewardbench.constants.EXAMPLE_COUNTS


def test_published_totals():
    totals = {name: {s: sum(counts.values()) for s, counts in table.items()} for name, table in SECTIONS.items()}
    # https://github.com/allenai/reward-bench: 358, 456, 740 and 984 + 6 * 164
    assert totals["rewardbench"] == {"Chat": 358, "Chat Hard": 456, "Safety": 740, "Reasoning": 1968}
    # arXiv 2410.15522, whose 1,430 rows of Reasoning are 447 of math and 983 of code: math weighs as much as all code
    assert totals["m_rewardbench"] == {"Chat": 296, "Chat Hard": 407, "Safety": 736, "Reasoning": 983 + 5 * 164 + 163}
    assert sum([296, 407, 736, 447 + 5 * 164 + 163]) == 2869
    assert list(totals["rewardbench2"]) == ["Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties"]


@pytest.mark.parametrize("seed", range(5))
def test_section_scores_are_the_packages(rewardbench, seed):
    generator = np.random.default_rng(seed)
    mapping, counts = rewardbench.constants.SUBSET_MAPPING, rewardbench.constants.EXAMPLE_COUNTS
    present = [s for s in counts if generator.random() < 0.8]
    subsets = pd.Series(generator.permutation(present + list(generator.choice(present, 300))))
    right = pd.Series(generator.random(len(subsets)) < 0.7, dtype=float)
    metrics = right.groupby(subsets).mean().to_dict()
    expected = rewardbench.utils.calculate_scores_per_section(counts, mapping, metrics)
    expected = {section: expected[section] for section, tests in mapping.items() if set(tests) & set(present)}

    weights = row_weights(subsets, "rewardbench")
    section = subsets.map(subset_table(subsets.tolist(), "rewardbench")["section"])
    ours = {name: np.average(right[section == name], weights=weights[section == name]) for name in section.unique()}
    assert ours == pytest.approx(expected)
    assert section_names(subsets.tolist(), "rewardbench") == list(expected)
    assert weights @ right == pytest.approx(np.mean(list(expected.values())))


def test_a_subset_named_like_its_section_stands_for_it():
    subsets = pd.Series(["chat"] * 4 + ["chat-hard"])
    for sections in ("rewardbench", "m_rewardbench"):
        assert row_weights(subsets, sections).tolist() == pytest.approx([1 / 8] * 4 + [1 / 2])
        assert section_names(subsets.tolist(), sections) == ["Chat", "Chat Hard"]


def test_m_rewardbench_weighs_by_what_it_keeps():
    subsets = pd.Series(["mt-bench-easy", "mt-bench-med", "mt-bench-med"])
    assert row_weights(subsets, "m_rewardbench").tolist() == pytest.approx([24 / 62, 19 / 62, 19 / 62])


def test_under_subsets_each_is_a_section_in_order_of_appearance():
    subsets = pd.Series(["zebra", "apple", "zebra", "chat"])
    assert section_names(subsets.tolist(), "subsets") == ["zebra", "apple", "chat"]
    assert row_weights(subsets, "subsets").tolist() == pytest.approx([1 / 6, 1 / 3, 1 / 6, 1 / 3])


def test_domains_of_rewardbench2_weigh_the_same():
    subsets = pd.Series(["Ties", "Math", "Math", "Safety"])
    assert section_names(subsets.tolist(), "rewardbench2") == ["Math", "Safety", "Ties"]
    assert row_weights(subsets, "rewardbench2").tolist() == pytest.approx([1 / 3, 1 / 6, 1 / 6, 1 / 3])


@pytest.mark.parametrize("sections", ["rewardbench", "m_rewardbench", "rewardbench2"])
@pytest.mark.parametrize("subset", ["no-such-subset", None])
def test_an_unknown_subset_is_named(subset, sections):
    with pytest.raises(StudyError, match=repr(subset)):
        subset_table([subset], sections)


@pytest.mark.parametrize("missing", [None, float("nan"), ""])
def test_a_row_without_subset_is_no_section(missing):
    with pytest.raises(StudyError, match="sections 'subsets'"):
        subset_table(["chat", missing], "subsets")


def test_a_tie_is_wrong():
    rows = pd.DataFrame(
        {"id": list("abc"), "subset": "chat", "reward_chosen": [1.0, 0.5, 0.0], "reward_rejected": [0.5, 0.5, 0.5]}
    )
    assert item_outcomes(rows, "rewardbench")["outcome"].tolist() == [1, 0, 0]


def test_a_judges_tie_is_half_right_where_the_study_says_so():
    rows = pd.DataFrame(
        {"id": list("abc"), "subset": "chat", "reward_chosen": [1.0, 0.5, 0.0], "reward_rejected": [0.5, 0.5, 0.5]}
    )
    scores = {(RewardModelId(name), "en"): rows for name in ("judge", "other")}
    outcomes = Outcomes(scores, "rewardbench", ties_half=["judge"])
    assert outcomes.values[RewardModelId("judge"), "en"].tolist() == [1, 0.5, 0]
    assert outcomes.values[RewardModelId("other"), "en"].tolist() == [1, 0, 0]


def test_items_of_rewardbench2():
    assert [item_of(i) for i in ("17/0/2", "a/b/0/2", "ref:3/0/1", "tied:3/4/1")] == ["17", "a/b", "ties:3", "ties:3"]


@pytest.mark.parametrize(
    ("chosen", "rejected", "outcome"),
    [
        (2, [1, 0, 1], 1),
        (2, [1, 3, 1], 0),
        (2, [2, 0, 1], 1 / 2),
        (2, [2, 2, 1], 1 / 3),
        (2, [2, 2, 2], 1 / 4),
        (2, [2, 3, 2], 0),
    ],
)
def test_best_of_four_shares_what_is_shared(chosen, rejected, outcome):
    table = item_outcomes(pairs("1", [chosen], rejected, "Math"), "rewardbench2")
    assert table.drop(columns="cluster").to_dict("list") == {
        "id": ["1"],
        "subset": ["Math"],
        "outcome": [pytest.approx(outcome)],
    }


def test_best_of_four_is_the_packages(rewardbench):
    rewards = np.random.default_rng(0).integers(0, 4, (300, 4)).astype(float)
    flat = Dataset.from_dict(
        {
            "text": [f"{i}/{k}" for i in range(300) for k in range(4)],
            "scores": rewards.ravel().tolist(),
            "id": [str(i) for i in range(300) for _ in range(4)],
        }
    )
    expected = rewardbench.utils.reroll_and_score_dataset(flat, [4] * 300)
    rows = pd.concat([pairs(str(i), these[:1], these[1:], "Focus") for i, these in enumerate(rewards)])
    rows = rows.sample(frac=1, random_state=0)  # the order of rows is no part of the contract
    ours = item_outcomes(rows, "rewardbench2").set_index("id")["outcome"]
    assert ours.to_dict() == pytest.approx(dict(zip(expected["id"], expected["results"], strict=True)))
    assert {round(v, 3) for v in ours} == {0, 0.25, 0.333, 0.5, 1}


def ties_items(generator, n, exact):
    """(ref rewards, tied rewards) of n items: one right answer and 4 wrong; 2 to 7 right and 1 to 9 wrong."""
    for _ in range(n):
        sizes = ((1, 4), (int(generator.integers(2, 8)), int(generator.integers(1, 10))))
        if exact:
            lift = generator.integers(0, 6)
            draw = [[generator.integers(0, 3, k).astype(float) + lift * right for right, k in ((1, c), (0, r))]
                    for c, r in sizes]  # fmt: skip
        else:
            draw = [[generator.normal(3 * right, 0.8, k) for right, k in ((1, c), (0, r))] for c, r in sizes]
        yield draw


def package_ties(rewardbench, items):
    samples = [
        {"id": f"{kind}:{n}", "scores": np.concatenate(part).tolist(), "num_correct": len(part[0])}
        for n, item in items
        for kind, part in zip(("ref", "tied"), item, strict=True)
    ]
    return rewardbench.utils.process_single_model(samples)[1]


def our_ties(items):
    rows = [
        pairs(f"{kind}:{n}", *part, "Ties")
        for n, item in items
        for kind, part in zip(("ref", "tied"), item, strict=True)
    ]
    return item_outcomes(pd.concat(rows), "rewardbench2")


@pytest.mark.parametrize("exact", [False, True])
def test_each_ties_item_scores_as_the_packages(rewardbench, exact):
    items = list(enumerate(ties_items(np.random.default_rng(1), 40, exact)))
    expected = [package_ties(rewardbench, [item]) for item in items]
    ours = our_ties(items)
    assert ours["id"].tolist() == [f"ties:{n}" for n, _ in items]
    assert ours["outcome"].tolist() == pytest.approx(expected)
    assert len({round(v, 1) for v in expected}) > 3


@pytest.mark.parametrize("exact", [False, True])
def test_ties_score_is_the_packages(rewardbench, exact):
    items = list(enumerate(ties_items(np.random.default_rng(2), 102, exact)))
    # Where all right answers have one reward the package leaves the item out of the mean of its last term.
    items = [(n, item) for n, item in items if np.ptp(item[1][0]) > 0]
    assert our_ties(items)["outcome"].mean() == pytest.approx(package_ties(rewardbench, items))


def test_ties_by_hand():
    # gaps 3 - 1 = 2 and 4 - 2 = 2, spread 5 - 4 = 1
    assert our_ties([(0, [([3], [1]), ([4, 5], [2, 0])])])["outcome"].tolist() == pytest.approx(
        [1 + 0.01 * math.tanh(1)]
    )
    # gap of ref 0 is wrong, that of tied is 1 = spread, not above it
    assert our_ties([(0, [([1], [1]), ([4, 5], [3])])])["outcome"].tolist() == pytest.approx(
        [0.3 + 0.01 * math.tanh(-1)]
    )
    # no spread: all four hold, the last term is 0
    assert our_ties([(0, [([2], [1]), ([4, 4], [3])])])["outcome"].tolist() == pytest.approx([1])


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (pairs("7", [1], [0, 0, 0], "Math")[:2], "'7' of RewardBench 2 has 2 rows instead of 3"),
        (pairs("7", [1], [0, 0, 0], "Math")[1:], "'7' of RewardBench 2 has 2 rows instead of 3"),
        (pairs("7", [1], [0, 0, 0, 0], "Math").drop(1), "'7' of RewardBench 2 has 3 rows instead of 4"),
        (pairs("tied:7", [1, 2, 3], [0, 0], "Ties").drop(1), "'tied:7' of RewardBench 2 has 2 rows instead of 3"),
        (pairs("7", [1], [0, 0, 0], "Math").assign(id=["7", "8", "9"]), "id '7' of RewardBench 2 does not end in"),
    ],
)
def test_an_item_without_all_its_answers_is_named(rows, named):
    with pytest.raises(StudyError, match=named):
        item_outcomes(pd.concat([pairs("1", [1], [0, 0, 0], "Math"), rows]), "rewardbench2")


def test_best_of_more_than_four_is_whole_too():
    table = item_outcomes(pairs("1", [2], [2, 1, 2, 0], "Math"), "rewardbench2")
    assert table["outcome"].tolist() == pytest.approx([1 / 3])


@pytest.mark.parametrize(("kept", "missing"), [("ref", "tied"), ("tied", "ref")])
def test_half_a_ties_item_is_named(kept, missing):
    with pytest.raises(StudyError, match=f"'ties:7' of Ties has no {missing} part"):
        item_outcomes(pairs(f"{kept}:7", [1, 2], [0], "Ties"), "rewardbench2")
