"""Devices are taken by real processes; the driver is a folder of files."""

import os
import signal
import subprocess
import sys
import time

import pytest

from conftest import ROOT
from rmtransfer.kit import devices
from rmtransfer.kit.errors import StudyError

TAKE = """
import os, sys
from pathlib import Path
from rmtransfer.kit import devices
devices._DRIVER, devices._LOCKS, devices._POLL_SECONDS = Path(sys.argv[1]), Path(sys.argv[2]), 0.05
taken = devices.take_devices(int(sys.argv[3]))
assert "torch" not in sys.modules
print(*taken, os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("CUDA_DEVICE_ORDER"), flush=True)
if len(sys.argv) > 4:
    import subprocess
    child = subprocess.Popen(["sleep", "60"], pass_fds=devices.held, stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
sys.stdin.read()
"""
UUIDS = "GPU-6b5ab4f2-0000,MIG-GPU-6b5ab4f2/1/0"


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine with two GPUs, and nothing said about them."""
    for variable in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "SLURM_JOB_ID"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    monkeypatch.setattr(devices, "_DRIVER", tmp_path / "dev")
    monkeypatch.setattr(devices, "_LOCKS", tmp_path / "locks")
    monkeypatch.setattr(devices, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(devices, "held", [])
    yield
    for file in devices.held:
        os.close(file)


@pytest.fixture
def job(tmp_path):
    """Start a process that takes devices and holds them; what it printed is its ``shown``."""
    started = []

    def start(count: int = 1, *more: str, wait: bool = True, **environment: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", TAKE, tmp_path / "dev", tmp_path / "locks", str(count), *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "workflow"), **environment},
        )
        started.append(process)
        if wait:
            process.shown = next(line for line in process.stdout if " on GPU " not in line).split()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_two_jobs_get_two_devices_and_a_third_waits_for_one_that_is_killed(job):
    first, second = job(), job()
    assert [first.shown, second.shown] == [["0", "0", "PCI_BUS_ID"], ["1", "1", "PCI_BUS_ID"]]
    third = job(wait=False)
    assert "waiting for 1 of 2 GPUs" in third.stdout.readline()
    time.sleep(0.2)
    os.kill(second.pid, signal.SIGKILL)
    assert "on GPU 1" in third.stdout.readline()  # said once that it waits
    assert third.stdout.readline().split()[0] == "1"


def test_a_job_of_two_devices_takes_both_or_none(job):
    single = job()
    double = job(2, wait=False)
    assert "waiting for 2 of 2" in double.stdout.readline()
    assert job().shown[0] == "1"  # is not held while the other is waited for
    single.kill()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("1,0", ["1", "0"]),
        ("3", ["3"]),
        (" 0 , 1 ", ["0", "1"]),
        (UUIDS, UUIDS.split(",")),
        ("0,-1,1", ["0"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        (None, ["0", "1"]),
    ],
)
def test_visible_is_what_cuda_would_see(monkeypatch, given, expected):
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert devices.visible_devices() == expected


def test_a_machine_without_gpus_shows_none_whatever_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "_DRIVER", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert devices.visible_devices() == []
    with pytest.raises(
        StudyError, match=r"asks for 2 GPUs and \S+ shows none \(there is no .*/nvidia0\); send it .*device: cpu"
    ):
        devices.take_devices(2)
    assert devices.take_devices(0) == []
    assert not (tmp_path / "locks").exists()


def test_only_devices_of_the_users_list_are_taken_and_their_order_stays_the_users(job):
    shown = [job(CUDA_VISIBLE_DEVICES=UUIDS).shown for _ in range(2)]
    assert shown == [[name, name, "None"] for name in UUIDS.split(",")]
    assert job(2, CUDA_VISIBLE_DEVICES="5,4").shown == ["5", "4", "5,4", "None"]


def test_a_job_that_asks_for_a_gpu_and_sees_none_stops(monkeypatch):
    """What SLURM hides from a job, and a node without a driver, would else be found by torch, which takes the CPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(StudyError, match=r"asks for 1 GPU and \S+ shows none \(CUDA_VISIBLE_DEVICES is ''\)"):
        devices.take_devices(1)


def test_who_asks_for_none_takes_none(job):
    assert job(0).shown == ["None", "None"]


def test_slurm_gives_its_jobs_their_devices(job):
    """Numbers that SLURM gives may be the same in two of its jobs; of an allocation of several, each job takes one."""
    given = {"CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_ID": "7"}
    assert [job(**given).shown, job(**given).shown] == [["0", "0", "None"]] * 2
    given["CUDA_VISIBLE_DEVICES"] = "0,1"
    assert [job(**given).shown[0], job(**given).shown[0]] == ["0", "1"]
    assert job(**{**given, "SLURM_JOB_ID": "8"}).shown[0] == "0"
    # Where it gives none, all of its jobs see the machine's.
    assert [job(SLURM_JOB_ID=number).shown[0] for number in ("7", "8")] == ["0", "1"]


def test_more_devices_than_there_are_is_an_error():
    with pytest.raises(StudyError, match=r"training\.processes: 3 GPUs for one reward model, and 2 are visible"):
        devices.take_devices(3)


def test_a_child_that_is_handed_the_locks_holds_the_devices_on(job):
    parent = job(2, "child")
    child = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    try:
        assert devices._lock_free(["0", "1"], 1, "") == []
    finally:
        os.kill(child, signal.SIGKILL)
    for _ in range(100):
        if devices._lock_free(["0", "1"], 2, ""):
            return
        time.sleep(0.02)
    pytest.fail("the devices of a killed child are not free")


def test_every_user_of_the_machine_may_lock_and_a_file_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    before = os.umask(0o077)
    try:
        assert devices.take_devices(1) == ["0"]
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    locks = tmp_path / "locks"
    assert locks.stat().st_mode & 0o7777 == 0o1777
    assert (locks / "0").stat().st_mode & 0o666 == 0o666

    # Another user's file: it may be read and neither written nor touched, as for everybody but its owner.
    opened, real = [], os.open

    def foreign(path, flags, *mode):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise PermissionError(13, "Permission denied", str(path))
        opened.append(path)
        return real(path, flags, *mode)

    def untouchable(*_):
        raise PermissionError(1, "Operation not permitted")

    (locks / "1").touch()
    monkeypatch.setattr(devices.os, "open", foreign)
    monkeypatch.setattr(devices.os, "utime", untouchable)
    assert devices._lock_free(["1"], 1, "") == ["1"]
    assert opened == [locks / "1"]
    with pytest.raises(StudyError, match=r"locks/2: cannot be opened \(Permission denied\)"):
        devices._lock_free(["2"], 1, "")
