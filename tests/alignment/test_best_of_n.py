"""Best of n against enumeration of every subset, and a small table worked out by hand."""

from itertools import combinations
from math import pi, sqrt

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rmtransfer.alignment import best_of_n
from rmtransfer.study.study import RewardModelId
from rmtransfer.texts.corpus import save_rows
from rmtransfer.transfer.design import Design

RANDOM = np.random.default_rng(0)
ENGLISH = "The sea looks blue because water absorbs red light and scatters the rest of it."
SPANISH = "El mar se ve azul porque el agua absorbe la luz roja y dispersa el resto de ella."


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_weights_equal_enumeration(n):
    rewards, values = RANDOM.normal(size=(5, 4)), RANDOM.normal(size=(5, 4))
    expected = [
        np.mean([values[i, max(subset, key=lambda j: rewards[i, j])] for subset in combinations(range(4), n)])
        for i in range(5)
    ]
    np.testing.assert_allclose((best_of_n.pick_weights(rewards, n) * values).sum(axis=1), expected)


def test_equal_rewards_share_the_weight_of_their_ranks():
    rewards = np.array([[1.0, 4.0, 3.0, 2.0], [0.0, 5.0, 1.0, 5.0], [7.0, 7.0, 7.0, 7.0]])
    expected = [[0, 3 / 6, 2 / 6, 1 / 6], [0, 5 / 12, 1 / 6, 5 / 12], [1 / 4] * 4]
    np.testing.assert_allclose(best_of_n.pick_weights(rewards, 2), expected)


def test_the_unit_is_the_pooled_deviation_within_instructions():
    # Variances among the answers: 2, 8 and 0, on average 10 / 3.
    rewards = np.array([[0.0, 2.0], [100.0, 104.0], [-50.0, -50.0]])
    expected = np.array([[-1, 1], [-2, 2], [0, 0]]) / sqrt(10 / 3)
    np.testing.assert_allclose(best_of_n.standardised(rewards), expected)
    np.testing.assert_allclose(best_of_n.standardised(1000 * rewards - 7), expected)
    assert best_of_n.standardised(np.ones((3, 2))).tolist() == [[0, 0]] * 3


def test_who_ranks_as_its_referee_gains_the_ideal():
    assert best_of_n.ideal_gain(1) == pytest.approx(0, abs=1e-9)
    assert best_of_n.ideal_gain(2) == pytest.approx(1 / sqrt(pi))
    assert best_of_n.ideal_gain(3) == pytest.approx(3 / (2 * sqrt(pi)))
    rewards = 5 * RANDOM.normal(size=(20_000, 4)) + RANDOM.normal(size=(20_000, 1))
    gain = (best_of_n.pick_weights(rewards, 4) * best_of_n.standardised(rewards)).sum(axis=1).mean()
    assert gain == pytest.approx(best_of_n.ideal_gain(4), abs=0.02)


TRAINED_IN = {
    **{"en": ["en"], "es": ["es"], "ko": ["ko"]},
    **{"es-x-nllb": ["es"], "all": ["en", "es", "ko"], "en-ko": ["en", "ko"], "en.24": ["en"]},
}
DESIGN = Design("en", ["m"], TRAINED_IN)


def ours(*seeds: int) -> list[RewardModelId]:
    return [RewardModelId("m", train, seed) for train in TRAINED_IN for seed in seeds]


@pytest.mark.parametrize(
    ("picker", "expected"),
    [
        ("en", ["es", "ko"]),
        ("en.24", ["es", "ko"]),
        ("es-x-nllb", ["en", "ko"]),
        ("en-ko", ["es"]),
        ("all", []),
    ],
)
def test_a_referee_knows_no_language_of_the_picker_and_has_another_seed(picker, expected):
    several = best_of_n.referees_of(RewardModelId("m", picker, 1), ours(0, 1, 2), DESIGN)
    assert several == [RewardModelId("m", train, seed) for train in expected for seed in (0, 2)]
    single = best_of_n.referees_of(RewardModelId("m", picker, 0), ours(0), DESIGN)
    assert single == [RewardModelId("m", train, 0) for train in expected]


def test_a_model_of_others_is_judged_by_all_languages_and_seeds():
    models = [*ours(0, 1), RewardModelId("armorm"), RewardModelId("length")]
    found = best_of_n.referees_of(RewardModelId("armorm"), models, DESIGN)
    assert found == [RewardModelId("m", train, seed) for train in ("en", "es", "ko") for seed in (0, 1)]


