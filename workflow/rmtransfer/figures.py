"""The figures a paper would carry: single-column or full-width, readable in greyscale, PNG and PDF."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rmtransfer.representation import BASE
from rmtransfer.transfer import AVERAGE, REWARDBENCH_SECTIONS

COLUMN, FULL = 3.4, 7.0  # inches: one column and the full width of a two-column page
# Okabe and Ito's colour-blind safe palette (https://jfly.uni-koeln.de/color/), each with its own marker.
_COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999"]
_HATCHES = ["", "//", "xx", "..", "--", "||", "++", "oo"]
_MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]


def draw_translation(table: Path, outcomes: Sequence[Path], **style: Any) -> None:
    """Bars of what became of every text: kept, kept after a retry, refused and why; one bar per language and engine."""
    _use_style(style)
    frame = pd.read_csv(table, keep_default_na=False)
    outcome = frame["measure"].where(frame["measure"] != "refused", "refused: " + frame["reason"])
    shown = {"passed": "kept", "passed_after_retry": "kept after a retry"}
    known = outcome[outcome.isin(shown) | outcome.str.startswith("refused: ")]
    counts = (
        frame.loc[known.index]
        .assign(outcome=known.replace(shown), bar=frame["language"] + " (" + frame["engine"] + ")")
        .pivot_table(index="bar", columns="outcome", values="value", aggfunc="sum", fill_value=0, sort=False)
    )
    refused = [name for name in counts.columns if name not in shown.values()]
    columns = [*(n for n in shown.values() if n in counts.columns), *refused]
    share = 100 * counts[columns].div(counts.sum(axis=1), axis=0)
    figure, axis = plt.subplots(figsize=(FULL, 0.8 + 0.28 * len(share)), layout="constrained")
    palette = {"kept": "#BBD3E6", "kept after a retry": _COLORS[0]}
    reds = [c for c in _COLORS if c != _COLORS[0]]
    left = np.zeros(len(share))
    for i, name in enumerate(columns):
        axis.barh(
            share.index,
            share[name],
            left=left,
            height=0.7,
            color=palette.get(name, reds[(i - len(columns) + len(refused)) % len(reds)]),
            hatch="" if name == "kept" else _HATCHES[i % len(_HATCHES)],
            edgecolor="white",
            linewidth=0.4,
            label=name,
        )
        left += share[name].to_numpy()
    for place, (_, row) in enumerate(counts.iterrows()):
        axis.text(101, place, f"{row[refused].sum():,.0f} of {row.sum():,.0f} refused", va="center")
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.set_xlabel("texts, %")
    axis.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    _save(figure, outcomes, style)


def draw_transfer(table: Path, baseline: Path, heatmap: Sequence[Path], sections: Sequence[Path], **style: Any) -> None:
    """Heat maps of accuracy and of the difference to the in-language model, and one panel per section."""
    _use_style(style)
    frame = pd.read_csv(table)
    lengths = pd.read_csv(baseline).query("subset == @AVERAGE")
    for_base = _by_base(frame)

    figure, axes = plt.subplots(
        len(for_base), 2, figsize=(FULL, 2.9 * len(for_base)), squeeze=False, layout="constrained"
    )
    for row, (base, every) in zip(axes, for_base.items(), strict=True):
        average = every[every["section"] == AVERAGE]
        accuracy = 100 * _matrix(average, "accuracy")
        difference = accuracy - np.diag(accuracy.reindex(index=accuracy.columns))[None, :]
        _heat(row[0], accuracy, "viridis", min(50.0, float(accuracy.to_numpy().min())), 100, "{:.0f}")
        row[0].set_title(f"{base}: accuracy, %")
        bound = max(1.0, float(np.nanmax(np.abs(difference.to_numpy()))))
        _heat(row[1], difference, "RdBu_r", -bound, bound, "{:+.0f}")
        row[1].set_title("difference to the in-language model, points")
        length = lengths[lengths["base_model"] == base].set_index("eval_language")["accuracy"]
        ticks = [f"{k}\n({100 * length[k]:.0f})" for k in accuracy.columns]
        row[0].set_xticks(range(len(ticks)), ticks)
        row[0].set_xlabel("evaluated in (longer-answer rule)")
    _save(figure, heatmap, style)

    names = [s for s in [*REWARDBENCH_SECTIONS, AVERAGE] if s in set(frame["section"])]
    figure, axes = plt.subplots(
        len(for_base),
        len(names),
        figsize=(FULL, 2.3 * len(for_base)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for row, (base, every) in zip(axes, for_base.items(), strict=True):
        for axis, name in zip(row, names, strict=True):
            _section_panel(axis, every[every["section"] == name])
            axis.set_title(name if name != AVERAGE else "Average")
        row[0].set_ylabel(f"{base}\naccuracy, %")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, title="trained in", loc="outside right center", frameon=False)
    figure.supxlabel("evaluated in", fontsize=style["font_size"])
    _save(figure, sections, style)


def _section_panel(axis: Axes, frame: pd.DataFrame) -> None:
    trained, evaluated = _order(frame["train_language"]), _order(frame["eval_language"])
    mean = frame.groupby(["train_language", "eval_language"])[["accuracy", "ci_low", "ci_high"]].mean() * 100
    width = 0.7 / len(trained)
    for i, language in enumerate(trained):
        cell = mean.loc[language].reindex(evaluated)
        x = np.arange(len(evaluated)) + (i - (len(trained) - 1) / 2) * width
        low, high = cell["accuracy"] - cell["ci_low"], cell["ci_high"] - cell["accuracy"]
        axis.errorbar(
            x,
            cell["accuracy"],
            yerr=[low.clip(lower=0), high.clip(lower=0)],
            fmt=_MARKERS[i % len(_MARKERS)],
            color=_COLORS[i % len(_COLORS)],
            markersize=3,
            elinewidth=0.7,
            label=language,
        )
    axis.axhline(50, color="0.6", linewidth=0.7, linestyle=":")
    axis.set_xticks(range(len(evaluated)), evaluated)
    axis.set_ylim(-2, 102)


def draw_representation(
    table: Path, coordinates: Path, pca: Sequence[Path], shift: Sequence[Path], **style: Any
) -> None:
    """PCA of base and reward models by language; shift from the base, singular-value share and norms."""
    _use_style(style)
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
    _save(figure, pca, style)

    figure, axes = plt.subplots(len(bases), 3, figsize=(FULL, 2.6 * len(bases)), squeeze=False, layout="constrained")
    for row, base in zip(axes, bases, strict=True):
        of_base = frame[frame["base_model"] == base]
        moved = of_base[of_base["metric"] == "shift_cosine"]
        matrix = _matrix(moved, "value")
        _heat(row[0], matrix, "viridis", 0, max(0.01, float(matrix.to_numpy().max())), "{:.2f}")
        row[0].set_title("shift from base, 1 $-$ cosine")
        _dots(row[1], of_base, "singular_value_share")
        row[1].set_title("singular-value share $f$")
        _norms(row[2], of_base)
        row[2].set_title("norm, mean ± sd over texts")
        if len(bases) > 1:
            row[0].set_ylabel(f"{base}\n{row[0].get_ylabel()}")
    _save(figure, shift, style)


def _pca_panel(axis: Axes, frame: pd.DataFrame) -> None:
    for i, (language, cell) in enumerate(frame.groupby("language", sort=False)):
        axis.scatter(
            cell["pc1"],
            cell["pc2"],
            s=5,
            marker=_MARKERS[i % len(_MARKERS)],
            color=_COLORS[i % len(_COLORS)],
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
    axis.plot(range(len(trained)), trained, "o", color=_COLORS[0], markersize=4)
    axis.set_xticks(range(len(trained)), trained.index)
    axis.set_xlabel("trained in")
    axis.legend(frameon=False, loc="best")
    axis.margins(x=0.15, y=0.3)


def _norms(axis: Axes, frame: pd.DataFrame) -> None:
    means, spreads = frame[frame["metric"] == "norm_mean"], frame[frame["metric"] == "norm_sd"]
    models = _order(means["train_language"])
    languages = _order(means["eval_language"])
    width = 0.7 / len(languages)
    for i, language in enumerate(languages):
        mean = means[means["eval_language"] == language].groupby("train_language")["value"].mean().reindex(models)
        sd = spreads[spreads["eval_language"] == language].groupby("train_language")["value"].mean().reindex(models)
        axis.errorbar(
            np.arange(len(models)) + (i - (len(languages) - 1) / 2) * width,
            mean,
            yerr=sd,
            fmt=_MARKERS[i % len(_MARKERS)],
            color=_COLORS[i % len(_COLORS)],
            markersize=3,
            elinewidth=0.7,
            label=language,
        )
    axis.set_xticks(range(len(models)), models)
    axis.set_xlabel("trained in")
    axis.legend(title="text in", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), handletextpad=0.1)


def draw_alignment(table: Path, curves: Sequence[Path], **style: Any) -> None:
    """Best-of-n curves: gain judged by the other reward models, one panel per language of the policy."""
    _use_style(style)
    for_base = _by_base(pd.read_csv(table))
    languages = _order(next(iter(for_base.values()))["language"])
    figure, axes = plt.subplots(
        len(for_base),
        len(languages),
        figsize=(FULL, 2.2 * len(for_base) + 0.3),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for row, (base, every) in zip(axes, for_base.items(), strict=True):
        for axis, language in zip(row, languages, strict=True):
            cells = every[every["language"] == language]
            for i, train in enumerate(_order(cells["train_language"])):
                mean = cells[cells["train_language"] == train].groupby("n")[["mean_reward", "ci_low", "ci_high"]].mean()
                color = _COLORS[i % len(_COLORS)]
                axis.plot(
                    mean.index,
                    mean["mean_reward"],
                    marker=_MARKERS[i % len(_MARKERS)],
                    color=color,
                    markersize=3,
                    linewidth=1,
                    label=train,
                )
                if train == language:
                    axis.fill_between(mean.index, mean["ci_low"], mean["ci_high"], color=color, alpha=0.15, linewidth=0)
            axis.axhline(0, color="0.6", linewidth=0.7, linestyle=":")
            axis.set_title(f"answers in {language}")
            axis.set_xticks(mean.index, [str(n) for n in mean.index])
        row[0].set_ylabel(f"{base}\ngain, sd of judges' rewards")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, title="picked by RM\ntrained in", loc="outside right center", frameon=False)
    figure.supxlabel("best of n", fontsize=style["font_size"])
    _save(figure, curves, style)


def _by_base(frame: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    return {str(base): cell for base, cell in frame.groupby("base_model", sort=False)}


def _order(values: pd.Series) -> list[str]:
    """Distinct values in order of appearance: the config's order of languages."""
    return [str(v) for v in dict.fromkeys(values)]


