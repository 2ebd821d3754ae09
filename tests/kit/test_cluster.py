"""What a cluster says of itself, by commands that stand in for SLURM's, and what is refused for it."""

from pathlib import Path

import pytest

from rmtransfer.kit.cluster import Request, check_queue, check_requests, check_status_command
from rmtransfer.kit.errors import StudyError

SINFO = "short*|1:00:00|16|64000\ngpu|2-00:00:00|64|500000\ngpu|2-00:00:00|32|1000000\nlong|infinite|16|64000\n"


@pytest.fixture
def says(tmp_path, monkeypatch):
    """Have a command of SLURM's print something and end with a status."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def says(command: str, text: str, status: int = 0) -> None:
        stream = 2 if status else 1
        (tmp_path / command).write_text(f"#!/bin/sh\ncat >&{stream} <<'END'\n{text.strip()}\nEND\nexit {status}\n")
        (tmp_path / command).chmod(0o755)

    return says


def asked(partition: str = "", minutes: int | None = 30, megabytes: int | None = 1000, cpus: int = 1) -> Request:
    return Request("train", partition, minutes, megabytes, cpus)


@pytest.mark.parametrize(
    "request_",
    [
        asked(),
        asked(minutes=None, megabytes=None),
        asked("gpu", 2880, 1_000_000, 64),
        asked("long", 10**6),
        asked("short,long", 10**6),
    ],
)
def test_what_a_partition_gives_may_be_asked_for(says, request_):
    says("sinfo", SINFO)
    check_requests([request_])


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (
            asked("gpuu"),
            "no partition 'gpuu'; name one of gpu, long, short as slurm_partition in workflow/profiles/slurm",
        ),
        (asked(minutes=61), "train asks for 61 minutes, and partition short gives 60;"),
        (
            asked("gpu", 2881),
            "gives 2,880; name another slurm_partition in workflow/profiles/slurm/config.yaml, or --set-resources",
        ),
        (asked("gpu", megabytes=1_000_001), "or --set-resources train:mem_mb=1000000"),
        (asked(cpus=17), "or resources.threads_per_job: 16"),
    ],
)
def test_what_it_does_not_give_is_refused_with_the_remedy(says, request_, words):
    says("sinfo", SINFO)
    with pytest.raises(StudyError) as said:
        check_requests([asked(), request_, request_])
    assert words in str(said.value)
    assert len(str(said.value).splitlines()) == 1


def test_a_cluster_without_a_default_partition(says):
    says("sinfo", SINFO.replace("*", ""))
    check_requests([asked("gpu")])
    with pytest.raises(StudyError, match="no default partition; name one of gpu, long, short"):
        check_requests([asked()])


def test_a_request_is_what_a_jobs_resources_say_as_far_as_it_is_known():
    resources = {"runtime": 5, "mem_mb": "<TBD>", "slurm_partition": "gpu"}
    assert Request.of("score", resources, 4) == Request("score", "gpu", 5, None, 4)
    assert Request.of("score", {}, 1) == Request("score", "", None, None, 1)


@pytest.mark.parametrize(
    ("command", "kept", "accounting", "words"),
    [
        ("squeue", 300, False, None),
        ("sacct", 300, True, None),
        ("squeue", 30, True, None),
        (
            "sacct",
            300,
            False,
            "Slurm accounting storage is disabled); in workflow/profiles/slurm/config.yaml set slurm-status-command: squeue",
        ),
        ("squeue", 30, False, "slurm-status-command: squeue, slurm-init-seconds-before-status-checks: 10"),
        ("squeue", 0, False, "slurm-status-command: sacct and an accounting"),
    ],
)
def test_something_must_tell_how_jobs_ended(says, command, kept, accounting, words):
    says("scontrol", f"MessageTimeout = 10 sec\nMinJobAge               = {kept} sec")
    says("sacct", "" if accounting else "Slurm accounting storage is disabled", status=int(not accounting))
    if words is None:
        check_status_command(command, 20)
        return
    with pytest.raises(StudyError) as said:
        check_status_command(command, 20)
    assert words in str(said.value)


def test_jobs_of_an_earlier_run_in_the_folder_are_named_each_once(says):
    says("squeue", "7|/data/study\n8|/data/study\n8|/data/study\n9|/data/other\n")
    with pytest.raises(StudyError, match=r"2 jobs of an earlier run in /data/study .* scancel 7 8"):
        check_queue(Path("/data/study"))
    check_queue(Path("/data/third"))


def test_where_there_is_no_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StudyError, match="sinfo is not found; run Snakemake where jobs are submitted to SLURM"):
        check_requests([asked()])
