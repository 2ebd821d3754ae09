"""Best of n against enumeration of every subset."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from rmtransfer.alignment import best_of_n
from rmtransfer.study.study import RewardModelId

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_estimator_equals_enumeration(n):
    picker, referee = RANDOM.normal(size=(5, 4)), RANDOM.normal(size=(1, 5, 4))
    standard = (referee[0] - referee.mean()) / referee.std()
    expected = [
        np.mean([standard[i, max(subset, key=lambda j: picker[i, j])] for subset in combinations(range(4), n)])
        for i in range(5)
    ]
    np.testing.assert_allclose(best_of_n.best_of_n(picker, referee, n), expected)


def test_weights_are_probabilities():
    np.testing.assert_allclose(best_of_n.best_of_weights(4, 2), [3 / 6, 2 / 6, 1 / 6, 0])
    for n in range(1, 5):
        assert best_of_n.best_of_weights(4, n).sum() == pytest.approx(1)


def test_scales_of_referees_do_not_matter_and_a_constant_referee_is_neutral():
    picker, referee = RANDOM.normal(size=(5, 4)), RANDOM.normal(size=(1, 5, 4))
    both = np.concatenate([referee, 1000 * referee + 7])
    np.testing.assert_allclose(best_of_n.best_of_n(picker, both, 2), best_of_n.best_of_n(picker, referee, 2))
    assert best_of_n.best_of_n(picker, np.ones((1, 5, 4)), 4).tolist() == [0] * 5


def test_no_model_is_its_own_referee(tmp_path):
    files = {}
    for train in ("en", "es", "ko"):
        path = tmp_path / f"{train}.parquet"
        rewards = RANDOM.normal(size=8)
        pd.DataFrame({"id": list("aaaabbbb"), "sample": [0, 1, 2, 3] * 2, "reward": rewards}).to_parquet(path)
        files[RewardModelId("m", train, 0)] = {"en": path}
    best_of_n.evaluate_best_of_n(files, [1, 4], tmp_path / "alignment.csv")
    table = pd.read_csv(tmp_path / "alignment.csv")
    assert list(table.columns) == [
        *("base_model", "train_language", "seed", "language", "n", "referees"),
        *("gain", "ci_low", "ci_high", "instructions"),
    ]
    assert table["referees"].unique().tolist() == [2]
    assert table.query("n == 1")["gain"].abs().max() == 0
    en = {k.train_language: pd.read_parquet(v["en"])["reward"].to_numpy().reshape(2, 4) for k, v in files.items()}
    referees = [(en[k] - en[k].mean()) / en[k].std() for k in ("es", "ko")]
    expected = np.mean([j[i, en["en"][i].argmax()] for j in referees for i in range(2)])
    assert table.query("train_language == 'en' and n == 4")["gain"].item() == pytest.approx(expected, abs=1e-6)
