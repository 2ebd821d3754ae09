"""What the workflow needs to know of the machine, and tells its jobs, before anything heavy is imported."""

import os
from pathlib import Path

_ON_A_CLUSTER = 8


def has_gpu() -> bool:
    """Whether the driver shows an NVIDIA GPU; asking torch would take a second of every parse."""
    return any(Path("/dev").glob("nvidia[0-9]*"))  # a container may be given any of the machine's


def threads_per_job(wanted: int | str, cores: int | None, local: bool) -> int:
    """Cores of one heavy job.

    ``auto``: two heavy jobs at a time, so that imports and loads of one overlap the arithmetic of the other and memory stays
    bounded however many cores there are; with a GPU, one at a time. Where jobs are sent elsewhere, neither the cores nor the
    GPU of the machine that sends them are theirs, and the number must be the same there as here.

    Args:
        wanted: ``resources.threads_per_job``.
        cores: what Snakemake was given; None for a report.
        local: whether jobs run on this machine.
    """
    if wanted != "auto":
        return int(wanted)
    if not local:
        return _ON_A_CLUSTER
    return max(1, (cores or 1) if has_gpu() else (cores or 1) // 2)


def prepare_environment(library: Path) -> None:
    """Set the environment that jobs inherit; what the user has set stays.

    The library is imported from the repository, not installed. glibc returns freed memory to the system by default and
    faults it in again for every activation, which costs a run on a CPU 10 to 25 % of its time.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(library), os.environ.get("PYTHONPATH")]))
    for name, value in {
        "GLIBC_TUNABLES": (
            "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=8589934592"
        ),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
    }.items():
        os.environ.setdefault(name, value)
