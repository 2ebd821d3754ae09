"""What reward models buy a policy."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rmtransfer.report.figures.style import (
    FULL,
    color_bar,
    grid_shape,
    heat,
    label_lowest,
    legend_above,
    matrix,
    order,
    read_table,
    save,
    series,
    use_style,
    wrapped,
)

_MOST_CURVES = 8  # that a reader can follow through one panel: they lie close together


def draw_best_of_n(
    tables: Mapping[str, Path],
    outputs: Sequence[Path],
    *,
    source: str,
    baselines: Mapping[str, str],
    dpi: int,
    font_size: float,
) -> None:
    """Gain of the best of n, judged by the other reward models: curves in one panel per language of the answers.

    With too many picking models for curves, a heat map per base model of the gain at the largest n.
    """
    use_style(dpi, font_size)
    frame = read_table(tables["alignment"])
    bases = {str(base): cells for base, cells in frame.groupby("base_model", sort=False)}
    if frame["train_language"].nunique() > _MOST_CURVES:
        _draw_heatmaps(bases, outputs)
        return
    languages, pickers = order(frame["language"]), order(frame["train_language"])
    rows, columns = grid_shape(len(languages), 5)
    figure, axes = plt.subplots(
        rows * len(bases),
        columns,
        figsize=(FULL, (2.2 if rows * len(bases) < 4 else 1.7) * rows * len(bases) + 0.7),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    looks = {picker: series(i) for i, picker in enumerate(pickers)}
    for b, (base, cells) in enumerate(bases.items()):
        panels = axes[b * rows : (b + 1) * rows]
        for axis, language in zip(panels.flat, languages, strict=False):
            _curves(axis, cells[cells["language"] == language], language, looks)
            axis.set_title(f"answers in {language}")
        for axis in panels.flat[len(languages) :]:
            axis.set_axis_off()
        for axis in panels[:, 0]:
            gain = "gain, sd of\nreferees' rewards"
            axis.set_ylabel(f"{wrapped(base, 1.4)}\n{gain}" if len(bases) > 1 else gain)
    label_lowest(axes)
    handles = [plt.Line2D([], [], markersize=3, linewidth=1, **look) for look in looks.values()]
    legend_above(figure, handles, pickers, "picked by the reward model trained in")
    figure.supxlabel("best of n")
    save(figure, outputs)


def _curves(axis: Axes, frame: pd.DataFrame, language: str, looks: Mapping[str, Mapping[str, Any]]) -> None:
    for picker, cells in frame.groupby("train_language", sort=False):
        mean = cells.groupby("n")[["gain", "ci_low", "ci_high"]].mean()
        look = looks[str(picker)]
        axis.plot(mean.index, mean["gain"], markersize=3, linewidth=1, **look)
        if picker == language:
            axis.fill_between(mean.index, mean["ci_low"], mean["ci_high"], color=look["color"], alpha=0.15, linewidth=0)
    axis.axhline(0, color="0.6", linewidth=0.7, linestyle=":")
    axis.set_xticks(sorted(frame["n"].unique()))


def _draw_heatmaps(bases: Mapping[str, pd.DataFrame], outputs: Sequence[Path]) -> None:
    largest = max(cells["n"].max() for cells in bases.values())
    cells = {}
    for base, frame in bases.items():
        last = frame[frame["n"] == largest]
        last = last.assign(model=last["train_language"], eval_language=last["language"])
        cells[base] = matrix(last, "gain", order(last["language"]))
    heights = [0.27 * len(gains) for gains in cells.values()]
    figure, axes = plt.subplots(
        len(cells),
        1,
        figsize=(FULL, sum(heights) + 0.6 * len(cells) + 0.3),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    lowest = min([0.0, *(float(np.nanmin(gains)) for gains in cells.values())])
    highest = max(float(np.nanmax(gains)) for gains in cells.values())
    for axis, (base, gains) in zip(axes[:, 0], cells.items(), strict=True):
        image = heat(axis, gains, "viridis", (lowest, highest), "{:.2f}")
        axis.set_title(f"{base}: gain of the best of {largest}")
        axis.set_ylabel("picked by the reward model trained in")
    axes[-1, 0].set_xlabel("answers in")
    color_bar(figure, image, axes, "sd of referees' rewards")
    save(figure, outputs)
