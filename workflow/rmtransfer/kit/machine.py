"""What the workflow needs to know of the machine, and tells its jobs, before anything heavy is imported."""

import contextlib
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from rmtransfer.kit.cores import CORES_OF_THE_RUN
from rmtransfer.kit.devices import visible_devices
from rmtransfer.kit.errors import StudyError

_ON_A_CLUSTER = 8
# What a container may have, of control groups of version 2 and of version 1.
_LIMITS = tuple(map(Path, ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")))


def gpus_for_jobs(device: str, processes: int, local: bool, limit: int | None) -> int:
    """How many GPUs the jobs of a run on this machine may take together; 0 where none limits how many jobs run.

    Args:
        device: ``resources.device``; ``cpu`` takes none.
        processes: ``training.processes``.
        local: whether jobs run on this machine.
        limit: what ``--resources gpu=`` allows; None without it.

    Raises:
        StudyError: they are fewer than one training job wants.
    """
    found = len(visible_devices()) if local and device != "cpu" else 0
    if limit is not None:
        found = min(found, limit)
    if 0 < found < processes:
        raise StudyError(
            f"training.processes: {processes} GPUs for one reward model, and this machine shows {found}; lower it to {found}"
        )
    return found


def computes_on_gpu(device: str, local: bool, gpus: int) -> bool:
    """Whether jobs that run a model ask for a GPU.

    With ``auto``, on this machine where it has some. Where jobs are sent elsewhere they ask for one: whoever has none there
    sets ``cpu``.

    Args:
        device: ``resources.device``.
        local: whether jobs run on this machine.
        gpus: how many they may take together.
    """
    return device == "cuda" or (device == "auto" and (gpus > 0 or not local))


def threads_per_job(wanted: int | str, cores: int | None, local: bool, gpus: int) -> int:
    """Cores of one heavy job.

    ``auto``: an even share for each GPU; without any two heavy jobs at a time, so that imports and loads of one overlap the
    arithmetic of the other and memory stays bounded however many cores there are (what one of them leaves idle, the other
    takes: ``kit/cores.py``). Where jobs are sent elsewhere, neither the cores nor the GPUs of the machine that sends them are
    theirs, and the number must be the same there as here.

    Args:
        wanted: ``resources.threads_per_job``.
        cores: what Snakemake was given; None for a report.
        local: whether jobs run on this machine.
        gpus: how many they may take together.
    """
    if wanted != "auto":
        return int(wanted)
    if not local:
        return _ON_A_CLUSTER
    return max(1, (cores or 1) // (gpus or 2))


class Memory(NamedTuple):
    """Memory of a job.

    Attributes:
        name: what it is of, for messages.
    """

    bytes: float
    name: str


def memory_here(gpu: bool) -> Memory | None:
    """The memory of the smallest visible GPU, or of this machine or container; None where nothing says it."""
    if not gpu:
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
        for path in _LIMITS:
            with contextlib.suppress(OSError, ValueError):  # no such file, or no limit
                found.append(int(path.read_text(encoding="utf-8")))
        return Memory(min(found), "this machine")
    names = visible_devices()
    listed = ["--id=" + ",".join(names)] if names and "CUDA_VISIBLE_DEVICES" in os.environ else []
    try:
        shown = subprocess.run(
            ["nvidia-smi", "--query-gpu=memory.total,name", "--format=csv,noheader,nounits", *listed],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout
        size, name = min((int(line.split(",")[0]), line.split(",")[1].strip()) for line in shown.splitlines())
    except (
        OSError,
        subprocess.SubprocessError,
        ValueError,
        IndexError,
    ):  # no driver, or a part of a GPU, which has no size
        return None
    return Memory(size * 2**20, name)


def stay_offline() -> None:
    """Have the hub's libraries look for nothing on the network: where there is none they would try, for minutes, first.

    transformers and datasets follow the client's own variable. What the user has set stays.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def prepare_environment(library: Path, cores: int | None) -> None:
    """Set the environment that jobs inherit; what the user has set stays.

    The library is imported from the repository, not installed. glibc returns freed memory to the system by default and
    faults it in again for every activation, which costs a run on a CPU 10 to 25 % of its time.

    Args:
        cores: what jobs on this machine share; None where they are sent elsewhere.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(library), os.environ.get("PYTHONPATH")]))
    os.environ.pop(CORES_OF_THE_RUN, None)
    if cores:
        os.environ[CORES_OF_THE_RUN] = str(cores)
    for name, value in {
        "GLIBC_TUNABLES": (
            "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=8589934592"
        ),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
    }.items():
        os.environ.setdefault(name, value)
