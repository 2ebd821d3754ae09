"""A file is there whole or not at all, and an output is the kept file under another name."""

import os

import pytest

from rmtransfer.kit.files import publish, write_once


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "deep" / "file"
    write_once(path, lambda draft: draft.write_text("first"))

    def fail(draft):
        draft.write_text("half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_once(path, fail)
    assert path.read_text() == "first"
    write_once(path, lambda draft: draft.write_text("second"))
    assert path.read_text() == "second"


def test_a_published_file_is_the_kept_one_and_new(tmp_path):
    kept, output = tmp_path / "kept", tmp_path / "deep" / "output"
    kept.write_text("rewards")
    os.utime(kept, (1, 1))
    for _ in range(2):  # an output may be there already
        publish(kept, output)
    assert output.read_text() == "rewards"
    assert kept.samefile(output)
    assert output.stat().st_mtime > 1  # Snakemake compares it with the inputs
    output.unlink()
    assert kept.read_text() == "rewards"
