"""The store keeps what was committed, whatever happens to the process, and says what is wrong with a file."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from conftest import ROOT
from rmtransfer.kit.errors import StudyError
from rmtransfer.translation.engines import build_engine
from rmtransfer.translation.pipeline import stored
from rmtransfer.translation.store import Scope, SegmentStore, Translation
from scripted_engine import MACHINE

SCOPE = Scope("deepl", {"formality": "more"}, "en", "es")
ANSWERS = {
    "one": Translation("uno", billed=3),
    "two\n\u2028 \x00 lines": Translation("dos", ("wrong language", "length ratio"), ("length ratio",), 5),
    "": Translation("nada"),
}


@pytest.fixture
def store(tmp_path):
    return SegmentStore(tmp_path / "deep" / "store.sqlite")


def test_what_is_put_is_got_also_by_another_process(store):
    store.put(SCOPE, ANSWERS)
    assert store.get(SCOPE, [*ANSWERS, "three"]) == ANSWERS
    assert SegmentStore(store.path).get(SCOPE, ANSWERS) == ANSWERS
    assert store.get(SCOPE, []) == {}


@pytest.mark.parametrize(
    "other",
    [
        Scope("seq2seq", {"formality": "more"}, "en", "es"),
        Scope("deepl", {"formality": "less"}, "en", "es"),
        Scope("deepl", {}, "en", "es"),
        Scope("deepl", {"formality": "more"}, "it", "es"),
        Scope("deepl", {"formality": "more"}, "en", "ko"),
    ],
)
def test_everything_that_decides_a_translation_is_in_the_key(store, other):
    store.put(SCOPE, ANSWERS)
    assert store.get(other, ANSWERS) == {}
    store.put(other, {"one": Translation("un")})
    assert store.get(SCOPE, ["one"]) == {"one": ANSWERS["one"]}


def test_more_texts_than_a_query_takes(store):
    many = {f"text {i}": Translation(f"texto {i}") for i in range(3_001)}
    store.put(SCOPE, many)
    assert store.get(SCOPE, many) == many


def test_billed_characters_add_up_by_engine(store):
    store.put(SCOPE, ANSWERS)
    store.put(Scope("deepl", {}, "en", "ko"), {"one": Translation("하나", billed=4)})
    store.put(Scope("other", {}, "en", "ko"), {"one": Translation("하나", billed=100)})
    assert store.billed("deepl") == 3 + 5 + 4
    assert store.billed("llm") == 0


def test_a_failed_commit_leaves_nothing_half(store):
    store.put(SCOPE, {"one": ANSWERS["one"]})
    with pytest.raises(AttributeError):
        store.put(SCOPE, {"two": Translation("dos"), "three": None})
    assert store.get(SCOPE, ["one", "two"]) == {"one": ANSWERS["one"]}


@pytest.mark.parametrize("damage", [b"not a database at all" * 50, None])
def test_a_damaged_file_is_named_and_kept(store, damage):
    store.put(SCOPE, {f"text {i}": Translation("x" * 500) for i in range(500)})
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    content = store.path.read_bytes()
    # either no SQLite file at all, or one with ruined pages behind an intact header
    store.path.write_bytes(damage or content[:4096] + b"\xff" * (len(content) - 4096))
    size = store.path.stat().st_size
    with pytest.raises(StudyError, match=r"store\.sqlite.*damaged.*\.recover"):
        SegmentStore(store.path).get(SCOPE, [f"text {i}" for i in range(500)])
    assert store.path.stat().st_size == size


def test_another_program_s_database_is_left_alone(tmp_path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE mine (x)")
    with pytest.raises(
        StudyError, match="translation store is of another version, or another program's; name another file"
    ):
        SegmentStore(path)
    assert sqlite3.connect(path).execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]


def test_a_path_that_cannot_be_opened(tmp_path):
    with pytest.raises(StudyError, match="cannot"):
        SegmentStore(tmp_path)


def test_many_writers_at_once_lose_nothing(store):
    def write(number):
        mine = SegmentStore(store.path)
        for i in range(20):
            mine.put(SCOPE, {f"{number}-{i}": Translation("x")})

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.get(SCOPE, [f"{n}-{i}" for n in range(6) for i in range(20)])) == 120


OPENED_AT_ONCE = """
import multiprocessing, sys, time
from pathlib import Path
from rmtransfer.translation.store import SegmentStore

def open_at(path, moment):
    while time.time() < moment:
        pass
    SegmentStore(path).close()

with multiprocessing.get_context("fork").Pool(8) as pool:
    for trial in range(30):
        path = Path(sys.argv[1]) / str(trial) / "store.sqlite"
        pool.starmap(open_at, [(path, time.time() + 0.01)] * 8, chunksize=1)
