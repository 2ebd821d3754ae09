"""What libraries say of a full disk, and every place where a file can be cut off."""

import contextlib
import os
import sqlite3
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from rmtransfer.kit.damage import damage_in, explained
from rmtransfer.kit.errors import StudyError

NUMBERS = np.random.default_rng(0).normal(size=400_000)  # more than the small disk holds


def write_sqlite(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x BLOB)")
        connection.execute("INSERT INTO t VALUES (?)", [NUMBERS.tobytes()])
        connection.commit()


def write_picture(path: Path) -> None:
    figure, axes = plt.subplots()
    axes.imshow(NUMBERS[:250_000].reshape(500, 500), interpolation="none")
    figure.savefig(path, format="png", dpi=300)
    plt.close(figure)


WRITERS = {
    "text": lambda path: path.write_bytes(NUMBERS.tobytes()),
    "pyarrow": lambda path: pq.write_table(pa.table({"x": NUMBERS}), path),
    "numpy": lambda path: np.savez(path.open("wb"), x=NUMBERS),
    "safetensors": lambda path: save_file({"x": torch.from_numpy(NUMBERS)}, path),
    "torch": lambda path: torch.save(torch.from_numpy(NUMBERS), path),
    "pandas": lambda path: pd.DataFrame({"x": NUMBERS}).to_csv(path),
    "sqlite": write_sqlite,
    "matplotlib": write_picture,
}


@pytest.mark.parametrize("library", WRITERS)
def test_a_full_disk_is_told_from_what_every_library_says_of_it(small_disk, library):
    path = small_disk / "file"
    with pytest.raises(Exception) as caught:  # noqa: PT011 (whatever the library raises)
        WRITERS[library](path)
    said = explained(caught.value, small_disk, ())
    assert said is not None, repr(caught.value)
    assert f"the disk is full: of 0 MB on {small_disk}" in said
    assert "give the same command again" in said


def test_it_is_told_behind_another_error():
    problem = StudyError("llama: cannot be saved")
    problem.__cause__ = OSError(28, "No space left on device")
    assert "the disk is full" in explained(problem, Path.cwd(), ())
    assert explained(StudyError("row 7 is empty"), Path.cwd(), [Path(__file__)]) is None


FILES = {
    "rows.parquet": lambda path: pq.write_table(pa.table({"x": [1, 2, 3]}), path),
    "model.safetensors": lambda path: save_file({"x": torch.ones(3), "y": torch.zeros(2)}, path, {"format": "pt"}),
    "states.npz": lambda path: np.savez(path, x=np.ones(3)),
    "manifest.json": lambda path: path.write_text('{"files": {"a": [1, 2]}}\n'),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_damaged_wherever_it_was_cut_off(tmp_path, name):
    path = tmp_path / "results/tiny" / name
    path.parent.mkdir(parents=True)
    FILES[name](path)
    assert damage_in(path) is None
    whole = path.read_bytes()
    for size in range(len(whole) - 1 - (name == "manifest.json")):  # of JSON the last line break is no loss
        os.truncate(path, size)
        assert "is damaged" in str(damage_in(path)), size
        path.write_bytes(whole)
    assert damage_in(tmp_path / "missing.parquet") is None


def test_the_remedy_removes_what_the_study_makes_and_replaces_what_it_is_given(tmp_path):
    study = tmp_path / "results/tiny"
    model = study / "models/llama"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"half")
    given = tmp_path / "rows.parquet"
    given.write_bytes(b"PAR1")
    problem = RuntimeError("unexpected end")
    made = explained(problem, study, [model])
    assert made.startswith(f"{model}/model.safetensors: is damaged")
    assert f"remove {model} and give the same command again" in made
    assert "put a whole one there" in explained(problem, study, [given])
