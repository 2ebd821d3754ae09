"""A file is there whole or not at all, and an output is the kept file under another name."""

import errno
import os

import pytest

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.files import link, links_in, publish, write_once


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


@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP])
def test_where_there_are_no_hard_links_files_are_copied(tmp_path, monkeypatch, number):
    kept, output = tmp_path / "kept", tmp_path / "output"
    kept.write_text("rewards")
    kept.chmod(0o444)
    assert links_in(tmp_path)

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    assert not links_in(tmp_path)
    for _ in range(2):
        publish(kept, output)
    assert output.read_text() == "rewards"
    assert not kept.samefile(output)
    assert output.stat().st_mode & 0o777 == 0o444
    assert len(list(tmp_path.iterdir())) == 2


def test_a_link_that_fails_for_another_reason_is_no_copy(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "kept").touch()
    with pytest.raises(OSError, match="No space"):
        link(tmp_path / "kept", tmp_path / "output")


def test_a_damaged_file_is_not_published_and_goes(tmp_path):
    kept = tmp_path / "kept.parquet"
    kept.write_bytes(b"PAR1 half")
    with pytest.raises(StudyError, match=r"kept.parquet: is damaged.+ has been removed: give the same command again"):
        publish(kept, tmp_path / "output.parquet")
    assert list(tmp_path.iterdir()) == []
