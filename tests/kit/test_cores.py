"""Who computes is counted by real processes, and by those that live."""

import os
import signal
import subprocess
import sys
import time

import pytest

from conftest import ROOT
from rmtransfer.kit.cores import CORES_OF_THE_RUN, Cores

COMPUTE = """
import sys
from pathlib import Path
from rmtransfer.kit.cores import Cores
with Cores(Path(sys.argv[1]), own=1, total=2):
    print("computing", flush=True)
    sys.stdin.read()
print("loading", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def job(tmp_path):
    """Start a process that computes until its standard input ends."""
    started = []

    def start() -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", COMPUTE, tmp_path / "computing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT / "workflow")},
        )
        started.append(process)
        assert process.stdout.readline() == b"computing\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_job_alone_gets_all_cores_and_several_an_even_share(tmp_path, job):
    cores = {total: Cores(tmp_path / "computing", own=2, total=total) for total in (1, 4, 16)}
    assert [c.workers() for c in cores.values()] == [1, 2, 8]  # before anybody said anything
    with cores[16]:
        assert [cores[16].workers(), cores[4].workers()] == [8, 1]
        job()
        assert cores[16].workers() == 4
        job()
        assert cores[16].workers() == 2  # 16 cores, 3 jobs: 5 each
        assert cores[4].workers() == 1
    assert cores[16].workers() == 2  # asks as one more
    assert len(list((tmp_path / "computing").iterdir())) == 2


@pytest.mark.parametrize("end", ["killed", "done"])
def test_a_job_that_ended_or_was_killed_gives_its_cores_back(tmp_path, job, end):
    other = job()
    with Cores(tmp_path / "computing", own=1, total=2) as cores:
        assert cores.workers() == 1
        if end == "killed":
            os.kill(other.pid, signal.SIGKILL)
            other.wait()
        else:
            other.stdin.close()
            assert other.stdout.readline() == b"loading\n"
        assert cores.workers() == 2
        assert len(list((tmp_path / "computing").iterdir())) == 1  # the dead one's file is gone


def test_asking_takes_no_time(tmp_path, job):
    job()
    with Cores(tmp_path / "computing", own=1, total=2) as cores:
        began = time.perf_counter()
        for _ in range(100):
            cores.workers()
        assert (time.perf_counter() - began) / 100 < 1e-3


def test_where_files_cannot_be_locked_a_job_has_its_own_cores(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(37, "no locks available")

    monkeypatch.setattr("rmtransfer.kit.cores.fcntl.flock", refuse)
    with Cores(tmp_path / "computing", own=1, total=2) as cores:
        assert cores.workers() == 1


def test_the_cores_of_the_run_are_those_that_the_workflow_says(tmp_path, monkeypatch):
    monkeypatch.setenv(CORES_OF_THE_RUN, "6")
    assert Cores.of_the_run(tmp_path, own=2).workers() == 3
    monkeypatch.delenv(CORES_OF_THE_RUN)
    assert Cores.of_the_run(tmp_path, own=2).workers() == 1
