"""Where hidden states lie, and how far training moved them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rmtransfer.report.figures.style import COLORS, FULL, MARKERS, heat, matrix, order, save, use_style
from rmtransfer.representation.analysis import BASE


def draw_representation(
    table: Path, coordinates: Path, pca: Sequence[Path], shift: Sequence[Path], **style: Any
) -> None:
    """PCA of base and reward models by language; shift from the base, singular-value share and norms."""
    use_style(style)
    frame = pd.read_csv(table, dtype={"seed": str}, keep_default_na=False)
    frame["value"] = frame["value"].astype(float)
    points = pd.read_csv(coordinates, dtype={"seed": str}, keep_default_na=False)
    variance = frame[frame["metric"].str.startswith("explained_variance")]

    bases = list(dict.fromkeys(points["base_model"]))
    models = {base: _models_of(points[points["base_model"] == base]) for base in bases}
    columns = min(3, max(len(m) for m in models.values()))
    rows = sum(-(-len(m) // columns) for m in models.values())
    figure, axes = plt.subplots(rows, columns, figsize=(FULL, 2.2 * rows + 0.3), squeeze=False, layout="constrained")
    free = iter(axes.flat)
    for base, of_base in models.items():
        for train, seed in of_base:
            axis = next(free)
            here = {"base_model": base, "train_language": train, "seed": seed}
            _pca_panel(axis, _where(points, here))
            share = _where(variance, here)["value"].to_numpy() * 100
            axis.set_title(
                f"{base}, untrained" if train == BASE else f"trained in {train}" + _seed_suffix(of_base, seed)
            )
            axis.set_xlabel(f"PC 1 ({share[0]:.0f} %)")
            axis.set_ylabel(f"PC 2 ({share[1]:.0f} %)")
    for axis in free:
        axis.set_axis_off()
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, title="text in", loc="outside right center", frameon=False)
    save(figure, pca, style)

    figure, axes = plt.subplots(len(bases), 3, figsize=(FULL, 2.6 * len(bases)), squeeze=False, layout="constrained")
    for row, base in zip(axes, bases, strict=True):
        of_base = frame[frame["base_model"] == base]
        moved = of_base[of_base["metric"] == "shift_cosine"]
        cells = matrix(moved.assign(model=moved["train_language"]), "value", order(moved["eval_language"]))
        image = heat(row[0], cells, "viridis", (0, max(0.01, float(cells.to_numpy().max()))), "{:.2f}")
        figure.colorbar(image, ax=row[0], shrink=0.85)
        row[0].set_xlabel("evaluated in")
        row[0].set_ylabel("trained in")
        row[0].set_title("shift from base, 1 $-$ cosine")
        _dots(row[1], of_base, "singular_value_share")
        row[1].set_title("singular-value share $f$")
        _norms(row[2], of_base)
        row[2].set_title("norm, mean ± sd over texts")
        if len(bases) > 1:
            row[0].set_ylabel(f"{base}\ntrained in")
    save(figure, shift, style)


def _pca_panel(axis: Axes, frame: pd.DataFrame) -> None:
    for i, (language, cell) in enumerate(frame.groupby("language", sort=False)):
        axis.scatter(
            cell["pc1"],
            cell["pc2"],
            s=5,
            marker=MARKERS[i % len(MARKERS)],
            color=COLORS[i % len(COLORS)],
            linewidths=0,
            alpha=0.7,
            label=language,
        )
    axis.set_xticks([])
    axis.set_yticks([])


def _dots(axis: Axes, frame: pd.DataFrame, metric: str) -> None:
    cells = frame[frame["metric"] == metric]
    values = cells.groupby("train_language", sort=False)["value"].mean()
    trained = values.drop(BASE)
    axis.axhline(values[BASE], color="0.3", linewidth=0.8, linestyle="--", label="base")
    axis.plot(range(len(trained)), trained, "o", color=COLORS[0], markersize=4)
    axis.set_xticks(range(len(trained)), trained.index)
    axis.set_xlabel("trained in")
    axis.legend(frameon=False, loc="best")
    axis.margins(x=0.15, y=0.3)


def _norms(axis: Axes, frame: pd.DataFrame) -> None:
    means, spreads = frame[frame["metric"] == "norm_mean"], frame[frame["metric"] == "norm_sd"]
    models = order(means["train_language"])
    languages = order(means["eval_language"])
    width = 0.7 / len(languages)
    for i, language in enumerate(languages):
        mean = means[means["eval_language"] == language].groupby("train_language")["value"].mean().reindex(models)
        sd = spreads[spreads["eval_language"] == language].groupby("train_language")["value"].mean().reindex(models)
        axis.errorbar(
            np.arange(len(models)) + (i - (len(languages) - 1) / 2) * width,
            mean,
            yerr=sd,
            fmt=MARKERS[i % len(MARKERS)],
            color=COLORS[i % len(COLORS)],
            markersize=3,
            elinewidth=0.7,
            label=language,
        )
    axis.set_xticks(range(len(models)), models)
    axis.set_xlabel("trained in")
    axis.legend(title="text in", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), handletextpad=0.1)


def _models_of(points: pd.DataFrame) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(points["train_language"], points["seed"], strict=True)))


def _seed_suffix(models: Sequence[tuple[str, str]], seed: str) -> str:
    return f", seed {seed}" if len({s for t, s in models if t != BASE}) > 1 else ""


def _where(frame: pd.DataFrame, cells: Mapping[str, str]) -> pd.DataFrame:
    mask = np.ones(len(frame), bool)
    for column, value in cells.items():
        mask &= (frame[column] == value).to_numpy()
    return frame[mask]
