"""Agreement against SciPy, and a small table worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rmtransfer.alignment import agreement
from rmtransfer.kit.errors import StudyError
from rmtransfer.study.study import RewardModelId
from rmtransfer.texts.corpus import save_rows

RANDOM = np.random.default_rng(0)
ONE, OTHER = RewardModelId("m", "en", 0), RewardModelId("m", "es", 0)


@pytest.mark.parametrize("rewards", [RANDOM.normal(size=(4, 6)), RANDOM.integers(0, 3, size=(4, 6)).astype(float)])
def test_rank_correlation_is_scipys_tau_b(rewards):
    found = agreement.rank_correlations(rewards)
    for i in range(4):
        for j in range(4):
            assert found[i, j] == pytest.approx(stats.kendalltau(rewards[i], rewards[j], variant="b").statistic)


def test_rank_correlation_by_hand():
    # Six pairs of answers. The second model ties one of them; of the other five it turns one around.
    found = agreement.rank_correlations(np.array([[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 3.0, 3.0]]))
    assert found[0, 1] == pytest.approx((4 - 1) / np.sqrt(6 * 5))
    assert np.isnan(agreement.rank_correlations(np.array([[1.0, 2.0], [5.0, 5.0]]))[0, 1])


def test_ties_share_a_pick():
    rewards = np.array([[1.0, 3.0, 2.0], [0.0, 7.0, 7.0], [4.0, 4.0, 4.0], [9.0, 1.0, 1.0]])
    expected = [[1, 1 / 2, 1 / 3, 0], [1 / 2, 1 / 2, 1 / 3, 0], [1 / 3] * 4, [0, 0, 1 / 3, 1]]
    np.testing.assert_allclose(agreement.same_picks(rewards), expected)


def test_copies_of_an_answer_are_one():
    texts = np.array([["a", "b", "a", "c"], ["", "", "", ""]])
    rewards = np.array([[[1.0, 5.0, 1.0, 3.0], [2.0] * 4], [[4.0, 0.0, 4.0 + 1e-6, 4.0], [7.0] * 4]])
    first, second = agreement.distinct(rewards, texts)
    np.testing.assert_array_equal(first, [[1, 5, 3], [4, 0, 4]])
    np.testing.assert_allclose(second, [[2], [7]])


def evaluate(tmp_path, texts: list[list[str]], rewards: dict[RewardModelId, list[list[float]]]) -> pd.DataFrame:
    """The table of one policy in English."""
    answers = tmp_path / "answers.parquet"
    places = [(f"i{i:02}", sample, text) for i, row in enumerate(texts) for sample, text in enumerate(row)]
    save_rows(
        [
            {"id": i, "sample": s, "prompt": [], "answer": [{"role": "assistant", "content": t}], "finished": True}
            for i, s, t in places
        ],
        answers,
    )
    files = {}
    for index, (model, values) in enumerate(rewards.items()):
        frame = pd.DataFrame(places, columns=["id", "sample", "text"]).assign(
            reward=np.concatenate(values).astype(float)
        )
        frame.sample(frac=1, random_state=index).drop(columns="text").to_parquet(tmp_path / f"{index}.parquet")
        files[model] = {"en": tmp_path / f"{index}.parquet"}
    agreement.evaluate_agreement({"p": files}, {"p": {"en": answers}}, tmp_path / "agreement.csv")
    table = pd.read_csv(tmp_path / "agreement.csv")
    assert list(table.columns) == list(agreement.COLUMNS)
    return table


def test_a_table_by_hand(tmp_path):
    texts = [["a", "b", "c"], ["a", "a", "b"], ["a", "a", "a"], ["a", "b", "c"]]
    table = (
        evaluate(
            tmp_path,
            texts,
            {
                # Same order; the same of two different answers; no choice; the other sees no difference.
                ONE: [[1, 2, 3], [5, 5, 1], [1, 1, 1], [3, 2, 1]],
                OTHER: [[4, 5, 6], [2, 2, 1], [3, 3, 3], [0, 0, 0]],
                RewardModelId("length"): [[3, 2, 1], [1, 1, 1], [1, 1, 1], [2, 2, 1]],
            },
        )
        .set_index(["base_model", "train_language", "other_base_model", "other_train_language", "measure"])
        .sort_index()
    )
    assert len(table) == 6  # no model with itself
    assert set(table["policy"]) == {"p"}
    assert set(table["language"]) == {"en"}
    ours = table.loc["m", "en", "m", "es"]
    columns = ["value", "chance", "instructions", "left_out"]
    assert ours.loc["rank_correlation", columns].tolist() == [1, 0, 2, 2]
    same = (1 + 1 + 1 / 3) / 3
    assert ours.loc["same_pick", columns].tolist() == pytest.approx([same, (1 / 3 + 1 / 2 + 1 / 3) / 3, 3, 1], abs=1e-6)
    with_length = table.loc["m", "en", "length", "-"]
    # -1; left out twice; two of three pairs are ordered, both as ours does.
    assert with_length.loc["rank_correlation", columns].tolist() == pytest.approx(
        [(-1 + 2 / np.sqrt(6)) / 2, 0, 2, 2], abs=1e-6
    )
    assert with_length.loc["same_pick", "value"] == pytest.approx((0 + 1 / 2 + 1 / 2) / 3, abs=1e-6)
    assert table[["ci_low", "ci_high"]].isna().all(axis=None)  # of four instructions


def test_seeds_are_compared_across(tmp_path):
    models = [RewardModelId("m", train, seed) for train in ("en", "es") for seed in (0, 1)]
    rewards = {model: RANDOM.normal(size=(10, 4)) for model in [*models, RewardModelId("judge")]}
    table = evaluate(tmp_path, [list("abcd")] * 10, rewards)
    table = table[table["measure"] == "rank_correlation"].set_index(["train_language", "other_train_language"])["value"]

    def tau(a, b):
        return np.mean([stats.kendalltau(x, y).statistic for x, y in zip(rewards[a], rewards[b], strict=True)])

    (en0, en1, es0, es1), judge = models, RewardModelId("judge")
    expected = {
        ("en", "en"): tau(en0, en1),
        ("en", "es"): (tau(en0, es1) + tau(en1, es0)) / 2,
        ("es", "es"): tau(es0, es1),
        ("en", "-"): (tau(en0, judge) + tau(en1, judge)) / 2,
        ("es", "-"): (tau(es0, judge) + tau(es1, judge)) / 2,
    }
    assert table.to_dict() == pytest.approx(expected, abs=1e-6)


def test_other_bases_of_the_same_seed_are_compared(tmp_path):
    models = [RewardModelId(base, "en", seed) for base in ("m", "k") for seed in (0, 1)]
    rewards = {model: RANDOM.normal(size=(3, 4)) for model in models}
    table = evaluate(tmp_path, [list("abcd")] * 3, rewards).set_index(["base_model", "other_base_model", "measure"])
    picks = {model: np.argmax(of, axis=1) for model, of in rewards.items()}
    expected = np.mean([picks[m] == picks[k] for m in models[:2] for k in models[2:]])
    assert table.loc[("m", "k", "same_pick"), "value"] == pytest.approx(expected, abs=1e-6)


def test_intervals_are_those_of_scipys_bootstrap(tmp_path):
    rewards = RANDOM.normal(size=(2, 30, 4))
    rewards[1] += rewards[0]
    rewards[1, :5] = 1  # sees no difference in five
    table = evaluate(tmp_path, [list("abcd")] * 30, dict(zip((ONE, OTHER), rewards, strict=True))).set_index("measure")
    taus = [stats.kendalltau(a, b).statistic for a, b in zip(*rewards[:, 5:], strict=True)]
    expected = stats.bootstrap((taus,), np.mean, method="percentile", rng=1).confidence_interval
    row = table.loc["rank_correlation"]
    assert row["instructions"] == 25
    assert row["value"] == pytest.approx(np.mean(taus), abs=1e-6)
    assert row[["ci_low", "ci_high"]].tolist() == pytest.approx(list(expected), abs=0.02)


def test_all_answers_equal_says_nothing(tmp_path):
    table = evaluate(tmp_path, [["a", "a"]] * 9, {ONE: np.ones((9, 2)), OTHER: np.ones((9, 2))})
    assert table["instructions"].tolist() == [0, 0]
    assert table["left_out"].tolist() == [9, 9]
    assert table[["value", "ci_low", "ci_high"]].isna().all(axis=None)


def test_a_missing_reward_is_an_error(tmp_path):
    evaluate(tmp_path, [["a", "b"]] * 2, {ONE: np.ones((2, 2)), OTHER: np.ones((2, 2))})
    path = tmp_path / "1.parquet"
    pd.read_parquet(path).iloc[1:].to_parquet(path)
    files = {model: {"en": tmp_path / f"{i}.parquet"} for i, model in enumerate((ONE, OTHER))}
    with pytest.raises(StudyError, match=r"1.parquet: has no reward for sample"):
        agreement.evaluate_agreement({"p": files}, {"p": {"en": tmp_path / "answers.parquet"}}, tmp_path / "t.csv")
