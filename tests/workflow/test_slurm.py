"""The tiny study on a real SLURM of one node, through what clusters do to jobs, and what a cluster cannot do said beforehand.

.venv/bin/python -m pytest -m slurm       as root, after tests/slurm/node.sh install
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from test_workflow import changed, run_study, set_up

from conftest import ROOT, warm_python

NODE = ROOT / "tests/slurm/node.sh"
SECRET = "not-to-be-written-anywhere"
# Threads as in the local run on two cores, so that products round alike.
STUDY = changed(resources={"threads_per_job": 1})
QUICKLY = [
    "--slurm-init-seconds-before-status-checks",
    "1",
    "--max-status-checks-per-second",
    "10",
    "--latency-wait",
    "5",
]
PENDING, RUNNING = "PENDING", "RUNNING"

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def queue() -> list[tuple[str, str, str]]:
    """Number, rule with wildcards, and state of every job that SLURM knows."""
    lines = ask("squeue", "--noheader", "--states=all", "--format=%i|%k|%T").splitlines()
    return [tuple(line.split("|")) for line in lines]


def wait_for(condition: Callable[[], object], run: subprocess.Popen, seconds: float = 120) -> object:
    """What a condition gives once it gives something."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert run.poll() is None, "the run has ended"
        assert time.monotonic() < until, f"waited {seconds} s in vain; {queue()}"
        time.sleep(0.1)
    return found


def in_state(state: str, rule: str = "rule_") -> Callable[[], str | None]:
    """The number of a job of a rule in a state; None if there is none."""
    return lambda: next((number for number, name, now in queue() if name.startswith(rule) and now == state), None)


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[str]:
    """The name of a node that runs jobs."""
    if os.geteuid() or not shutil.which("slurmctld"):
        pytest.skip("takes root and SLURM's packages: tests/slurm/node.sh install")
    folder = tmp_path_factory.mktemp("slurm")
    try:
        started = subprocess.run([NODE, "start", folder], capture_output=True, text=True, check=False)
        assert started.returncode == 0, started.stderr
        yield ask("sinfo", "--noheader", "--format=%n").strip()
    finally:
        subprocess.run([NODE, "stop", folder], check=True)


@pytest.fixture
def checkout(shared, tmp_path, node) -> Path:
    """A study that was never run, with the profile as it is given."""
    return shutil.copytree(shared("study", set_up), tmp_path / "study")


def snakemake(folder: Path, *arguments: str, config: dict = STUDY) -> subprocess.Popen:
    """Start a run on the cluster; what it shows goes to shown.txt."""
    (folder / "study.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", "--profile", "workflow/profiles/slurm", "--configfile", "study.yaml"]
    with (folder / "shown.txt").open("w") as shown:
        return subprocess.Popen(
            [*command, *QUICKLY, *arguments],
            cwd=folder,
            stdout=shown,
            stderr=subprocess.STDOUT,
            env={**os.environ, **warm_python(), "COLUMNS": "200", "RM_JUDGE_API_KEY": SECRET},
        )


def ended(run: subprocess.Popen, folder: Path, seconds: float = 420) -> tuple[int, str]:
    """How a run ended and what it showed."""
    try:
        return run.wait(seconds), (folder / "shown.txt").read_text()
    finally:
        run.kill()


