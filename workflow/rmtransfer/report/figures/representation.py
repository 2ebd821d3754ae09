"""Where hidden states lie, and how far training moved them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rmtransfer.report.figures.style import (
    COLORS,
    FULL,
    MANY,
    color_bar,
    grid_shape,
    heat,
    legend_above,
    matrix,
    order,
    read_table,
    save,
    series,
    wrapped,
)
from rmtransfer.study.names import BASE, MODEL_COLUMNS

_MOST_CLOUDS = 8  # languages whose texts are told apart where their clouds overlap


def draw_pca(tables: Mapping[str, Path], outputs: Sequence[Path]) -> None:
    """First two principal components of every text's hidden states, one panel per model; of several seeds the first."""
    points, measures = read_table(tables["pca"]), read_table(tables["representation"])
    points = points[points["seed"] == points.groupby([*MODEL_COLUMNS[:2]], sort=False)["seed"].transform("first")]
    variance = measures[measures["metric"].str.startswith("explained_variance")]
    shares = {model: 100 * cells["value"].to_numpy() for model, cells in variance.groupby([*MODEL_COLUMNS])}
    looks = {language: series(i) for i, language in enumerate(order(points["language"]))}
    panels = {
        model: cells
        for _, of_base in points.groupby("base_model", sort=False)
        for model, cells in of_base.groupby([*MODEL_COLUMNS], sort=False)
    }
    several_bases = points["base_model"].nunique() > 1
    rows, columns = grid_shape(len(panels), 3 if len(panels) <= 9 else 5)
    figure, axes = plt.subplots(
        rows, columns, figsize=(FULL, (min(2.2, 6.6 / columns) + 0.2) * rows + 0.7), squeeze=False, layout="constrained"
    )
    for axis, (model, cells) in zip(axes.flat, panels.items(), strict=False):
        _clouds(axis, cells, looks)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_xlabel(f"PC 1 ({shares[model][0]:.0f} %)")
        axis.set_ylabel(f"PC 2 ({shares[model][1]:.0f} %)")
        axis.set_title(_title(model, several_bases, 5.6 / columns))
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    handles = [plt.Line2D([], [], linestyle="none", markersize=3.5, **look) for look in looks.values()]
    legend_above(figure, handles, list(looks), "text in")
    save(figure, outputs)


def _clouds(axis: Axes, points: pd.DataFrame, looks: Mapping[str, Mapping[str, Any]]) -> None:
    """Every text in its language's look; with many languages a faint dot, and the look at the language's mean."""
    dots: Any = {"linestyle": "none", "zorder": 1}
    for language, xy in points.groupby("language", sort=False)[["pc1", "pc2"]]:
        look = looks[str(language)]
        if len(looks) <= _MOST_CLOUDS:
            axis.plot(xy["pc1"], xy["pc2"], markersize=2.4, markeredgewidth=0.3, alpha=0.7, **dots, **look)
        else:
            axis.plot(
                xy["pc1"], xy["pc2"], ".", markersize=2, markeredgewidth=0, alpha=0.4, color=look["color"], **dots
            )
            axis.plot(*xy.mean(), markersize=4, markeredgewidth=0.7, linestyle="none", zorder=2, **look)


def _title(model: Any, several_bases: bool, inches: float) -> str:
    base, train, _ = model
    if train == BASE:
        return wrapped(f"{base}, untrained", inches)
    lines = [base] * several_bases + [f"trained in {train}"]
    return "\n".join(wrapped(line, inches) for line in lines)


def draw_representation(tables: Mapping[str, Path], outputs: Sequence[Path]) -> None:
    """Shift from the base model, singular-value share and norms: beside each other, with many languages stacked."""
    frame = read_table(tables["representation"])
    frame = frame.assign(model=frame["train_language"])
    bases = {str(base): cells for base, cells in frame.groupby("base_model", sort=False)}
    models, languages = order(frame["model"]), order(frame.loc[frame["metric"] == "norm_mean", "eval_language"])
    stacked = max(len(models), len(languages)) > MANY
    if stacked:
        heights = [0.22 * len(models), 1.3, 0.22 * len(models)] * len(bases)
        figure, axes = plt.subplots(
            len(heights),
            1,
            figsize=(FULL, sum(heights) + 0.65 * len(heights)),
            height_ratios=heights,
            layout="constrained",
        )
    else:
        figure, axes = plt.subplots(
            len(bases), 3, figsize=(FULL, 2.6 * len(bases) + 0.4), squeeze=False, layout="constrained"
        )
    looks = {language: series(i) for i, language in enumerate(languages)}
    for (shifts, shares, norms), (base, cells) in zip(np.reshape(axes, (-1, 3)), bases.items(), strict=True):
        name = f"{base}: " if stacked and len(bases) > 1 else ""
        moved = matrix(cells[cells["metric"] == "shift_cosine"], "value", languages)
        most = max(0.01, float(np.nanmax(moved)))
        image = heat(shifts, moved, "viridis", (0, most), "{:.2f}" if most >= 0.1 else "{:.3f}")
        color_bar(figure, image, shifts)
        shifts.set_title(f"{name}shift from base, 1 $-$ cosine")
        shifts.set_xlabel("evaluated in")
        shifts.set_ylabel("trained in" if stacked or len(bases) == 1 else f"{wrapped(base, 1.8)}\ntrained in")
        _shares(shares, cells[cells["metric"] == "singular_value_share"])
        shares.set_title(f"{name}singular-value share $f$")
        mean = matrix(cells[cells["metric"] == "norm_mean"], "value", languages)
        if stacked:
            least, most = float(np.nanmin(mean)), float(np.nanmax(mean))
            digits = max(0, 1 - int(np.floor(np.log10(most))))
            color_bar(figure, heat(norms, mean, "viridis", (least, most), f"{{:.{digits}f}}"), norms)
            norms.set_title(f"{name}norm, mean over texts")
            norms.set_xlabel("text in")
            norms.set_ylabel("trained in")
        else:
            _norms(norms, mean, matrix(cells[cells["metric"] == "norm_sd"], "value", languages), looks)
            norms.set_title("norm, mean ± sd over texts")
    if not stacked:
        handles, labels = axes.flat[2].get_legend_handles_labels()
        legend_above(figure, handles, labels, "norm of texts in")
    save(figure, outputs)


def _shares(axis: Axes, frame: pd.DataFrame) -> None:
    values = frame.groupby("model", sort=False)["value"].mean()
    trained = values.drop(BASE)
    axis.axhline(values[BASE], color="0.3", linewidth=0.8, linestyle="--", label="base")
    axis.plot(range(len(trained)), trained, "o", color=COLORS[0], markersize=4)
    axis.set_xticks(range(len(trained)), trained.index)
    axis.set_xlim(-0.6, len(trained) - 0.4)
    axis.set_xlabel("trained in")
    axis.legend(frameon=False, loc="best")
    axis.margins(y=0.3)


def _norms(axis: Axes, mean: pd.DataFrame, deviation: pd.DataFrame, looks: Mapping[str, Mapping[str, Any]]) -> None:
    width = 0.7 / len(looks)
    for i, (language, look) in enumerate(looks.items()):
        axis.errorbar(
            np.arange(len(mean)) + (i - (len(looks) - 1) / 2) * width,
            mean[language],
            yerr=deviation[language],
            linestyle="none",
            markersize=3,
            elinewidth=0.7,
            label=language,
            **look,
        )
    axis.set_xticks(range(len(mean)), mean.index)
    axis.set_xlabel("trained in")
