"""Sections and intervals against values worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rmtransfer import transfer
from rmtransfer.errors import StudyError


def scores(correct, subsets, train="en", language="en", base="m", seed=0):
    n = len(correct)
    return pd.DataFrame(
        {
            "id": [f"r{i}" for i in range(n)],
            "subset": subsets,
            "language": language,
            "reward_chosen": np.where(correct, 1.0, 0.0),
            "reward_rejected": 0.5,
            "tokens_chosen": 10,
            "tokens_rejected": 9,
            "base_model": base,
            "train_language": train,
            "seed": seed,
        }
    )


def test_section_accuracy_weights_subsets_by_their_counts():
    # mt-bench-easy counts 28 and mt-bench-med 40: (28 * 1/2 + 40 * 3/4) / 68, whatever the rows in the file.
    subsets = pd.Series(["mt-bench-easy"] * 2 + ["mt-bench-med"] * 4)
    table = transfer.section_accuracies(pd.Series([True, False, True, True, True, False]), subsets)
    assert list(table["section"]) == ["Chat", "average"]
    assert table["accuracy"].tolist() == pytest.approx([44 / 68, 44 / 68])
    # Each easy row weighs 28/68/2, each med row 40/68/4.
    effective = 1 / (2 * (14 / 68) ** 2 + 4 * (10 / 68) ** 2)
    p, z = 44 / 68, stats.norm.ppf(0.975)
    centre = (p + z * z / (2 * effective)) / (1 + z * z / effective)
    half = z * math.sqrt(p * (1 - p) / effective + z * z / (4 * effective**2)) / (1 + z * z / effective)
    assert table.loc[0, "ci_low"] == pytest.approx(centre - half)
    assert table.loc[0, "ci_high"] == pytest.approx(centre + half)


def test_plain_section_interval_is_scipys_wilson():
    table = transfer.section_accuracies(pd.Series([True] * 11 + [False] * 4), pd.Series(["safety"] * 15))
    expected = stats.binomtest(11, 15).proportion_ci(0.95, method="wilson")
    assert (table.loc[0, "ci_low"], table.loc[0, "ci_high"]) == pytest.approx((expected.low, expected.high))


def test_average_is_the_plain_mean_of_sections():
    subsets = pd.Series(["chat"] * 4 + ["reasoning"] * 1)
    table = transfer.section_accuracies(pd.Series([True, True, True, False, False]), subsets).set_index("section")
    assert table["accuracy"].to_dict() == pytest.approx({"Chat": 0.75, "Reasoning": 0.0, "average": 0.375})
    assert table["n"].to_dict() == {"Chat": 4, "Reasoning": 1, "average": 5}


def test_a_tie_is_wrong():
    frame = scores([True], ["chat"]).assign(reward_chosen=0.5)
    assert transfer.transfer_table(frame)["accuracy"].tolist() == [0.0, 0.0]


def test_rewardbench_counts():
    # https://github.com/allenai/reward-bench: 358, 456, 740 and 984 + 6 * 164
    totals = {section: sum(counts.values()) for section, counts in transfer.REWARDBENCH_SECTIONS.items()}
    assert totals == {"Chat": 358, "Chat Hard": 456, "Safety": 740, "Reasoning": 1968}


@pytest.mark.parametrize("subset", ["no-such-subset", None])
def test_an_unknown_subset_is_named(subset):
    with pytest.raises(StudyError, match=repr(subset)):
        transfer.subset_table(["chat", subset])


def test_transfer_table_has_the_contracts_columns():
    table = transfer.transfer_table(pd.concat([scores([True], ["chat"]), scores([False], ["chat"], language="es")]))
    assert list(table.columns) == transfer.TRANSFER_COLUMNS
    assert set(table["eval_language"]) == {"en", "es"}


def test_length_baseline_counts_ties_as_wrong():
    frame = scores([True] * 4, ["chat"] * 2 + ["safety"] * 2)
    frame["tokens_chosen"] = [10, 9, 8, 10]
    frame["tokens_rejected"] = 9
    table = transfer.length_baseline(frame).set_index("subset")["accuracy"]
    assert table.to_dict() == {"chat": 0.5, "safety": 0.5, "average": 0.5}


def advantage_frame(ours, theirs):
    n = len(ours)
    subsets = ["chat"] * n
    return pd.concat(
        [
            scores([True] * n, subsets, "en", "en"),
            scores(ours, subsets, "en", "es"),
            scores(theirs, subsets, "es", "es"),
            scores([True] * n, subsets, "es", "en"),
        ]
    )


def test_source_advantage_is_the_paired_difference():
    difference, low, high, n = transfer.source_advantage(
        advantage_frame([True, True, True, False], [True, False, True, True]), "en"
    )
    assert (difference, n) == (0.0, 4)
    assert low < 0 < high


def test_source_advantage_interval_matches_the_normal_one():
    generator = np.random.default_rng(0)
    ours, theirs = generator.random(400) < 0.8, generator.random(400) < 0.7
    d = ours.astype(float) - theirs
    difference, low, high, _ = transfer.source_advantage(advantage_frame(ours, theirs), "en")
    assert difference == pytest.approx(d.mean())
    half = 1.96 * d.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((d.mean() - half, d.mean() + half), abs=0.006)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ([True] * 4, [False] * 4, ["100.0 points above", "excludes zero"]),
        ([False] * 4, [True] * 4, ["100.0 points below", "excludes zero"]),
        ([True] * 4, [True] * 4, ["as accurate as", "includes zero"]),
    ],
)
def test_headline_says_which_way_it_falls(ours, theirs, words):
    sentence = transfer.headline(advantage_frame(ours, theirs), "en")
    assert all(word in sentence for word in [*words, "over es", "4 benchmark pairs"])
