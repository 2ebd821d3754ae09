"""What training does to the base model's hidden states, and how alike languages are in them (paper, claims A and B)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from rmtransfer.kit.errors import StudyError
from rmtransfer.models.states import load_states
from rmtransfer.study.names import ALL, BASE, SIDES
from rmtransfer.study.study import RewardModelId

_MODEL = {
    "base_model": "base model",
    "train_language": "language or mixture that the reward model was trained in; base for the base model itself",
    "seed": "seed that it was trained with; empty for the base model",
}
METRIC_COLUMNS = {
    **_MODEL,
    "eval_language": "language of the texts, or all",
    "metric": "singular_value_share: mean over texts of s1 / sum(s), from 1 / languages to 1, and its standard deviation "
    "(_sd); norm_mean, norm_sd: of the hidden states; shift_cosine: mean over texts of 1 - cosine to the base's state, "
    "from 0 to 2; shift_relative: mean distance from the base's state, in norms of the latter; explained_variance_pc1, 2: "
    "share of variance, from 0 to 1",
    "value": "of the metric",
    "n": "texts: both answers of every pair",
}
POINT_COLUMNS = {
    **_MODEL,
    "language": "language of the text",
    "id": "row of the benchmark",
    "side": "chosen or rejected answer",
    "pc1": "first principal coordinate of its hidden state, in units of the state, from a PCA of the model's own states",
    "pc2": "second one",
}
States = dict[str, np.ndarray]  # language to [inputs, hidden]; row i is the same input in every language


def singular_value_share(stacked: np.ndarray, *, centered: bool = False) -> np.ndarray:
    """f = s1 / sum(s) of each input's hidden states in all languages (Hong et al., arXiv 2410.18027, claim A).

    1 means that all languages point the same way; 1 / languages is the least, for orthogonal states of equal length.

    Args:
        stacked: [inputs, languages, hidden].
        centered: subtract the mean over languages first, which leaves only what differs between them.

    Returns:
        [inputs].
    """
    stacked = stacked.astype(np.float64)
    if centered:
        stacked = stacked - stacked.mean(axis=1, keepdims=True)
    values = np.linalg.svd(stacked, compute_uv=False)
    return values[:, 0] / values.sum(axis=1)


def shift(states: np.ndarray, base: np.ndarray) -> dict[str, np.ndarray]:
    """How far each state [inputs, hidden] moved from the base's: ``cosine`` distance and ``relative`` L2 distance."""
    states, base = states.astype(np.float64), base.astype(np.float64)
    norms, base_norms = np.linalg.norm(states, axis=1), np.linalg.norm(base, axis=1)
    return {
        "cosine": np.maximum(0, 1 - (states * base).sum(axis=1) / (norms * base_norms)),  # rounding goes below 0
        "relative": np.linalg.norm(states - base, axis=1) / base_norms,
    }


def project(states: States, components: int = 2) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """PCA of one model's states, all languages together.

    The sign of each axis is chosen so that its largest loading is positive; PCA leaves it open.

    Returns:
        Language to coordinates [inputs, components], and the share of variance of each component.
    """
    pca = PCA(components, svd_solver="full").fit(np.concatenate(list(states.values())))
    signs = np.sign(pca.components_[np.arange(components), np.abs(pca.components_).argmax(axis=1)])
    return {k: pca.transform(v) * signs for k, v in states.items()}, pca.explained_variance_ratio_


def analyse_representations(
    state_files: Mapping[RewardModelId, Mapping[str, Path]], table: Path, coordinates: Path, *, centered: bool
) -> None:
    """Write ``tables/representation.csv`` and the PCA coordinates.

    Args:
        state_files: model to language to states file; each base model is there too, as ``RewardModelId(base, "base")``.
        table: tidy CSV with ``METRIC_COLUMNS``.
        coordinates: CSV with ``POINT_COLUMNS``.

    Raises:
        StudyError: a base model's own states are missing, or a reward model is called like them.
    """
    _check_bases(state_files)
    bases = {model.base_model: _load(files)[0] for model, files in state_files.items() if model.train_language == BASE}
    lines: list[tuple] = []
    points: list[pd.DataFrame] = []
    for model, files in state_files.items():
        base, train, seed = model
        is_base = train == BASE
        labels = (base, train, "" if is_base else seed)
        states, ids = (bases[base], _ids(files)) if is_base else _load(files)
        n = len(ids)
        share = singular_value_share(np.stack(list(states.values()), axis=1), centered=centered)
        lines.append((*labels, ALL, "singular_value_share", share.mean(), n))
        lines.append((*labels, ALL, "singular_value_share_sd", share.std(ddof=1) if n > 1 else 0.0, n))
        for language, h in states.items():
            norms = np.linalg.norm(h.astype(np.float64), axis=1)
            lines.append((*labels, language, "norm_mean", norms.mean(), n))
            lines.append((*labels, language, "norm_sd", norms.std(ddof=1) if n > 1 else 0.0, n))
            if not is_base:
                for kind, distance in shift(h, bases[base][language]).items():
                    lines.append((*labels, language, f"shift_{kind}", distance.mean(), n))
        projected, variance = project(states)
        lines.extend((*labels, ALL, f"explained_variance_pc{i}", v, n) for i, v in enumerate(variance, 1))
        sides = [side for side in SIDES for _ in range(n // len(SIDES))]
        for language, xy in projected.items():
            names = dict(zip(_MODEL, labels, strict=True))
            columns = {**names, "language": language, "id": ids, "side": sides, "pc1": xy[:, 0], "pc2": xy[:, 1]}
            points.append(pd.DataFrame(columns, columns=list(POINT_COLUMNS)))
    pd.DataFrame(lines, columns=list(METRIC_COLUMNS)).to_csv(table, index=False, float_format="%.8g")
    pd.concat(points, ignore_index=True).to_csv(coordinates, index=False, float_format="%.6g")


def _check_bases(state_files: Mapping[RewardModelId, Mapping[str, Path]]) -> None:
    """Every model's base is there, and no reward model stands in its place."""
    for model in state_files:
        base = RewardModelId(model.base_model, BASE)
        if model.train_language == BASE and model != base:
            raise StudyError(
                f"a reward model of {model.base_model}, seed {model.seed}, is called {BASE!r} like the base model itself; "
                "rename the mixture that it was trained on"
            )
        if base not in state_files:
            raise StudyError(f"{model.id}: the hidden states of its base model are missing; compute {base.id} too")


def _load(files: Mapping[str, Path]) -> tuple[States, Sequence[str]]:
    """Chosen above rejected: [2 * pairs, hidden] per language."""
    loaded = {language: load_states(path) for language, path in files.items()}
    return {k: np.concatenate([v[side] for side in SIDES]) for k, v in loaded.items()}, _ids(files)


def _ids(files: Mapping[str, Path]) -> Sequence[str]:
    ids = load_states(next(iter(files.values())))["id"].tolist()
    return ids * len(SIDES)