def test_cancelled_killed_requeued_and_drained_it_ends_with_the_tables_of_the_local_run(checkout, shared, node, capsys):
    local = shared("finished", run_study)
    # select_rows gets less memory than Python needs, the first time.
    little = ["--set-resources", "select_rows:mem_mb=60 if attempt == 1 else 1500"]

    run = snakemake(checkout, *little)
    wait_for(in_state(RUNNING), run)
    run.send_signal(signal.SIGINT)
    status, _ = ended(run, checkout)
    assert status
    assert not [job for job in queue() if job[2] in (PENDING, RUNNING)]

    run = snakemake(checkout, *little)
    wait_for(in_state("OUT_OF_MEMORY", "rule_select_rows"), run)
    cancelled = wait_for(in_state(RUNNING, "rule_train_reward_model"), run)
    ask("scancel", cancelled)
    ask("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    wait_for(lambda: not in_state(RUNNING)() and in_state(PENDING)(), run)
    time.sleep(2)
    assert not in_state(RUNNING)()
    ask("scontrol", "update", f"nodename={node}", "state=resume")
    requeued = wait_for(in_state(RUNNING, "rule_sample_answers"), run)
    ask("scontrol", "requeue", requeued)
    status, shown = ended(run, checkout)
    assert status == 0, shown

    jobs = queue()
    states = Counter(state for _, _, state in jobs)
    tables = sorted(p.relative_to(local / "results/tiny") for p in (local / "results/tiny/tables").rglob("*.*"))
    assert len(tables) > 20
    for table in tables:
        assert (checkout / "results/tiny" / table).read_bytes() == (local / "results/tiny" / table).read_bytes(), table
    assert states.keys() == {"COMPLETED", "CANCELLED", "OUT_OF_MEMORY"}
    assert next(state for number, _, state in jobs if number == requeued) == "COMPLETED"
    assert f"SLURM-job '{cancelled}' failed, SLURM status is: 'CANCELLED'" in shown
    for file in [p for p in checkout.rglob("*") if p.is_file()]:
        assert SECRET.encode() not in file.read_bytes(), file
    with capsys.disabled():
        print(
            f"\nSLURM: {len(jobs)} jobs, {dict(states)}, one requeued, the node drained and resumed; {len(tables)} tables as locally"
        )


def test_a_script_that_fails_says_why_and_the_same_command_goes_on(checkout):
    rows = (checkout / "benchmark.jsonl").read_text(encoding="utf-8")
    new = '{"id": "new", "subset": "chat", "prompt": "Not in memory?", "chosen": "No.", "rejected": "Yes."}\n'
    (checkout / "benchmark.jsonl").write_text(rows + new, encoding="utf-8")
    target = "results/tiny/translations/es/sample.parquet"
    status, shown = ended(snakemake(checkout, target, "--retries", "0"), checkout)
    assert status == 1
    assert "segments have no en -> es translation" in shown
    assert "finished jobs are kept" in shown
    (checkout / "benchmark.jsonl").write_text(rows, encoding="utf-8")
    status, shown = ended(snakemake(checkout, target, "--retries", "0"), checkout)
    assert status == 0, shown
    assert (checkout / target).is_file()


@pytest.mark.parametrize(
    ("arguments", "config", "words"),
    [
        (
            ["--default-resources", "slurm_partition=gpu"],
            STUDY,
            "this cluster has no partition 'gpu'; name one of main",
        ),
        (
            ["--set-resources", "train_reward_model:runtime=600"],
            STUDY,
            "train_reward_model asks for 600 minutes, and partition main gives 60;",
        ),
        (["--slurm-status-command", "sacct"], STUDY, "sacct: Slurm accounting storage is disabled"),
        # Eight threads of a heavy job where jobs are sent elsewhere, however many cores and GPUs there are here.
        ([], changed(resources={"threads_per_job": "auto"}), "resources.threads_per_job: "),
    ],
)
def test_what_the_cluster_has_not_is_said_before_the_first_job(checkout, arguments, config, words):
    before = queue()
    status, shown = ended(snakemake(checkout, *arguments, config=config), checkout)
    assert status == 1
    assert words in shown
    assert queue() == before


def test_a_job_of_two_gpus_runs_its_script_once_and_gpu_check_says_that_there_are_none(checkout):
    (checkout / "Snakefile").write_text(
        (checkout / "Snakefile").read_text()
        + '\nrule two:\n    output: "two"\n    resources: gpu=2, tasks=0, mem_mb=1000, runtime=5\n'
        '    shell: "echo $CUDA_VISIBLE_DEVICES >> {output}"\n'
    )
    status, shown = ended(snakemake(checkout, "two", "gpu_check", "--keep-going", "--retries", "0"), checkout)
    assert status == 1
    assert (checkout / "two").read_text() == "0,1\n"
    assert len(re.findall(r"no GPU here, so that jobs would compute on the CPU", shown)) >= 1
