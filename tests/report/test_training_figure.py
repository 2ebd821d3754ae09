"""The curves are the table's numbers: a thin line for each seed, and their mean."""

import pandas as pd
import pytest

from rmtransfer.report.figures import training

ROW = {"epoch": 0.5, "learning_rate": 1e-5, "loss": 0.6, "accuracy": 0.7}


def table(tmp_path, sets, bases=("tiny",), seeds=2, held_out=True):
    """Held-out loss seed + number of the set, accuracy 0.5, at steps 0 and 2 of two."""
    rows = [
        {"base_model": base, "train_language": name, "seed": seed, "step": step, "pairs": 8 * step, **ROW}
        | ({"held_out_loss": seed + number, "held_out_accuracy": 0.5} if held_out and step != 1 else {})
        for base in bases
        for number, name in enumerate(sets)
        for seed in range(seeds)
        for step in range(3)
    ]
    columns = [*rows[0], "held_out_loss", "held_out_accuracy"]
    pd.DataFrame(rows, columns=list(dict.fromkeys(columns))).to_csv(tmp_path / "training.csv", index=False)
    return {"training": tmp_path / "training.csv"}


@pytest.fixture
def drawn(monkeypatch):
    """Figures, before they are written."""
    figures = []
    original = training.save
    monkeypatch.setattr(training, "save", lambda figure, paths: (figures.append(figure), original(figure, paths)))
    return figures


def test_seeds_and_their_mean(tmp_path, drawn):
    tables = table(tmp_path, ["en", "nan"], bases=["a", "b"])
    training.draw_training(tables, [tmp_path / "x.png", tmp_path / "x.pdf"])
    loss, accuracy = drawn[0].axes[:2]
    lines = [line.get_ydata().tolist() for line in loss.lines[1:]]  # the first one is chance
    assert lines == [[0, 0], [1, 1], [0.5, 0.5], [1, 1], [2, 2], [1.5, 1.5]]
    assert loss.lines[1].get_xdata().tolist() == [0, 16]
    assert {y for line in accuracy.lines for y in line.get_ydata()} == {50}
    assert (tmp_path / "x.png").stat().st_size
    assert (tmp_path / "x.pdf").stat().st_size


def test_many_training_sets_are_heat_maps(tmp_path, drawn):
    tables = table(tmp_path, [f"l{i}" for i in range(25)], bases=["a", "b"])
    training.draw_training(tables, [tmp_path / "x.png"])
    loss = drawn[0].axes[0].images[0].get_array()
    assert loss.shape == (25, 2)
    assert loss[3].tolist() == [3.5, 3.5]


def test_nothing_held_out(tmp_path):
    tables = table(tmp_path, ["en"], held_out=False)
    training.draw_training(tables, [tmp_path / "x.png"])
    assert (tmp_path / "x.png").stat().st_size
