"""Real processes run a study, are killed, and meet each other."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from rmtransfer.kit import running
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.running import Owner, describe, only_run

RUN = """
import subprocess, sys
from pathlib import Path
from rmtransfer.kit.running import only_run
with only_run(Path("results/tiny"), Path("locks"), print):
    for file in ("0.input.lock", "0.output.lock"):
        (Path("locks") / file).write_text("resources/a\\nresults/tiny/a\\n")
    if sys.argv[1:]:
        subprocess.Popen([sys.executable, "-c", sys.argv[1]])
    else:
        print("running", flush=True)
    sys.stdin.read()
"""
JOB = """
import time
from pathlib import Path
from rmtransfer.kit.running import join_run
join_run(Path("results/tiny"))
print("running", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "_PATIENCE_SECONDS", 0.3)


@pytest.fixture
def start():
    """Start a process that runs the study until its standard input ends."""
    started = []

    def run(*arguments: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT / "workflow")},
        )
        started.append(process)
        assert process.stdout.readline() == b"running\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def told() -> list[str]:
    """What a run that goes ahead says of what it found."""
    said = []
    with only_run(Path("results/tiny"), Path("locks"), said.append):
        pass
    return said


def without_locks(monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("locks", [True, False])
def test_a_run_is_refused_while_another_is_at_work_and_names_it(start, monkeypatch, locks):
    first = start()
    if not locks:
        without_locks(monkeypatch)
    with pytest.raises(StudyError, match=rf"another run is at work on it \(process {first.pid} on .+, since 2.+\)"):
        told()
    assert len(list(Path("locks").iterdir())) == 2
    assert f"another run is at work on it (process {first.pid}" in describe(Path("results/tiny"), Path("locks"))
    first.stdin.close()
    first.wait()
    for lock in Path("locks").iterdir():
        lock.unlink()  # as Snakemake does
    assert describe(Path("results/tiny"), Path("locks")) is None
    assert len(told()) == (0 if locks else 1)


@pytest.mark.parametrize("locks", [True, False])
def test_the_lock_of_a_killed_run_is_named_and_removed(start, monkeypatch, locks):
    first = start()
    first.kill()
    if locks:
        first.wait()  # else it is there still, and dead
    else:
        os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
        without_locks(monkeypatch)
    other = Path("locks/1.output.lock")
    other.write_text("results/tiny2/a\n")
    assert f"a run was killed (process {first.pid}" in describe(Path("results/tiny"), Path("locks"))
    *before, said = told()
    assert said.startswith(f"results/tiny: the lock of a run that was killed (process {first.pid} on ")
    assert [line for line in before if "no file can be locked" in line] == ([] if locks else before)
    assert list(Path("locks").iterdir()) == [other]  # a study of another name
    assert told() == before


def test_a_run_on_another_machine_is_left_to_the_user(start):
    start().kill()
    record = Path("results/tiny/.work/run")
    elsewhere = Owner.read(record.read_text())._replace(machine="other", host="node7")
    record.write_text(elsewhere.written())
    with pytest.raises(
        StudyError, match=r"on another machine .+ on node7, .+snakemake --unlock, then the same command"
    ):
        told()
    for lock in Path("locks").iterdir():
        lock.unlink()
    assert told() == []


def test_a_number_that_another_process_has_by_now_is_no_run(start):
    owner = Owner.me()
    assert owner.lives()
    assert not owner._replace(born="1").lives()
    assert owner._replace(machine="before it was started again").lives() is False


def test_jobs_end_with_their_run_and_the_next_one_waits_until_they_have(start):
    run = start(JOB)
    run.kill()
    run.wait()
    (named,) = [line for line in told() if "killed" in line]
    assert "the lock of a run" in named
    with Path("results/tiny/.work/jobs").open() as jobs:
        fcntl.flock(jobs, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody is left
    assert b"the run that started this job is gone" in run.stdout.readline()


def test_a_job_of_a_run_that_is_gone_does_not_begin(monkeypatch, tmp_path):
    gone = Owner.me()._replace(born="1")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow"), "RMTRANSFER_RUN": gone.written()}
    (tmp_path / "results/tiny/.work").mkdir(parents=True)
    done = subprocess.run([sys.executable, "-c", JOB], env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "the run that started this job is gone" in done.stdout
    assert "running" not in done.stdout


def test_what_is_not_to_be_had_is_said_before_anything_starts(monkeypatch, tmp_path):
    def link(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    (said,) = told()
    assert "no hard links there" in said
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)

    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StudyError, match="mounted read-only"):
        told()


def test_a_process_that_reads_the_snakefile_twice_runs_once():
    with only_run(Path("results/tiny"), Path("locks"), print):
        assert told() == []
        assert Owner.read(Path("results/tiny/.work/run").read_text()) is not None
