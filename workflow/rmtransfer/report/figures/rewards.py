"""What lies behind an accuracy: how rewards are distributed in every language, and whether length earns them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from rmtransfer.report.figures.baselines import GREY
from rmtransfer.report.figures.style import (
    FULL,
    MANY,
    OTHERS,
    grid_shape,
    label_lowest,
    legend_above,
    model_groups,
    number,
    order,
    read_table,
    save,
    say,
    series,
    wrapped,
)
from rmtransfer.study.names import NOT_OURS

_QUANTILES = {"whislo": "q05", "q1": "q25", "med": "q50", "q3": "q75", "whishi": "q95"}
_ABOVE: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "va": "bottom"}
_BOXES: dict[str, dict[str, Any]] = {
    "chosen": {"facecolor": "#56B4E9"},
    "rejected": {"facecolor": "white", "hatch": "//////"},
}


def draw_rewards(tables: Mapping[str, Path], outputs: Sequence[Path], *, baselines: Mapping[str, str]) -> None:
    """Rewards of chosen and rejected answers in every language, one panel per model, with the expected calibration error.

    Reward models share no scale. Those of one model (and seed) are standardised together, over all languages, by their
    mean m and standard deviation: with group sizes n_i, means m_i and standard deviations s_i from the table,
    m = sum(n_i m_i) / N and sd^2 = sum(n_i (s_i^2 + (m_i - m)^2)) / N. Boxes are means over seeds, dots the seeds' medians.
    Probes are left out: they would be as many panels again.
    """
    frame = read_table(tables["rewards"])
    frame = _standardised(frame[frame["what"].isin(_BOXES) & ~_is_probe(frame, baselines)])
    errors = read_table(tables["calibration"])
    errors = errors.groupby(["base_model", "train_language", "eval_language"])["ece"].mean()
    languages = order(frame["eval_language"])
    most_columns = max(1, min(5, int(6.3 / (0.3 * len(languages)))))  # two boxes and a number per language
    panels = _panels(frame, baselines, 5.5 / most_columns)
    rows, columns = grid_shape(len(panels), most_columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(FULL, (1.6 if columns > 1 else 1.15) * rows + 0.7),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (title, cells) in zip(axes.flat, panels.items(), strict=False):
        key = (cells["base_model"].iloc[0], cells["train_language"].iloc[0])
        for side, what in ((-1, "chosen"), (1, "rejected")):
            _boxes(axis, cells[cells["what"] == what], languages, what, 0.2 * side)
        axis.axhline(0, color="0.6", linewidth=0.7, linestyle=":", zorder=0)
        for x, language in enumerate(languages):
            ece = errors.get((*key, language), np.nan)
            if not np.isnan(ece):
                axis.annotate(number("{:.2f}", ece).lstrip("0"), (x, 1), (0, 2), **_ABOVE, ha="center")
        axis.annotate("ECE", (-0.6, 1), (0, 2), **_ABOVE, ha="right")
        axis.set_xticks(range(len(languages)), languages)
        axis.set_xlim(-0.6, len(languages) - 0.4)
        axis.tick_params(axis="x", length=0)
        axis.set_title(title, pad=6 + plt.rcParams["font.size"])
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    label_lowest(axes)
    figure.supxlabel("evaluated in")
    figure.supylabel("reward, standardised per model")
    patches = [Patch(edgecolor="black", linewidth=0.6, **look) for look in _BOXES.values()]
    legend_above(figure, patches, [f"{what} answers" for what in _BOXES])
    save(figure, outputs)


def _is_probe(frame: pd.DataFrame, baselines: Mapping[str, str]) -> pd.Series:
    return frame["base_model"].isin(list(baselines)) & (frame["train_language"] != NOT_OURS)


def _boxes(axis: Axes, cells: pd.DataFrame, languages: Sequence[str], what: str, offset: float) -> None:
    mean = cells.groupby("eval_language")[list(_QUANTILES.values())].mean()
    shown = [(x, k) for x, k in enumerate(languages) if k in mean.index]
    axis.bxp(
        [{name: mean.at[k, quantile] for name, quantile in _QUANTILES.items()} for _, k in shown],
        positions=[x + offset for x, _ in shown],
        widths=0.32,
        showfliers=False,
        showcaps=False,
        manage_ticks=False,
        patch_artist=True,
        boxprops={"linewidth": 0.5, "edgecolor": "black", **_BOXES[what]},
        whiskerprops={"linewidth": 0.6},
        medianprops={"linewidth": 1.4, "color": "black"},
    )
    for x, k in shown:
        medians = cells.loc[cells["eval_language"] == k, "q50"]
        if len(medians) > 1:
            axis.plot([x + offset] * len(medians), medians, "o", color="#D55E00", markersize=1.5, zorder=5)


def _standardised(frame: pd.DataFrame) -> pd.DataFrame:
    parts = []
    for _, cells in frame.groupby(["base_model", "train_language", "seed"], sort=False):
        share = cells["n"] / cells["n"].sum()
        mean = float((share * cells["mean"]).sum())
        # The standard deviation of a single row is empty in the table; what it adds is nothing.
        variance = cells["sd"].fillna(0) ** 2 + (cells["mean"] - mean) ** 2
        deviation = float(np.sqrt((share * variance).sum())) or 1.0
        quantiles = list(_QUANTILES.values())
        parts.append(cells.assign(**{q: (cells[q] - mean) / deviation for q in quantiles}))
    return pd.concat(parts)


def draw_length_bias(tables: Mapping[str, Path], outputs: Sequence[Path], *, baselines: Mapping[str, str]) -> None:
    """Accuracy where the chosen answer is the longer one against where it is the shorter one; a panel per model.

    A model that length does not sway lies on the diagonal; one that always picks the longer answer lies top left. A probe of
    the same base and training language is small and grey beside it.
    """
    measured = ["accuracy_longer", "accuracy_shorter"]
    frame = read_table(tables["length_bias"]).dropna(subset=measured)
    if frame.empty:
        say("No reward model counts tokens, so length bias is not measured.", outputs)
        return
    frame[measured] *= 100
    languages, is_probe = order(frame["eval_language"]), _is_probe(frame, baselines)
    probes, panels = frame[is_probe & (len(languages) <= MANY)], _panels(frame[~is_probe], baselines, 1.1)
    rows, columns = grid_shape(len(panels), 5)
    panel = min(1.9, 6.3 / columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(FULL, (panel + 0.25) * rows + 0.7),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    low, high = frame[measured].min(axis=None), frame[measured].max(axis=None)
    margin = 0.15 * (high - low) + 1
    limits = (low - margin, min(104.0, high + margin))
    looks = {k: series(i) for i, k in enumerate(languages)}
    for axis, (title, cells) in zip(axes.flat, panels.items(), strict=False):
        axis.plot(limits, limits, color="0.6", linewidth=0.7, linestyle="--", zorder=0)
        base, train = cells["base_model"].iloc[0], cells["train_language"].iloc[0]
        beside = probes[(probes["base_model"].map(baselines) == base) & (probes["train_language"] == train)]
        for k, at in beside.groupby("eval_language")[measured].mean().iterrows():
            look = {name: GREY for name, value in looks[str(k)].items() if value == looks[str(k)]["color"]}
            axis.plot(
                at["accuracy_shorter"], at["accuracy_longer"], markersize=2.2, zorder=1, **{**looks[str(k)], **look}
            )
        groups = cells.groupby("eval_language", sort=False)[measured]
        mean, deviation = groups.mean(), groups.std().fillna(0)
        for k, at in mean.iterrows():
            axis.errorbar(
                at["accuracy_shorter"],
                at["accuracy_longer"],
                xerr=deviation.at[k, "accuracy_shorter"],
                yerr=deviation.at[k, "accuracy_longer"],
                markersize=3.5,
                elinewidth=0.6,
                **looks[str(k)],
            )
        axis.set_xlim(limits)
        axis.set_ylim(limits)
        axis.set_box_aspect(1)
        axis.set_title(title)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    label_lowest(axes)
    figure.supxlabel("accuracy where the chosen answer is shorter, %")
    figure.supylabel("accuracy where\nit is longer, %")
    handles = [plt.Line2D([], [], linestyle="none", markersize=3.5, **look) for look in looks.values()]
    names = [f"{name} (grey)" for name in order(probes["base_model"])]
    handles += [plt.Line2D([], [], linestyle="none", marker="o", markersize=2.2, color=GREY) for _ in names]
    legend_above(figure, handles, [*languages, *names], "evaluated in")
    save(figure, outputs)


def _panels(frame: pd.DataFrame, baselines: Mapping[str, str], inches: float) -> Mapping[str, pd.DataFrame]:
    """Every model's rows by the title of its panel, which is so wide."""
    groups, languages = model_groups(frame, baselines), set(frame["eval_language"])
    several = len(groups.keys() - set(OTHERS)) > 1
    panels = {}
    for group, rows in groups.items():
        for model, cells in rows.groupby("model", sort=False):
            title = wrapped(f"trained in {model}" if model in languages else str(model), inches)
            panels[f"{wrapped(group, inches)}\n{title}" if several and group not in OTHERS else title] = cells
    return panels