def _matrix(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    """Training language x evaluation language, mean over seeds."""
    table = frame.pivot_table(index="train_language", columns="eval_language", values=value, sort=False)
    return table.reindex(index=_order(frame["train_language"]), columns=_order(frame["eval_language"]))


def _models_of(points: pd.DataFrame) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(points["train_language"], points["seed"], strict=True)))


def _seed_suffix(models: Sequence[tuple[str, str]], seed: str) -> str:
    return f", seed {seed}" if len({s for t, s in models if t != BASE}) > 1 else ""


def _where(frame: pd.DataFrame, cells: Mapping[str, str]) -> pd.DataFrame:
    mask = np.ones(len(frame), bool)
    for column, value in cells.items():
        mask &= (frame[column] == value).to_numpy()
    return frame[mask]


def _heat(axis: Axes, matrix: pd.DataFrame, colormap: str, low: float, high: float, form: str) -> None:
    image = axis.imshow(matrix.to_numpy(float), cmap=colormap, vmin=low, vmax=high, aspect="auto")
    for (i, j), value in np.ndenumerate(matrix.to_numpy(float)):
        red, green, blue, _ = image.cmap(image.norm(value))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5  # ITU-R BT.601 luma
        axis.text(j, i, _number(form, value), ha="center", va="center", color="white" if dark else "black")
    axis.set_xticks(range(matrix.shape[1]), matrix.columns)
    axis.set_yticks(range(matrix.shape[0]), matrix.index)
    axis.set_xlabel("evaluated in")
    axis.set_ylabel("trained in")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.figure.colorbar(image, ax=axis, shrink=0.85)


def _number(form: str, value: float) -> str:
    """A formatted number with a true minus sign, and without a sign where it rounds to zero."""
    text = form.format(value)
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def _use_style(style: Mapping[str, Any]) -> None:
    plt.rcdefaults()
    size = style["font_size"]
    plt.rcParams.update(
        {
            "font.size": size,
            "axes.titlesize": size,
            "axes.labelsize": size,
            "xtick.labelsize": size - 1,
            "ytick.labelsize": size - 1,
            "legend.fontsize": size - 1,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "pdf.fonttype": 42,  # TrueType, which publishers ask for, instead of Type 3
        }
    )


def _save(figure: Figure, paths: Sequence[Path], style: Mapping[str, Any]) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without a date the same table gives the same bytes.
        metadata = {"CreationDate": None} if path.suffix == ".pdf" else None
        figure.savefig(path, dpi=style["dpi"], metadata=metadata)
    plt.close(figure)
