"""The GPUs of this machine: how many there are, and one for each job that computes on one.

Snakemake counts GPUs and assigns none. A job holds a lock on one file per device, for as long as its process lives: however
that ends, the kernel lets go of it. The files are the machine's, so that other studies and other users count too.
"""

import contextlib
import fcntl
import os
import re
import socket
import time
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.progress import report

_DRIVER = Path("/dev")
_LOCKS = Path("/tmp/rmtransfer-devices")  # not the temporary folder of one user or of one SLURM job
_POLL_SECONDS = 2.0
_GIVEN = "CUDA_VISIBLE_DEVICES"
_DEVICE = re.compile(r"\d+|GPU-.+|MIG-.+")  # CUDA reads its list up to the first entry that is no device

# Open locks. A child that must hold its parent's devices is started with subprocess's pass_fds=held.
held: list[int] = []


def visible_devices() -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` names, numbers, UUIDs or MIG instances; without it, numbers of the driver's GPUs.

    Asking torch instead would take a second of every parse.
    """
    shown = sorted(_DRIVER.glob("nvidia[0-9]*"))  # a container may be given any of the machine's
    if _GIVEN not in os.environ or not shown:
        return [str(number) for number in range(len(shown))]
    return list(takewhile(_DEVICE.fullmatch, map(str.strip, os.environ[_GIVEN].split(","))))


def check_devices(count: int) -> list[str]:
    """The visible devices, for a job that asks for ``count`` of them.

    Raises:
        StudyError: there are not so many.
    """
    names = visible_devices()
    if count and not names:
        driver = any(_DRIVER.glob("nvidia[0-9]*"))
        seen = f"{_GIVEN} is {os.environ.get(_GIVEN)!r}" if driver else f"there is no {_DRIVER}/nvidia0"
        raise StudyError(
            f"a job asks for {count} GPU{'s' if count > 1 else ''} and {socket.gethostname()} shows none ({seen}); send it to a "
            "machine that has them, on a cluster by the profile's partition or gres, or set resources.device: cpu"
        )
    if len(names) < count:
        raise StudyError(
            f"training.processes: {count} GPUs for one reward model, and {len(names)} are visible here; lower it to {len(names)}"
        )
    return names


def take_devices(count: int) -> list[str]:
    """Wait for ``count`` free GPUs, keep them until this process ends, and let CUDA see no others.

    Called before torch is imported. Where SLURM has given this job its own, there is nothing to take.

    Returns:
        their names for ``CUDA_VISIBLE_DEVICES``.

    Raises:
        StudyError: there are not so many.
    """
    if not count:
        return []
    names = check_devices(count)
    # SLURM may number the devices that it gives a job from 0, so that names mean something within that job only.
    allocation = os.environ.get("SLURM_JOB_ID") if _GIVEN in os.environ else None
    if allocation and len(names) == count:
        return names
    prefix = f"slurm-{allocation}." if allocation else ""
    said = False
    while len(taken := _lock_free(names, count, prefix)) < count:
        if not said:
            report(f"waiting for {count} of {len(names)} GPUs: other jobs have them (locks in {_LOCKS})")
            said = True
        time.sleep(_POLL_SECONDS)
    if _GIVEN not in os.environ:  # the driver's numbers, where CUDA would count from the fastest GPU
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    os.environ[_GIVEN] = ",".join(taken)
    report(f"on GPU {', '.join(taken)}")
    return taken


def _lock_free(names: Sequence[str], count: int, prefix: str) -> list[str]:
    """Lock ``count`` free devices; none where there are fewer, so that two jobs never wait for each other's."""
    taken: dict[str, int] = {}
    for name in names:
        file = _open(_LOCKS / (prefix + re.sub(r"[^\w-]", "_", name)))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            continue
        taken[name] = file
        if len(taken) == count:
            held.extend(taken.values())
            return list(taken)
    for file in taken.values():
        os.close(file)
    return []


def _open(path: Path) -> int:
    """A lock file that every user of the machine may open, whoever made it: to lock it, reading is enough."""
    before = os.umask(0)
    try:
        path.parent.mkdir(mode=0o1777, exist_ok=True)
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            file = os.open(path, os.O_RDONLY | os.O_CREAT, 0o666)
    except PermissionError as problem:
        raise StudyError(
            f"{path}: cannot be opened ({problem.strerror}); have its owner remove it, or chmod a+r it"
        ) from None
    finally:
        os.umask(before)
    with contextlib.suppress(PermissionError):
        os.utime(file)  # what cleans up temporary folders goes by age
    return file
