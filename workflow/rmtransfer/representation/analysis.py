"""What training does to the base model's hidden states, and how alike languages are in them (paper, claims A and B)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from rmtransfer.models.states import SIDES, load_states

BASE = "base"
ALL = "all"
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
    state_files: Mapping[tuple[str, str, str], Mapping[str, Path]], table: Path, coordinates: Path, *, centered: bool
) -> None:
    """Write ``tables/representation.csv`` and the PCA coordinates.

    Args:
        state_files: (base model, training language or ``base``, seed) to language to states file; each base model's own
            entry is there too, with seed ``""``.
        table: tidy CSV: ``base_model, train_language, seed, eval_language, metric, value, n``.
        coordinates: CSV: ``base_model, train_language, seed, language, id, side, pc1, pc2``.
    """
    lines: list[tuple[str, str, str, str, str, float, int]] = []
    points: list[pd.DataFrame] = []
    bases = {base: _load(files)[0] for (base, train, _), files in state_files.items() if train == BASE}
    for (base, train, seed), files in state_files.items():
        states, ids = (bases[base], _ids(files)) if train == BASE else _load(files)
        n = len(ids)
        share = singular_value_share(np.stack(list(states.values()), axis=1), centered=centered)
        lines.append((base, train, seed, ALL, "singular_value_share", share.mean(), n))
        lines.append((base, train, seed, ALL, "singular_value_share_sd", share.std(ddof=1) if n > 1 else 0.0, n))
        for language, h in states.items():
            norms = np.linalg.norm(h.astype(np.float64), axis=1)
            lines.append((base, train, seed, language, "norm_mean", norms.mean(), n))
            lines.append((base, train, seed, language, "norm_sd", norms.std(ddof=1) if n > 1 else 0.0, n))
            if train != BASE:
                for kind, distance in shift(h, bases[base][language]).items():
                    lines.append((base, train, seed, language, f"shift_{kind}", distance.mean(), n))
        projected, variance = project(states)
        lines.extend((base, train, seed, ALL, f"explained_variance_pc{i}", v, n) for i, v in enumerate(variance, 1))
        for language, xy in projected.items():
            frame = pd.DataFrame(xy, columns=["pc1", "pc2"])
            frame.insert(0, "side", [side for side in SIDES for _ in range(n // len(SIDES))])
            frame.insert(0, "id", ids)
            for position, value in enumerate((base, train, seed, language)):
                frame.insert(position, ("base_model", "train_language", "seed", "language")[position], value)
            points.append(frame)
    columns = ["base_model", "train_language", "seed", "eval_language", "metric", "value", "n"]
    pd.DataFrame(lines, columns=columns).to_csv(table, index=False, float_format="%.8g")
    pd.concat(points, ignore_index=True).to_csv(coordinates, index=False, float_format="%.6g")


def _load(files: Mapping[str, Path]) -> tuple[States, Sequence[str]]:
    """Chosen above rejected: [2 * pairs, hidden] per language."""
    loaded = {language: load_states(path) for language, path in files.items()}
    return {k: np.concatenate([v[side] for side in SIDES]) for k, v in loaded.items()}, _ids(files)


def _ids(files: Mapping[str, Path]) -> Sequence[str]:
    ids = load_states(next(iter(files.values())))["id"].tolist()
    return ids * len(SIDES)
