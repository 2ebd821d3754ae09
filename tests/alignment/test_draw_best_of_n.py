"""The figure of best-of-n shows a gain above what the picks are like."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from rmtransfer.alignment.best_of_n import COLUMNS
from rmtransfer.report.catalogue import draw

OF_ALL = {"in_language": 0.7, "finished": 0.2}


@pytest.fixture
def panels(tmp_path, monkeypatch):
    """Draws a table of two policies, three pickers, two kinds of referee; the axes in rows of panels."""
    lines = []
    for policy in ("llama", "qwen"):
        for base, train in ((policy, "en"), (policy, "es"), ("longer", "-")):
            for language in ("en", "es"):
                for judge in ("other languages", "armorm"):
                    for n in (1, 2, 4):
                        gain = (n - 1) * (0.2 if train == "es" else 0.1) + (0.05 if judge == "armorm" else 0)
                        change = -0.1 * (n - 1) if train == "es" else 0.0
                        lines.append(
                            {
                                **dict.fromkeys(COLUMNS, 0),
                                **{"policy": policy, "base_model": base, "train_language": train, "language": language},
                                **{
                                    "n": n,
                                    "judged_by": judge,
                                    "gain": gain,
                                    "ci_low": gain - 0.1,
                                    "ci_high": gain + 0.3,
                                },
                                **{"ideal": n / 4, "in_language": OF_ALL["in_language"] + change},
                                **{
                                    "in_language_change": change,
                                    "finished": OF_ALL["finished"],
                                    "finished_change": 0.0,
                                },
                            }
                        )
    pd.DataFrame(lines).to_csv(tmp_path / "best_of_n.csv", index=False)
    kept = []
    monkeypatch.setattr(plt, "close", kept.append)
    style = {"dpi": 72, "font_size": 8}
    tables = {"best_of_n": tmp_path / "best_of_n.csv"}
    draw("best_of_n", tables, [tmp_path / "a.png"], {}, style)
    (figure,) = kept
    rows: dict[int, list] = {}
    for axis in figure.axes:
        rows.setdefault(axis.get_subplotspec().rowspan.start, []).append(axis)
    return list(rows.values())


def curves(axis) -> dict[str, list]:
    """Marker of a curve, or the style of a line without markers, to its y values."""
    return {
        line.get_marker() if line.get_marker() != "None" else line.get_linestyle(): list(line.get_ydata())
        for line in axis.lines
    }


def test_each_policy_has_a_row_of_each_kind(panels):
    labels = [row[0].get_ylabel().split("\n", 1) for row in panels]
    assert len(panels) == 8
    assert [label[0] for label in labels[::4]] == ["llama", "qwen"]
    assert "armorm" in panels[1][0].get_ylabel()
    assert "language" in panels[2][0].get_ylabel()
    assert "finished" in panels[3][0].get_ylabel()


def test_a_gain_has_its_band_and_the_ideal(panels):
    for row, shift in ((0, 0.0), (1, 0.05)):
        drawn = curves(panels[row][1])  # answers in es
        np.testing.assert_allclose(drawn["o"], [shift, 0.1 + shift, 0.3 + shift])  # en
        np.testing.assert_allclose(drawn["s"], [shift, 0.2 + shift, 0.6 + shift])  # es
        np.testing.assert_allclose(drawn["--"], [0.25, 0.5, 1.0])
        (band,) = panels[row][1].collections  # of the model trained in the panel's language
        y = band.get_paths()[0].vertices[:, 1]
        assert (y.min(), y.max()) == pytest.approx((shift - 0.1, 0.9 + shift))


def test_below_a_gain_stands_how_often_the_picks_are_in_the_language(panels):
    drawn = curves(panels[2][0])
    np.testing.assert_allclose(drawn["s"], [70, 60, 40])
    np.testing.assert_allclose(drawn["o"], [70, 70, 70])
    assert drawn[":"] == pytest.approx([70, 70])  # of all answers
    assert curves(panels[3][0])[":"] == pytest.approx([20, 20])