def write_answers(path, texts, finished):
    rows = [
        {
            "id": f"i{i}",
            "sample": j,
            "prompt": [{"role": "user", "content": "Why?"}],
            "answer": [{"role": "assistant", "content": text}],
            "finished": ended,
        }
        for i, (these, ends) in enumerate(zip(texts, finished, strict=True))
        for j, (text, ended) in enumerate(zip(these, ends, strict=True))
    ]
    save_rows(rows, path)
    return path


def write_rewards(path, rewards):
    lines = [(f"i{i}", j, reward) for i, these in enumerate(rewards) for j, reward in enumerate(these)]
    # Any order: ids and samples say what is whose.
    pd.DataFrame(lines[::-1], columns=["id", "sample", "reward"]).to_parquet(path)
    return path


@pytest.fixture
def study(tmp_path):
    """Answers to English and Spanish instructions, and the table of some reward models."""
    texts = [[ENGLISH, SPANISH], [SPANISH, ENGLISH], ["Ok.", ENGLISH]]
    finished = [[True, False], [False, False], [True, True]]
    answers = {k: write_answers(tmp_path / f"answers.{k}.parquet", texts, finished) for k in ("en", "es")}

    def evaluate(rewards, baselines=(), ns=(1, 2), trained_in=TRAINED_IN):
        files = {
            model: {k: write_rewards(tmp_path / f"{model.id.replace('/', '.')}.{k}.parquet", these) for k in answers}
            for model, these in rewards.items()
        }
        output = tmp_path / "alignment.csv"
        design = Design("en", ["m"], trained_in)
        best_of_n.evaluate_best_of_n({"m": answers}, {"m": files}, design, baselines, ns, output)
        return pd.read_csv(output)

    return evaluate


EN = [[3.0, 1.0], [8.0, 1.0], [0.0, 1.0]]  # picks answers 0, 0 and 1 of two
ES = [[1.0, 0.0], [0.0, 3.0], [2.0, 2.0]]  # variances 1/2, 9/2 and 0
M = {RewardModelId("m", "en", 0): EN, RewardModelId("m", "es", 0): ES}
NUMBERS = ["gain", "ci_low", "ci_high"]


def t_interval(values) -> list[float]:
    found = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    return [np.mean(values), found.low, found.high]


def test_a_table_by_hand(study):
    table = study(M)
    assert list(table) == list(best_of_n.COLUMNS)
    keys = ["policy", "base_model", "train_language", "language", "judged_by", "n"]
    cells = [
        ("m", "m", train, k, judge, n)
        for judge in ("other languages", "itself")
        for train in ("en", "es")
        for k in ("en", "es")
        for n in (1, 2)
    ]
    assert list(table[keys].itertuples(index=False, name=None)) == cells
    own = table.query("judged_by == 'itself' and language == 'en' and n == 2").set_index("train_language")[NUMBERS]
    # Variances of en 2, 49/2 and 1/2: its picks are 1, 7/2 and 1/2 above the mean of two. es cannot tell the last two apart.
    assert own.loc["en"].tolist() == pytest.approx(t_interval(np.array([1, 3.5, 0.5]) / sqrt(9)), abs=1e-6)
    assert own.loc["es"].tolist() == pytest.approx(t_interval(np.array([0.5, 1.5, 0]) / sqrt(5 / 3)), abs=1e-6)
    table = table.query("judged_by == 'other languages'")
    row = table.query("train_language == 'en' and language == 'en' and n == 2").iloc[0]
    assert row[["referees", "same_seed", "seeds", "instructions"]].tolist() == [1, "yes", 1, 3]
    gains = np.array([0.5, -1.5, 0.0]) / sqrt(5 / 3)
    assert row[NUMBERS].tolist() == pytest.approx(t_interval(gains), abs=1e-6)
    assert row["ideal"] == pytest.approx(1 / sqrt(pi), abs=1e-6)
    # Picked are an English, a Spanish, an English answer; of all six, three of the five that can be told are English.
    assert row["in_language"] == pytest.approx(2 / 3, abs=1e-6)
    moves = np.array([1 / 3, -2 / 3, 1 / 3]) - np.array([-0.12, -0.12, 0.24])
    expected = t_interval(2 / 3 - 3 / 5 + moves)
    assert row[["in_language_change", "in_language_low", "in_language_high"]].tolist() == pytest.approx(
        expected, abs=1e-6
    )
    assert row["told"] == 1
    assert row["finished"] == pytest.approx(2 / 3, abs=1e-6)
    expected = t_interval([0.5, 0, 0])
    assert row[["finished_change", "finished_low", "finished_high"]].tolist() == pytest.approx(expected, abs=1e-6)
    assert row["characters"] == pytest.approx((79 + 81 + 79) / 3, abs=1e-6)
    assert row["characters_change"] == pytest.approx((79 + 81 + 79) / 3 - (79 + 81 + 81 + 79 + 3 + 79) / 6, abs=1e-6)


