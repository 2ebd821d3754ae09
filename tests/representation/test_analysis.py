"""f, shift and PCA against direct NumPy."""

import numpy as np
import pandas as pd
import pytest

from rmtransfer.models.states import save_states
from rmtransfer.representation import analysis as representation

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


def test_tables(tmp_path):
    files = {}
    for labels in [("m", "base", ""), ("m", "en", "0")]:
        files[labels] = {}
        for language in ("en", "es"):
            path = tmp_path / f"{labels[1]}_{language}.npz"
            save_states(path, ["a", "b"], RANDOM.normal(size=(2, 8)), RANDOM.normal(size=(2, 8)))
            files[labels][language] = path
    table, points = tmp_path / "table.csv", tmp_path / "points.csv"
    representation.analyse_representations(files, table, points, centered=False)
    frame = pd.read_csv(table)
    assert set(frame["metric"]) >= {"singular_value_share", "shift_cosine", "shift_relative", "norm_mean", "norm_sd"}
    assert not frame.query("train_language == 'base'")["metric"].str.startswith("shift").any()
    assert frame["n"].unique().tolist() == [4]
    xy = pd.read_csv(points)
    assert len(xy) == 2 * 2 * 4
    assert xy["side"].tolist()[:4] == ["chosen", "chosen", "rejected", "rejected"]
