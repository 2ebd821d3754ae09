"""Whether a SLURM cluster can run what a study asks of it: asked once, where jobs are submitted, before the first one is.

SLURM refuses some of what cannot be at submission, job by job; a job that wants more time than its partition gives is taken in and
waits for ever. Where nothing tells how jobs ended, Snakemake waits for ever.
"""

import getpass
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rmtransfer.kit.errors import StudyError

_PROFILE = "workflow/profiles/slurm/config.yaml"
_PATIENCE_SECONDS = 30
_DURATION = re.compile(r"(?:(?P<days>\d+)-)?(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+)")


class Request(NamedTuple):
    """What the jobs of a rule ask for.

    Attributes:
        partition: one or several, with commas; empty for the cluster's default.
        minutes, megabytes: None where nothing is asked, or where it is not known yet.
    """

    rule: str
    partition: str
    minutes: int | None
    megabytes: int | None
    cpus: int

    @classmethod
    def of(cls, rule: str, resources: Mapping[str, Any], threads: int) -> "Request":
        """From the resources of a job."""

        def number(name: str) -> int | None:
            value = resources.get(name)
            return value if isinstance(value, int) else None

        partition = str(resources.get("slurm_partition") or "")
        return cls(rule, partition, number("runtime"), number("mem_mb"), threads)


class Node(NamedTuple):
    """Nodes of a partition that are alike; ``minutes`` is what the partition gives a job, infinity for no limit."""

    partition: str
    default: bool
    minutes: float
    cpus: int
    megabytes: int


def check_status_command(command: str, seconds: int) -> None:
    """Whether the cluster tells how jobs ended.

    Args:
        command: ``sacct`` or ``squeue``, as the profile says.
        seconds: between the plugin's first looks at its jobs. It turns from ``squeue`` to ``sacct`` where SLURM forgets finished
            jobs sooner than after three of these.

    Raises:
        StudyError: it would be asked of an accounting that there is not.
    """
    found = re.search(r"^MinJobAge\s*=\s*(\d+)", _ask("scontrol", "show", "config"), re.M)
    kept = int(found[1]) if found else 0
    if command == "squeue" and kept >= 3 * seconds:
        return
    try:
        _ask("sacct", "--noheader", "--allocations", "--starttime=now")
    except StudyError as problem:
        remedy = "slurm-status-command: squeue" if kept >= 3 else "slurm-status-command: sacct and an accounting"
        if kept >= 3 and kept < 3 * seconds:
            remedy += f", slurm-init-seconds-before-status-checks: {kept // 3}"
        raise StudyError(f"nothing would tell how jobs ended ({problem}); in {_PROFILE} set {remedy}") from None


def check_queue(folder: Path) -> None:
    """Whether jobs of an earlier run are still there, which a Snakemake that was killed leaves behind: they would write what this
    run makes again.

    Args:
        folder: where Snakemake runs.

    Raises:
        StudyError: there are some.
    """
    shown = _ask("squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%A|%Z")
    found = sorted(
        {job for job, _, where in (line.partition("|") for line in shown.splitlines()) if Path(where) == folder}
    )
    if found:
        raise StudyError(
            f"{len(found)} jobs of an earlier run in {folder} are still in SLURM's queue; wait for them, or end them: "
            f"scancel {' '.join(found)}"
        )


def check_requests(requests: Iterable[Request]) -> None:
    """Whether the cluster has the partitions that jobs name, with minutes, memory and CPUs enough.

    Raises:
        StudyError: it has not; all that is missing, and what to do.
    """
    nodes = list(_nodes(_ask("sinfo", "--noheader", "--exact", "--format=%P|%l|%c|%m")))
    problems = dict.fromkeys(filter(None, (_problem(request, nodes) for request in requests)))
    if problems:
        raise StudyError("\n".join(problems))


def _nodes(shown: str) -> Iterable[Node]:
    for line in shown.splitlines():
        partition, limit, cpus, megabytes = line.split("|")
        yield Node(
            partition.rstrip("*"),
            partition.endswith("*"),
            _minutes(limit),
            int(cpus.rstrip("+")),
            int(megabytes.rstrip("+")),
        )


def _minutes(limit: str) -> float:
    """SLURM's days-hours:minutes:seconds; infinity for whatever else it says of a partition without a limit."""
    found = _DURATION.fullmatch(limit)
    if found is None:
        return float("inf")
    days, hours, minutes, seconds = (int(found[unit] or 0) for unit in ("days", "hours", "minutes", "seconds"))
    return days * 1440 + hours * 60 + minutes + seconds / 60


def _problem(request: Request, nodes: list[Node]) -> str | None:
    rule, names = request.rule, request.partition.split(",") if request.partition else []
    there = {node.partition for node in nodes}
    if missing := [name for name in names if name not in there]:
        return f"this cluster has no partition {missing[0]!r}; name one of {', '.join(sorted(there))} as slurm_partition in {_PROFILE}"
    mine = [node for node in nodes if (node.partition in names if names else node.default)]
    if not mine:
        return f"this cluster has no default partition; name one of {', '.join(sorted(there))} as slurm_partition in {_PROFILE}"
    for asked, most, unit, key in (
        (request.minutes, max(node.minutes for node in mine), "minutes", f"--set-resources {rule}:runtime="),
        (request.megabytes, max(node.megabytes for node in mine), "MB of memory", f"--set-resources {rule}:mem_mb="),
        (request.cpus, max(node.cpus for node in mine), "CPUs", "resources.threads_per_job: "),
    ):
        if asked is not None and asked > most:
            return (
                f"{rule} asks for {asked:,} {unit}, and partition {mine[0].partition} gives {most:,.0f}; name another slurm_partition in "
                f"{_PROFILE}, or {key}{most:.0f}"
            )
    return None


def _ask(*command: str) -> str:
    """What one of SLURM's commands says.

    Raises:
        StudyError: it is not there, fails or does not answer.
    """
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_PATIENCE_SECONDS).stdout
    except FileNotFoundError:
        raise StudyError(f"{command[0]} is not found; run Snakemake where jobs are submitted to SLURM") from None
    except subprocess.TimeoutExpired:
        raise StudyError(f"{command[0]} has not answered in {_PATIENCE_SECONDS} s") from None
    except subprocess.CalledProcessError as problem:
        raise StudyError(f"{command[0]}: {problem.stderr.strip()}") from None
