"""How reward models come to tell apart pairs that they were not trained on."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from rmtransfer.report.figures.style import (
    COLUMN,
    heat,
    legend_above,
    order,
    read_table,
    save,
    say,
    series,
    wrapped,
)

_MOST_CURVES = 8  # that a reader can follow through one panel
# Column to its name, the value of a model that knows nothing, the format of its numbers, and colours of which the light ones
# are the better ones.
_MEASURES = {
    "held_out_loss": ("loss", math.log(2), "{:.2f}", "viridis_r"),
    "held_out_accuracy": ("accuracy, %", 50.0, "{:.0f}", "viridis"),
}


def draw_training(tables: Mapping[str, Path], outputs: Sequence[Path]) -> None:
    """Loss and accuracy on held-out pairs against pairs seen: one row of panels per base model, one curve per training set.

    With too many training sets for curves, heat maps of both against the share of the training that is done.
    """
    frame = read_table(tables["training"])
    measured = frame.dropna(subset=list(_MEASURES))
    if measured.empty:
        say("Nothing was measured on pairs kept out of training (training.held_out: 0).", outputs)
        return
    measured = measured.assign(held_out_accuracy=100 * measured["held_out_accuracy"])
    bases = {str(base): cells for base, cells in measured.groupby("base_model", sort=False)}
    sets = order(frame["train_language"])
    (_draw_curves if len(sets) <= _MOST_CURVES else _draw_heatmaps)(bases, sets, outputs)


def _draw_curves(bases: Mapping[str, pd.DataFrame], sets: Sequence[str], outputs: Sequence[Path]) -> None:
    figure, axes = plt.subplots(
        len(bases),
        2,
        figsize=(COLUMN, 1.6 * len(bases) + 0.7),
        sharex=True,
        sharey="col",
        squeeze=False,
        layout="constrained",
    )
    looks = {name: series(i) for i, name in enumerate(sets)}
    for row, (base, cells) in zip(axes, bases.items(), strict=True):
        for axis, (column, (name, chance, _, _)) in zip(row, _MEASURES.items(), strict=True):
            axis.axhline(chance, color="0.6", linewidth=0.7, linestyle=":")
            for train, these in cells.groupby("train_language", sort=False):
                look = looks[str(train)]
                by_seed = these.pivot(index="pairs", columns="seed", values=column)
                if by_seed.shape[1] > 1:
                    axis.plot(by_seed.index, by_seed, color=look["color"], linewidth=0.4, alpha=0.5)
                axis.plot(by_seed.index, by_seed.mean(axis="columns"), markersize=3, linewidth=1.2, **look)
            axis.set_title(name)
            axis.locator_params(axis="x", nbins=4, integer=True)
        if len(bases) > 1:
            row[0].set_ylabel(wrapped(base, 1.4))
    handles = [plt.Line2D([], [], markersize=3, linewidth=1.2, **look) for look in looks.values()]
    legend_above(figure, handles, sets, "on held-out pairs, trained in")
    figure.supxlabel("training pairs seen")
    save(figure, outputs)


def _draw_heatmaps(bases: Mapping[str, pd.DataFrame], sets: Sequence[str], outputs: Sequence[Path]) -> None:
    heights = [0.2 * len(order(cells["train_language"])) for cells in bases.values()]
    figure, axes = plt.subplots(
        len(bases),
        2,
        figsize=(COLUMN, sum(heights) + 0.5 * len(bases) + 0.4),
        height_ratios=heights,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for row, (base, cells) in zip(axes, bases.items(), strict=True):
        trainings = cells.groupby(["train_language", "seed"])["step"]  # steps differ where training sets do in size
        done = (100 * trainings.cumcount() / (trainings.transform("size") - 1)).round().astype(int)
        for axis, (column, (name, _, form, colors)) in zip(row, _MEASURES.items(), strict=True):
            table = cells.assign(done=done).pivot_table(
                index="train_language", columns="done", values=column, sort=False
            )
            heat(axis, table, colors, (float(np.nanmin(table)), float(np.nanmax(table))), form)
            axis.set_title(f"{base}: {name}" if len(bases) > 1 else name)
            axis.set_ylabel("")
    figure.supxlabel("share of the training done, %")
    save(figure, outputs)