"""


def test_the_first_jobs_of_a_study_open_a_new_store_at_once(tmp_path):
    """Without turns, one trial in four ends in "database is locked"."""
    opened = subprocess.run(
        [sys.executable, "-c", OPENED_AT_ONCE, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "workflow")},
        check=False,
    )
    assert opened.returncode == 0, opened.stderr


KILLED = """
import sys
from rmtransfer.translation.store import *
from pathlib import Path
store = SegmentStore(Path(sys.argv[1]))
with store.asking("deepl"):
    for i in range(100000):
        store.put(Scope("deepl", {}, "en", "es"), {str(i): Translation("x")})
        print(i, flush=True)
"""


def test_kill_9_loses_nothing_that_was_committed_and_frees_the_lock(store, capsys):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(store.path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "workflow")},
    )
    for line in process.stdout:
        if int(line) >= 50:
            break
    order = []

    def wait():
        with store.asking("deepl"):
            order.append("asked")

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.3)
    order.append("killed")
    process.send_signal(signal.SIGKILL)
    rest = [int(line) for line in process.stdout.read().split()]
    waiting.join(10)
    assert order == ["killed", "asked"]
    assert "another job or run is asking deepl" in capsys.readouterr().out
    committed = max([50, *rest])
    again = SegmentStore(store.path)
    assert len(again.get(Scope("deepl", {}, "en", "es"), [str(i) for i in range(committed + 1)])) == committed + 1


# A store as commit a683cd5 wrote it: DeepL with a glossary, two texts and a whole one; a pinned model of the hub.
WRITTEN_BEFORE = f"""
PRAGMA user_version = 1;
CREATE TABLE scope (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,
    engine TEXT NOT NULL, settings TEXT NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL
);
INSERT INTO scope VALUES (1, '["deepl", {{"formality": "more", "glossary": "g1"}}, "en", "es"]', 'deepl', '{{}}', 'en', 'es');
INSERT INTO scope VALUES (
    2, '["deepl checked", {{"checked": 2, "formality": "more", "glossary": "g1"}}, "en", "es"]', 'deepl checked', '', '', ''
);
INSERT INTO scope VALUES (
    3, '["seq2seq", {{"beams": 4, "model": "facebook/x@{"a" * 40}"}}, "en", "es"]', 'seq2seq', '{{}}', 'en', 'es'
);
INSERT INTO scope VALUES (
    4, '["seq2seq checked", {{"beams": 5, "checked": 2, "model": "facebook/x@{"a" * 40}", "no_repeat": 3}}, "en", "es"]',
    'seq2seq checked', '{{}}', 'en', 'es'
);
CREATE TABLE segment (
    scope INTEGER NOT NULL REFERENCES scope(id), digest BLOB NOT NULL,
    text TEXT NOT NULL, translation TEXT NOT NULL, flaws TEXT NOT NULL, retried_for TEXT NOT NULL,
    billed INTEGER NOT NULL
);
INSERT INTO segment VALUES (1, X'C88D4DF74262143A08E9D190E3BD67F1', 'one', 'uno', '', '', 3);
INSERT INTO segment VALUES (
    1, X'7AA33806516272501E318A09EC1D1F88', 'two\n', 'dos', 'wrong language\nlength ratio', 'length ratio', 5
);
INSERT INTO segment VALUES (2, X'C88D4DF74262143A08E9D190E3BD67F1', 'one', 'uno', '', '', 3);
INSERT INTO segment VALUES (3, X'C88D4DF74262143A08E9D190E3BD67F1', 'one', 'uno', '', '', 0);
INSERT INTO segment VALUES (4, X'C88D4DF74262143A08E9D190E3BD67F1', 'one', 'uno', '', '', 0);
CREATE UNIQUE INDEX segment_key ON segment (scope, digest);
"""


def test_what_was_paid_for_before_is_not_asked_for_again(tmp_path):
    path = tmp_path / "store.sqlite"
    with sqlite3.connect(path) as before:
        before.executescript(WRITTEN_BEFORE)
    before.close()
    store = SegmentStore(path)
    deepl = build_engine(
        {"engine": "deepl", "options": {"formality": "more", "glossaries": {"es": "g1"}}}, "en", "es", MACHINE
    )
    assert store.get(deepl.scope, ["one", "two\n", "three"]) == {
        "one": Translation("uno", billed=3),
        "two\n": Translation("dos", ("wrong language", "length ratio"), ("length ratio",), 5),
    }
    assert stored(["one", "two\n"], deepl, store) == {"one": Translation("uno", billed=3)}
    assert store.billed("deepl") == 8
    model = {"model": "facebook/x", "revision": "a" * 40}
    seq2seq = build_engine({"engine": "seq2seq", "options": model}, "en", "es", MACHINE)
    assert store.get(seq2seq.scope, ["one"]) == stored(["one"], seq2seq.safer(), store) == {"one": Translation("uno")}
    store.put(deepl.scope, {"three": Translation("tres")})
    assert set(store.get(deepl.scope, ["one", "three"])) == {"one", "three"}
