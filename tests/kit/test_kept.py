"""What is kept comes back whole and only under the settings that it was made with, whatever happened meanwhile."""

import errno
import shutil
import threading
from pathlib import Path

import pytest

from rmtransfer.kit import kept
from rmtransfer.kit.kept import Keep, disk, entries
from rmtransfer.kit.manifest import write_manifest

RATE = {"recipe": {"learning_rate": 1e-3}, "rows": ["0a"], "version": 3}
OTHER = {**RATE, "recipe": {"learning_rate": 2e-3}}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A folder with a base model, and a model on disk that a job has just finished."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kept, "_LINKED", 10)
    for folder, weights in (("base", b"base"), ("results/s/models/en", b"a trained one")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "model.bin").write_bytes(weights)
        (tmp_path / folder / "card").write_text("card")
        write_manifest(tmp_path / folder, {})
    return tmp_path


def keep_of(study, decides=RATE, output="results/s/models/en"):
    return Keep(study / "kept", Path("results/s"), Path(output), decides, study / "base")


def test_a_model_comes_back_byte_for_byte_under_the_settings_that_made_it_and_under_no_others(study, capsys):
    model = study / "results/s/models/en"
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    keep_of(study).put()
    assert (study / "results/s/models/en/model.bin").samefile(keep_of(study).entry / "en/model.bin")  # no second copy
    shutil.rmtree(model)
    assert not keep_of(study, OTHER).take()
    write_manifest(study / "base", {"files": {}})  # says the same of the same files
    assert keep_of(study).take()
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before
    assert "taken from" in capsys.readouterr().out
    (study / "base/model.bin").write_bytes(b"another")
    write_manifest(study / "base", {})
    assert not keep_of(study).holds()


def test_a_file_comes_back_and_is_as_new_as_an_output_has_to_be(study):
    answers = study / "results/s/answers/es.parquet"
    answers.parent.mkdir()
    answers.write_bytes(b"some answers, more than a few")
    keep = keep_of(study, output="results/s/answers/es.parquet")
    keep.put()
    answers.unlink()
    youngest = study / "youngest"
    youngest.touch()
    assert keep.take()
    assert answers.read_bytes() == b"some answers, more than a few"
    assert answers.stat().st_mtime_ns >= youngest.stat().st_mtime_ns


def test_the_order_of_a_mapping_is_a_setting_as_it_is_for_snakemake(study):
    one, other = ({"shares": dict(pairs)} for pairs in ([("en", 1), ("es", 1)], [("es", 1), ("en", 1)]))
    assert keep_of(study, one).entry != keep_of(study, other).entry


@pytest.mark.parametrize("damage", ["truncated", "deleted", "facts"])
def test_what_is_damaged_is_not_used_said_and_made_again(study, damage, capsys):
    model = study / "results/s/models/en"
    keep = keep_of(study)
    keep.put()
    shutil.rmtree(model)
    weights = keep.entry / "en/model.bin"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "deleted":
        weights.unlink()
    else:
        (keep.entry / "kept.json").write_text('{"files": ')
    assert not keep.take()
    assert not model.exists()
    assert "is not what was kept" in capsys.readouterr().out
    assert not keep.entry.exists()


@pytest.mark.parametrize(("where", "step"), [(kept.json, "dumps"), (Path, "rename")])
def test_what_a_killed_job_left_is_not_used_and_goes(study, monkeypatch, where, step):
    keep = keep_of(study)

    class Killed(BaseException):
        pass

    def kill(*_, **__):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(where, step, kill)
        with pytest.raises(Killed):
            keep.put()
    assert not keep.holds()
    assert entries(study / "kept", study / "results/s") == []
    keep.put()
    assert [path.name for path in keep.entry.parent.iterdir()] == [keep.entry.name]


def test_jobs_that_keep_the_same_at_the_same_time_keep_it_once(study, capsys):
    keep = keep_of(study)
    threads = [threading.Thread(target=keep.put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in keep.entry.parent.iterdir()] == [keep.entry.name]
    assert "is not kept" not in capsys.readouterr().out
    shutil.rmtree(study / "results/s/models/en")
    assert keep.take()


def test_where_there_are_no_hard_links_copies_are_kept(study, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(kept.os, "link", refuse)
    keep = keep_of(study)
    keep.put()
    shutil.rmtree(study / "results/s/models/en")
    assert keep.take()


def test_what_cannot_be_kept_is_said_and_stays(study, capsys):
    (study / "kept").write_text("no folder")
    keep_of(study).put()
    assert "is not kept" in capsys.readouterr().out
    assert (study / "results/s/models/en/model.bin").is_file()


def test_a_card_edited_in_place_does_not_reach_what_is_kept(study):
    keep_of(study).put()
    (study / "results/s/models/en/card").write_text("my notes")
    assert keep_of(study).take()


def test_the_list_says_what_is_current_and_what_deleting_frees(study):
    keep_of(study).put()
    model = study / "results/s/models/en"
    shutil.rmtree(model)
    model.mkdir()
    (model / "model.bin").write_bytes(b"a model trained otherwise")
    write_manifest(model, {})
    keep_of(study, OTHER).put()
    found = {entry.decides["recipe"]["learning_rate"]: entry for entry in entries(study / "kept", study / "results/s")}
    assert {rate: entry.current for rate, entry in found.items()} == {1e-3: False, 2e-3: True}
    assert {entry.what for entry in found.values()} == {"models/en"}
    current, aside = found[2e-3], found[1e-3]
    assert aside.bytes == sum(path.stat().st_size for path in aside.folder.rglob("*") if path.is_file())
    assert current.bytes == (current.folder / "kept.json").stat().st_size  # all else is the output itself
    assert disk(study / "kept") == aside.bytes + current.bytes
