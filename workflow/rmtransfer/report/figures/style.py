"""What all figures share: palette, tables in, heat maps, labels that fit, files out."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator

from rmtransfer.study.names import NOT_OURS

COLUMN, FULL = 3.4, 7.0  # inches: one column and the full width of a two-column page
# Okabe and Ito's colour-blind safe palette (https://jfly.uni-koeln.de/color/), and markers to tell series apart in grey.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999"]
HATCHES = ["//", "xx", "..", "--", "||", "++", "oo"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<"]
_FILLS = ["full", "open", "left"]
MOST_SERIES = len(MARKERS) * len(_FILLS)
MANY = 10  # languages from which on a heat map takes the full width
OFF_THE_SHELF, BASELINES = "off the shelf", "baselines"
OTHERS = (OFF_THE_SHELF, BASELINES)  # what is not trained in the study
_KEYS = (
    *("base_model", "train_language", "seed", "eval_language", "section", "what", "metric"),
    *("base_a", "train_a", "base_b", "train_b", "family"),
    *("language", "engine", "measure", "reason"),
)
_NUMBER = "number"  # gid of numbers in cells
_SMALLEST = 5.0  # points that can be read


def read_table(path: Path) -> pd.DataFrame:
    """A table of the study; names stay strings even where they look like numbers or missing values (nan: Min Nan)."""
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(_KEYS, str))
    return frame.fillna({key: "" for key in _KEYS if key in frame})


def model_groups(frame: pd.DataFrame, baselines: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """Our own reward models by base model, then all others as ``OFF_THE_SHELF``, and ``BASELINES``.

    The added column ``model`` names a model within its group: by training language (or mixture), by its own name, or by both.
    """
    is_baseline = frame["base_model"].isin(list(baselines))
    is_other = ~is_baseline & (frame["train_language"] == NOT_OURS)
    groups = {
        str(base): cell.assign(model=cell["train_language"])
        for base, cell in frame[~is_baseline & ~is_other].groupby("base_model", sort=False)
    }
    for group, inside in zip(OTHERS, (is_other, is_baseline), strict=True):
        if inside.any():
            rows = frame[inside]
            fitted = (" " + rows["train_language"]).where(rows["train_language"] != NOT_OURS, "")
            groups[group] = rows.assign(model=rows["base_model"] + fitted)
    return groups


def order(values: pd.Series) -> list[str]:
    """Distinct values in order of appearance: the config's order of languages."""
    return [str(v) for v in dict.fromkeys(values)]


def matrix(frame: pd.DataFrame, value: str, languages: Sequence[str], statistic: str = "mean") -> pd.DataFrame:
    """Model x evaluation language, over seeds; NaN where a model was not evaluated."""
    cells = frame.groupby(["model", "eval_language"], sort=False)[value].agg(statistic).unstack()
    return cells.reindex(index=order(frame["model"]), columns=list(languages))


def spread(frame: pd.DataFrame, value: str, languages: Sequence[str]) -> pd.DataFrame | None:
    """Standard deviation over seeds, in the shape of :func:`matrix`; None where no model has several."""
    deviation = matrix(frame, value, languages, "std")
    return deviation if deviation.notna().any(axis=None) else None


