"""f, shift and PCA against direct NumPy."""

import numpy as np
import pandas as pd
import pytest

from rmtransfer.kit.errors import StudyError
from rmtransfer.models.states import load_states, save_states
from rmtransfer.representation import analysis as representation
from rmtransfer.study.names import MODEL_COLUMNS
from rmtransfer.study.study import RewardModelId

RANDOM = np.random.default_rng(0)


def test_singular_value_share_equals_numpy():
    stacked = RANDOM.normal(size=(7, 5, 16))
    expected = []
    for matrix in stacked:
        # singular values are the roots of the eigenvalues of the Gram matrix
        values = np.sqrt(np.clip(np.linalg.eigvalsh(matrix @ matrix.T), 0, None))
        expected.append(values.max() / values.sum())
    np.testing.assert_allclose(representation.singular_value_share(stacked), expected, rtol=1e-10)


def test_singular_value_share_at_its_ends():
    same = np.ones((1, 4, 8))
    orthogonal = np.eye(4, 8)[None]
    assert representation.singular_value_share(same)[0] == pytest.approx(1)
    assert representation.singular_value_share(orthogonal)[0] == pytest.approx(1 / 4)


def test_centering_removes_what_languages_share():
    stacked = RANDOM.normal(size=(3, 4, 8))
    shifted = stacked + 100 * RANDOM.normal(size=(3, 1, 8))
    np.testing.assert_allclose(
        representation.singular_value_share(stacked, centered=True),
        representation.singular_value_share(shifted, centered=True),
        rtol=1e-6,
    )


def test_shift_by_hand():
    moved = representation.shift(np.array([[0.0, 2.0], [3.0, 4.0]]), np.array([[2.0, 0.0], [3.0, 4.0]]))
    np.testing.assert_allclose(moved["cosine"], [1, 0], atol=1e-12)
    np.testing.assert_allclose(moved["relative"], [np.sqrt(2), 0], atol=1e-12)


def test_pca_equals_numpy():
    states = {"en": RANDOM.normal(size=(20, 6)), "es": RANDOM.normal(size=(20, 6)) + 1}
    projected, variance = representation.project(states)
    every = np.concatenate([states["en"], states["es"]])
    _, s, axes = np.linalg.svd(every - every.mean(axis=0), full_matrices=False)
    expected = (every - every.mean(axis=0)) @ axes[:2].T
    np.testing.assert_allclose(np.abs(np.concatenate(list(projected.values()))), np.abs(expected), atol=1e-8)
    np.testing.assert_allclose(variance, (s**2 / (s**2).sum())[:2])


@pytest.fixture
def states(tmp_path):
    """Files of a base model and of a reward model that was trained from it."""
    files = {}
    for model in [RewardModelId("m", "base"), RewardModelId("m", "en", 0)]:
        files[model] = {}
        for language in ("en", "es"):
            path = tmp_path / f"{model.train_language}_{language}.npz"
            save_states(path, ["a", "b"], *RANDOM.normal(size=(2, 2, 8)), tokens=[(1, 2), (3, 4)])
            files[model][language] = path
    return files


def analyse(files, folder):
    table, points = folder / "table.csv", folder / "points.csv"
    representation.analyse_representations(files, table, points, centered=False)
    return pd.read_csv(table), pd.read_csv(points)


def test_tables(states, tmp_path):
    frame, xy = analyse(states, tmp_path)
    assert list(frame.columns) == [*MODEL_COLUMNS, "eval_language", "metric", "value", "n"]
    assert set(frame["metric"]) >= {"singular_value_share", "shift_cosine", "shift_relative", "norm_mean", "norm_sd"}
    assert not frame.query("train_language == 'base'")["metric"].str.startswith("shift").any()
    assert frame.query("train_language == 'base'")["seed"].isna().all()
    assert frame.query("train_language == 'en'")["seed"].eq(0).all()
    assert frame["n"].unique().tolist() == [4]
    assert list(xy.columns) == [*MODEL_COLUMNS, "language", "id", "side", "pc1", "pc2"]
    assert len(xy) == 2 * 2 * 4
    assert xy["side"].tolist()[:4] == ["chosen", "chosen", "rejected", "rejected"]
    assert xy["id"].tolist()[:4] == ["a", "b", "a", "b"]


def test_shift_is_from_the_base_model_wherever_it_stands(states, tmp_path):
    base, trained = states
    frame, _ = analyse({trained: states[trained], base: states[base]}, tmp_path)
    moved, here = (load_states(states[model]["es"]) for model in (trained, base))
    both = [np.concatenate([side["chosen"], side["rejected"]]) for side in (moved, here)]
    expected = representation.shift(*both)["relative"].mean()
    shift = frame.query("metric == 'shift_relative' and eval_language == 'es'")
    assert shift["train_language"].tolist() == ["en"]
    assert shift["value"].item() == pytest.approx(expected)


def test_a_reward_model_called_base_does_not_pass_as_the_base_model(states, tmp_path):
    _, trained = states
    mixture = RewardModelId("m", "base", 1)
    with pytest.raises(StudyError, match=r"reward model of m, seed 1, is called 'base'.*rename the mixture"):
        analyse({**states, mixture: states[trained]}, tmp_path)
    with pytest.raises(StudyError, match="m/en/seed0: the hidden states of its base model are missing; compute m/base"):
        analyse({trained: states[trained]}, tmp_path)