def test_one_answer_is_no_choice(study):
    table = study(M).query("n == 1")
    changes = [*NUMBERS, *(c for c in best_of_n.COLUMNS if c.endswith(("_change", "_low", "_high")))]
    assert (table[changes] == 0).all(axis=None)
    assert table["told"].unique() == pytest.approx([5 / 6], abs=1e-6)
    assert table.query("language == 'es'")["in_language"].unique() == pytest.approx([2 / 5], abs=1e-6)


def test_seeds_are_pooled_and_judged_by_other_seeds(study):
    twice = {RewardModelId("m", train, seed): r for (_, train, _), r in M.items() for seed in (0, 1)}
    twice[RewardModelId("m", "en", 1)] = [[1.0, 2.0], [8.0, 1.0], [0.0, 1.0]]  # picks answers 1, 0 and 1
    twice[RewardModelId("m", "es", 1)] = [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]  # all variances 1/2
    row = study(twice).query("train_language == 'en' and language == 'en' and n == 2").iloc[0]
    assert row[["referees", "same_seed", "seeds"]].tolist() == [1, "no", 2]
    first = np.array([-0.5, -0.5, -0.5]) / sqrt(1 / 2)  # of seed 0, as es of seed 1 sees it
    second = np.array([-0.5, -1.5, 0.0]) / sqrt(5 / 3)
    assert row["gain"] == pytest.approx((first.mean() + second.mean()) / 2, abs=1e-6)
    assert row["ci_low"] < row["gain"] < row["ci_high"]
    # Mixed are an English, a Spanish and an English answer with a Spanish, a Spanish and an English one.
    assert row["in_language"] == pytest.approx(3 / 6, abs=1e-6)


def test_models_of_others_pick_and_judge_and_baselines_only_pick(study):
    others = {RewardModelId("armorm"): ES, RewardModelId("length"): [[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]]}
    table = study({**M, **others}, baselines=["length"], ns=[2]).query("language == 'en' and judged_by != 'itself'")
    found = {
        (b, t, j): (r, s)
        for b, t, j, r, s in table[["base_model", "train_language", "judged_by", "referees", "same_seed"]].itertuples(
            index=False
        )
    }
    assert found == {
        ("m", "en", "other languages"): (1, "yes"),
        ("m", "en", "armorm"): (1, "no"),
        ("m", "es", "other languages"): (1, "yes"),
        ("m", "es", "armorm"): (1, "no"),
        ("armorm", "-", "other languages"): (2, "no"),
        ("length", "-", "other languages"): (2, "no"),
        ("length", "-", "armorm"): (1, "no"),
    }
    gain = table.set_index(["base_model", "train_language", "judged_by"])["gain"]
    assert gain["m", "en", "armorm"] == gain["m", "en", "other languages"]  # armorm has the rewards of es
    # length picks 1, 0, 1: the mean of what en (variances 2, 49/2, 1/2) and es see of it.
    en, es = np.array([-1, 3.5, 0.5]) / sqrt(9), np.array([-0.5, -1.5, 0]) / sqrt(5 / 3)
    assert gain["length", "-", "other languages"] == pytest.approx((en.mean() + es.mean()) / 2, abs=1e-6)


def test_a_mixture_of_all_languages_has_no_referee_and_changes_no_other_row(study):
    mixture = {RewardModelId("m", "all", 0): EN}
    with_mixture = study({**M, **mixture}).query("judged_by != 'itself'")
    row = with_mixture.query("train_language == 'all' and n == 2 and language == 'en'").iloc[0]
    assert row["referees"] == 0
    assert row[NUMBERS].isna().all()
    assert row["in_language"] == pytest.approx(2 / 3, abs=1e-6)
    without = study(M).query("judged_by != 'itself'")
    pd.testing.assert_frame_equal(with_mixture.query("train_language != 'all'"), without)