def intervals(frame: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """``accuracy, low, high, sd`` by ``keys``, in per cent, of rows of seeds.csv."""
    cells = frame.set_index(list(keys))[["mean", "ci_low", "ci_high", "sd"]]
    return 100 * cells.set_axis(["accuracy", "low", "high", "sd"], axis="columns")


def series(i: int) -> dict[str, Any]:
    """Colour and marker of the i-th series, for ``plot`` and ``errorbar``.

    Markers are filled, then open, then half filled, so that ``MOST_SERIES`` differ without their colours. Every round of
    markers moves the colours on by one, so that no marker meets a colour twice.
    """
    around, place = divmod(i, len(MARKERS))
    color, fill = COLORS[(place + around) % len(COLORS)], _FILLS[around % len(_FILLS)]
    return {
        "color": color,
        "marker": MARKERS[place],
        "fillstyle": "left" if fill == "left" else "full",
        "markerfacecolor": "white" if fill == "open" else color,
        "markerfacecoloralt": "white",
        "markeredgecolor": color,
    }


def heat(
    axis: Axes,
    cells: pd.DataFrame,
    colormap: str,
    bounds: tuple[float, float],
    form: str,
    deviation: pd.DataFrame | None = None,
    marked: pd.DataFrame | None = None,
    label_inches: float = 1.3,
) -> AxesImage:
    """A heat map with its numbers.

    Args:
        cells: values; NaN cells are light grey and empty.
        form: format of the numbers.
        deviation: what goes below each number, after ±; shape of ``cells``.
        marked: bool, shape of ``cells``; these cells are hatched and their numbers in italics.
        label_inches: width from which on the names of rows are broken into lines.
    """
    values = cells.to_numpy(float)
    colors: Colormap = plt.get_cmap(colormap).with_extremes(bad="0.93")
    image = axis.imshow(values, cmap=colors, vmin=bounds[0], vmax=bounds[1], aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        red, green, blue, _ = image.cmap(image.norm(value))
        ink = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "black"  # ITU-R BT.601 luma
        text = number(form, value)
        if deviation is not None and not np.isnan(deviation.iat[i, j]):
            text += "\n±" + number(form.replace("+", ""), deviation.iat[i, j])
        written = axis.text(j, i, text, ha="center", va="center", color=ink, gid=_NUMBER, linespacing=0.95)
        if marked is not None and marked.iat[i, j]:
            axis.add_patch(hatched((j - 0.5, i - 0.5), image.cmap(image.norm(value)), ink))
            written.set_fontstyle("italic")
            # A halo in the cell's own colour keeps the hatch out of the digits.
            written.set_bbox({"facecolor": image.cmap(image.norm(value)), "edgecolor": "none", "pad": 0.8})
    axis.set_xticks(range(cells.shape[1]), cells.columns)
    axis.set_yticks(range(cells.shape[0]), [wrapped(str(name), label_inches) for name in cells.index])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return image


def hatched(corner: tuple[float, float], face: Any, ink: str = "black") -> Rectangle:
    """A cell with the light hatch that marks a difference within chance, in a colour that shows on ``face``."""
    return Rectangle(corner, 1, 1, facecolor=face, edgecolor=(ink, 0.55), hatch="//////", linewidth=0)


def number(form: str, value: float) -> str:
    """A formatted number with a true minus sign, and without a sign where it rounds to zero."""
    text = form.format(value)
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def wrapped(text: str, inches: float) -> str:
    """Text in lines of at most about this width, in the size of tick labels."""
    characters = int(72 * inches / (0.6 * plt.rcParams["xtick.labelsize"]))
    return textwrap.fill(text, max(6, characters))


def legend_above(figure: Figure, handles: Sequence[Any], labels: Sequence[str], title: str | None = None) -> None:
    """One legend for the whole figure, in as many columns as fit its width."""
    size = plt.rcParams["legend.fontsize"]
    for rows in range(1, len(labels) + 1):
        longest = [max(map(len, labels[i : i + rows])) for i in range(0, len(labels), rows)]
        if sum(0.6 * size * n + 5 * size for n in longest) < 72 * figure.get_figwidth():
            break
    columns = -(-len(labels) // rows)
    figure.legend(handles, labels, title=title, loc="outside upper center", ncols=columns, frameon=False)


def label_lowest(axes: np.ndarray) -> None:
    """Tick labels of a shared x axis below the lowest panel of every column, also above a gap in the last row."""
    for column in axes.T:
        [axis for axis in column if axis.axison][-1].tick_params(axis="x", labelbottom=True)


def color_bar(figure: Figure, image: AxesImage, axes: Any, label: str = "") -> None:
    """A colour bar beside some axes, about as long on a tall figure as on a low one."""
    figure.colorbar(image, ax=axes, label=label, shrink=min(0.85, 2.2 / figure.get_figheight()), aspect=18)


def grid_shape(panels: int, most_columns: int) -> tuple[int, int]:
    """Rows and columns of small multiples, the rows as even as they can be."""
    rows = -(-panels // max(1, min(most_columns, panels)))
    return rows, -(-panels // rows)


def say(sentence: str, outputs: Sequence[Path]) -> None:
    """A figure of one sentence, for a study that has nothing to draw here."""
    figure = plt.figure(figsize=(COLUMN, 0.8), layout="constrained")
    figure.text(0.5, 0.5, wrapped(sentence, 2.8), ha="center", va="center")
    save(figure, outputs)


def use_style(dpi: int, font_size: float) -> None:
    plt.rcdefaults()
    plt.rcParams.update(
        {
            "figure.dpi": dpi,
            "savefig.dpi": dpi,
            "font.size": font_size,
            "figure.labelsize": font_size,
            "axes.titlesize": font_size,
            "axes.labelsize": font_size,
            "xtick.labelsize": font_size - 1,
            "ytick.labelsize": font_size - 1,
            "legend.fontsize": font_size - 1,
            "legend.title_fontsize": font_size - 1,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "hatch.linewidth": 0.4,
            "pdf.fonttype": 42,  # TrueType, which publishers ask for, instead of Type 3
        }
    )


def save(figure: Figure, paths: Sequence[Path]) -> None:
    """Write a figure in every format, once its labels fit, and close it."""
    _fit(figure)
    # What fits stays where it is, in every format. Not by "none", which leaves a placeholder that draws every file twice.
    with plt.rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without a date the same table gives the same bytes.
        metadata = {"CreationDate": None} if path.suffix == ".pdf" else None
        figure.savefig(path, metadata=metadata)
    plt.close(figure)


def _fit(figure: Figure) -> None:
    """Turn tick labels that would overlap, and shrink them where that is not enough; the same for numbers in cells.

    Numbers that would be too small to be read are left out.
    """
    figure.draw_without_rendering()
    moved = False
    for axis in figure.axes:
        labels = [label for label in axis.get_xticklabels() if label.get_text()]
        if len(labels) < 2 or not isinstance(axis.xaxis.get_major_locator(), FixedLocator):
            continue
        places = [label.get_position()[0] for label in labels]
        room = np.diff(axis.transData.transform([(x, 0) for x in places])[:, 0]).min()
        if max(label.get_window_extent().width for label in labels) > 0.92 * room:
            turned = [label.get_text().replace("\n", " ") for label in labels]
            size = min(plt.rcParams["xtick.labelsize"], max(_SMALLEST, 72 / figure.dpi * 0.9 * room))
            axis.set_xticks(places, turned, rotation=90, fontsize=size)
            moved = True
    if moved:
        figure.draw_without_rendering()
    numbers = [(axis, t) for axis in figure.axes for t in axis.texts if t.get_gid() == _NUMBER]
    scale = 1.0
    for axis, text in numbers:
        box, cell = text.get_window_extent(), axis.transData.transform([(0, 0), (1, 1)])
        width, height = np.abs(cell[1] - cell[0])
        scale = min(scale, 0.92 * width / box.width, 0.96 * height / box.height)
    for _, text in numbers:
        size = scale * float(text.get_fontsize())
        text.set_fontsize(size)
        text.set_visible(size >= _SMALLEST)
