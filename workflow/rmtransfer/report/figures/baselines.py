"""What a reward model must beat, as unobtrusive marks in figures of reward models: grey, and told apart by their shapes."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from rmtransfer.report.figures.style import BASELINES, intervals
from rmtransfer.study.names import NOT_OURS

GREY = "0.35"
CHANCE: dict[str, Any] = {"color": "0.35", "linewidth": 0.8, "linestyle": ":"}
PROBE: dict[str, Any] = {"color": GREY, "linestyle": "none", "markersize": 3, "markeredgewidth": 0.7}
_BAND: dict[str, Any] = {"facecolor": "0.88", "edgecolor": "none"}
_DASHES: list[Any] = [(0, (4, 1.2)), (0, (4, 1, 1, 1)), (0, (2, 1)), (0, (1, 0.6)), "-"]
_SLOT = 0.43  # half of what a language takes of an axis


def baselines_of(groups: Mapping[str, pd.DataFrame], group: str, baselines: Mapping[str, str]) -> pd.DataFrame:
    """The rows of baselines that belong to a group: those made of that base model, and those made of none."""
    rows = groups.get(BASELINES, next(iter(groups.values())).iloc[:0])
    return rows[rows["base_model"].map(baselines).isin(["", group])]


def draw_marks(axis: Axes, rows: pd.DataFrame, languages: Sequence[str], looks: Mapping[str, Any], along: str) -> None:
    """A band from mean - sd to mean + sd of what is drawn several times, a dash for what there is one of.

    Args:
        rows: of seeds.csv, one for each baseline and language.
        looks: line style by name, from :func:`looks_of`.
        along: ``x`` or ``y``, the axis that languages are on, at 0, 1, ...
    """
    rows = rows[(rows["train_language"] == NOT_OURS) & rows["eval_language"].isin(list(languages))]
    for (name, language), cell in intervals(rows, ["base_model", "eval_language"]).iterrows():  # type: ignore[misc]
        start = list(languages).index(language) - _SLOT
        if name in looks:
            draw = axis.hlines if along == "x" else axis.vlines
            draw(cell["accuracy"], start, start + 2 * _SLOT, color=GREY, linewidth=0.8, linestyle=looks[name], zorder=1)
        else:
            low, height = cell["accuracy"] - cell["sd"], 2 * cell["sd"]
            corner, size = (start, low), (2 * _SLOT, height)
            axis.add_patch(
                Rectangle(*((corner, *size) if along == "x" else (corner[::-1], *size[::-1])), zorder=0, **_BAND)
            )


def looks_of(rows: pd.DataFrame) -> dict[str, Any]:
    """The line style of every baseline that is drawn as a dash, by name."""
    single = rows[(rows["train_language"] == NOT_OURS) & (rows["seeds"] == 1)]
    return {name: _DASHES[i % len(_DASHES)] for i, name in enumerate(dict.fromkeys(single["base_model"]))}


def legend_of(rows: pd.DataFrame, looks: Mapping[str, Any]) -> dict[str, Any]:
    """Label to handle of what :func:`draw_marks` draws, and of the line of chance."""
    several = rows[(rows["train_language"] == NOT_OURS) & (rows["seeds"] > 1)]["base_model"]
    bands = {f"{', '.join(dict.fromkeys(several))}, ± sd": Patch(**_BAND)} if len(several) else {}
    dashes = {name: plt.Line2D([], [], color=GREY, linewidth=0.8, linestyle=look) for name, look in looks.items()}
    return {**bands, **dashes, "chance": plt.Line2D([], [], **CHANCE)}


def probes_of(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Name of a probe to ``accuracy, low, high, sd`` by training and evaluation language, in per cent."""
    fitted, keys = rows[rows["train_language"] != NOT_OURS], ["train_language", "eval_language"]
    return {str(name): intervals(cells, keys) for name, cells in fitted.groupby("base_model", sort=False)}
