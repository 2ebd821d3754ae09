"""One opener: tables of a new file, what is committed, and what is said of a file that cannot be used."""

import errno
import fcntl
import os
import sqlite3
import threading

import pytest

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.sqlite import Database

SCHEMA = "CREATE TABLE thing (key TEXT PRIMARY KEY, value INTEGER); CREATE TABLE other (x)"


def opened(path, version=3) -> Database:
    return Database(path, SCHEMA, "thing", version, name=f"{path}: the things", remedy="name another file")


@pytest.fixture
def database(tmp_path) -> Database:
    return opened(tmp_path / "deep" / "things.sqlite")


def test_a_new_file_has_its_tables_and_its_format(database):
    assert database.execute("SELECT * FROM thing") == database.execute("SELECT * FROM other") == []
    with sqlite3.connect(database.path) as plain:
        assert plain.execute("PRAGMA user_version").fetchone() == (3,)
        assert plain.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("count", [0, 1, 1_000, 2_001])
def test_any_number_of_keys_can_be_asked_for(database, count):
    keys = [f"k{i}" for i in range(2_500)]
    database.execute_many("INSERT INTO thing VALUES (?, ?)", [(key, i) for i, key in enumerate(keys)])
    found = database.among("SELECT key, value FROM thing WHERE value >= ? AND key IN", keys[:count], 1)
    assert sorted(found) == sorted((key, i) for i, key in enumerate(keys[:count]) if i >= 1)


def test_a_transaction_is_all_or_nothing(database):
    def fail():
        with database.transaction():
            database.execute("INSERT INTO thing VALUES ('a', 1)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert database.execute("SELECT * FROM thing") == []
    with database.transaction():
        database.execute("INSERT INTO thing VALUES ('a', 1)")
    assert opened(database.path).execute("SELECT * FROM thing") == [("a", 1)]


def test_writers_wait_for_each_other(database):
    def write(number):
        mine = opened(database.path)
        for i in range(20):
            with mine.transaction():
                mine.execute("INSERT INTO thing VALUES (?, ?)", [f"{number}-{i}", i])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.execute("SELECT count(*) FROM thing") == [(80,)]


@pytest.mark.parametrize("version", [0, 3])
@pytest.mark.parametrize("made", ["CREATE TABLE mine (x)", "PRAGMA user_version = 4"])
def test_another_file_is_left_alone(tmp_path, made, version):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as other:
        other.execute(made)
    with pytest.raises(StudyError, match=r"other\.sqlite: the things is of another version, .*; name another file"):
        opened(path, version)
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT name FROM sqlite_master WHERE name IN ('thing', 'other')").fetchall() == []


def test_a_file_without_a_format_number_is_taken_as_it_is(tmp_path):
    path = tmp_path / "old.sqlite"
    with sqlite3.connect(path) as old:
        old.execute("CREATE TABLE thing (key TEXT PRIMARY KEY, value INTEGER)")
        old.execute("INSERT INTO thing VALUES ('a', 1)")
    assert opened(path, 0).execute("SELECT * FROM thing") == [("a", 1)]


def test_what_is_wrong_with_a_file_is_said(tmp_path, database):
    with pytest.raises(StudyError, match=r"the things cannot be opened .*check the path and its rights"):
        opened(tmp_path)
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(b"not a database" * 100)
    with pytest.raises(StudyError, match=r"broken\.sqlite: the things .*damaged .*\.recover.*; name another file"):
        opened(broken)
    with pytest.raises(StudyError, match=r"the things cannot be used .*everything committed is kept"):
        database.execute("SELECT * FROM nothing")


def test_a_full_disk_is_said_and_what_was_committed_stays(small_disk):
    database = opened(small_disk / "things.sqlite")
    database.execute("INSERT INTO other VALUES ('kept')")

    def fill():
        with database.transaction():
            for _ in range(100):
                database.execute("INSERT INTO other VALUES (?)", ["x" * 10_000])

    with pytest.raises(StudyError, match="if the disk is full, make room and run again: everything committed is kept"):
        fill()
    database.close()
    again = opened(small_disk / "things.sqlite")
    assert again.execute("SELECT * FROM other") == [("kept",)]
    again.execute("INSERT INTO other VALUES ('more')")


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(
        StudyError, match=r"the things lies on a file system where no file can be locked.+put it on another"
    ):
        opened(tmp_path / "things.sqlite")
