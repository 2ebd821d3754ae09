"""What reward models buy a policy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from rmtransfer.report.figures.style import COLORS, FULL, MARKERS, order, save, use_style


def draw_alignment(table: Path, curves: Sequence[Path], **style: Any) -> None:
    """Best-of-n curves: gain judged by the other reward models, one panel per language of the policy."""
    use_style(style)
    for_base = {str(base): cell for base, cell in pd.read_csv(table).groupby("base_model", sort=False)}
    languages = order(next(iter(for_base.values()))["language"])
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
            for i, train in enumerate(order(cells["train_language"])):
                mean = cells[cells["train_language"] == train].groupby("n")[["mean_reward", "ci_low", "ci_high"]].mean()
                color = COLORS[i % len(COLORS)]
                axis.plot(
                    mean.index,
                    mean["mean_reward"],
                    marker=MARKERS[i % len(MARKERS)],
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
    save(figure, curves, style)
