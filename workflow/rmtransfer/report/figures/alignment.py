"""What reward models buy a policy."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

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
    wrapped,
)
from rmtransfer.study.names import ITSELF, NOT_OURS, OTHER_LANGUAGES

_MOST_CURVES = 8  # that a reader can follow through one panel: they lie close together
_MOST_ROWS = 8  # of panels on a page
_RATES = {"in_language": "in the language\nof the prompt, %", "finished": "finished, %"}


def draw_best_of_n(tables: Mapping[str, Path], outputs: Sequence[Path]) -> None:
    """Gain of the best of n, as others see it, above what the picks are like; a column per language of the answers.

    With too many picking models or languages for curves, a heat map of the gain at the largest n for each policy and kind of
    referee.
    """
    frame = read_table(tables["best_of_n"])
    frame = frame[frame["judged_by"] != ITSELF]  # beside the others' in a figure of its own
    frame["model"] = frame["train_language"].where(frame["train_language"] != NOT_OURS, frame["base_model"])
    blocks = {str(policy): cells for policy, cells in frame.groupby("policy", sort=False)}
    languages = order(frame["language"])
    lines, columns = grid_shape(len(languages), 6)
    kinds = [*({"gain": judge} for judge in order(frame["judged_by"])), *({"rate": rate} for rate in _RATES)]
    if frame["model"].nunique() > _MOST_CURVES or lines * len(kinds) * len(blocks) > _MOST_ROWS:
        _draw_heatmaps(blocks, outputs)
        return
    rows = lines * len(kinds) * len(blocks)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(FULL, 1.15 * rows + 0.9),
        sharex=True,
        sharey=False,
        squeeze=False,
        layout="constrained",
    )
    models = order(frame["model"])
    looks = {model: series(i) for i, model in enumerate(models)}
    ns = sorted(frame["n"].unique())
    row = 0
    for policy, cells in blocks.items():
        for line in range(lines):
            shown = languages[line * columns : (line + 1) * columns]
            for number, kind in enumerate(kinds):
                panels = axes[row]
                row += 1
                for axis, language in zip(panels, shown, strict=False):
                    here = cells[cells["language"] == language]
                    _draw_panel(axis, here, kind, language, looks)
                    axis.set_xticks(ns)
                    if number == 0:
                        axis.set_title(f"answers in {language}")
                for axis in panels[len(shown) :]:
                    axis.set_axis_off()
                label = _gain_label(kind["gain"]) if "gain" in kind else _RATES[kind["rate"]]
                first = len(blocks) > 1 and number == 0
                panels[0].set_ylabel(f"{wrapped(policy, 1.2)}\n{label}" if first else label)
    _share_scales(axes, [next(iter(kind)) for kind in kinds] * lines * len(blocks))
    label_lowest(axes)
    handles = [plt.Line2D([], [], markersize=3, linewidth=1, **look) for look in looks.values()]
    legend_above(figure, handles, models, "picked by the reward model trained in, or named")
    figure.supxlabel("best of n")
    save(figure, outputs)


def _gain_label(judge: str) -> str:
    return (
        "gain, sd of\nreferees' rewards"
        if judge == OTHER_LANGUAGES
        else f"gain, sd of\n{wrapped(judge, 0.9)}'s rewards"
    )


def _draw_panel(
    axis: Axes, frame: pd.DataFrame, kind: Mapping[str, str], language: str, looks: Mapping[str, Mapping[str, Any]]
) -> None:
    judge = kind.get("gain")
    column, factor = ("gain", 1) if judge else (kind["rate"], 100)
    # What the picks are like is the same whoever judges them.
    cells = frame[frame["judged_by"] == judge] if judge else frame.drop_duplicates(["model", "n"])
    if judge:
        ideal = cells.drop_duplicates("n").sort_values("n")
        axis.plot(ideal["n"], ideal["ideal"], color="0.4", linewidth=0.8, linestyle="--", zorder=1)
    before = 0.0 if judge else 100 * float((cells[column] - cells[f"{column}_change"]).iloc[0])
    axis.axhline(before, color="0.4", linewidth=0.8, linestyle=":", zorder=1)
    for model, these in cells.groupby("model", sort=False):
        curve, look = these.sort_values("n"), looks[str(model)]
        axis.plot(curve["n"], factor * curve[column], markersize=3, linewidth=1, **look)
        if model == language and judge:
            axis.fill_between(
                curve["n"], curve["ci_low"], curve["ci_high"], color=look["color"], alpha=0.15, linewidth=0
            )


def _share_scales(axes: np.ndarray, kinds: Sequence[str]) -> None:
    """One scale for all panels of gains; percentages from 0 to 100. Tick labels in the first column."""
    gains = [axis for panels, kind in zip(axes, kinds, strict=True) if kind == "gain" for axis in panels if axis.axison]
    low, high = min(a.get_ylim()[0] for a in gains), max(a.get_ylim()[1] for a in gains)
    for panels, kind in zip(axes, kinds, strict=True):
        for place, axis in enumerate(panels):
            axis.set_ylim(*((low, high) if kind == "gain" else (-4, 104)))
            axis.yaxis.set_major_locator(MaxNLocator(4) if kind == "gain" else plt.FixedLocator([0, 50, 100]))
            axis.tick_params(labelleft=place == 0)


def _draw_heatmaps(blocks: Mapping[str, pd.DataFrame], outputs: Sequence[Path]) -> None:
    largest = max(cells["n"].max() for cells in blocks.values())
    maps: dict[str, tuple[pd.DataFrame, pd.DataFrame]] = {}
    for policy, frame in blocks.items():
        for judge, cells in frame[frame["n"] == largest].groupby("judged_by", sort=False):
            last = cells.assign(eval_language=cells["language"])
            languages = order(last["language"])
            switched = matrix(last, "in_language_high", languages) < 0
            maps[f"{policy}: gain of the best of {largest}, judged by {judge}"] = (
                matrix(last, "gain", languages),
                switched,
            )
    heights = [0.27 * len(gains) for gains, _ in maps.values()]
    figure, axes = plt.subplots(
        len(maps),
        1,
        figsize=(FULL, sum(heights) + 0.6 * len(maps) + 0.3),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    lowest = min([0.0, *(float(np.nanmin(gains)) for gains, _ in maps.values())])
    highest = max(float(np.nanmax(gains)) for gains, _ in maps.values())
    for axis, (title, (gains, switched)) in zip(axes[:, 0], maps.items(), strict=True):
        image = heat(axis, gains, "viridis", (lowest, highest), "{:.2f}", marked=switched)
        axis.set_title(title)
        axis.set_ylabel("picked by the reward model\ntrained in, or named")
    axes[-1, 0].set_xlabel("answers in")
    color_bar(figure, image, axes, "sd of referees' rewards")
    save(figure, outputs)
