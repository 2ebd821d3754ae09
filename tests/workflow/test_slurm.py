"""The tiny study on a real SLURM of one node, through what clusters do to jobs, and what a cluster cannot do said beforehand.

.venv/bin/python -m pytest -m slurm       as root, after tests/slurm/node.sh install
"""

import os
import re
import shutil
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
# The plugin looks at its jobs less and less often, by 10 s a time: here every second.
SNAKEMAKE = """
from snakemake.cli import main
from snakemake_executor_plugin_slurm import Executor
Executor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, seconds: None)
main()
"""
TARGETS = [
    *(
        f"results/tiny/tables/{table}.csv"
        for table in ("translation", "training", "variance", "representation", "agreement", "alignment")
    ),
    *(
        "results/tiny/tables/sample/paper.md",
        "results/tiny/figures/sample/transfer.png",
        "results/tiny/figures/pca.png",
    ),
]
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


def wait_for(condition: Callable[[], object], run: subprocess.Popen, seconds: float = 600) -> object:
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
    """A study that was never run, with the profiles as they are given."""
    folder = shutil.copytree(shared("study", set_up), tmp_path / "study")
    (folder / "profiles").symlink_to("workflow/profiles")
    return folder


@pytest.fixture
def start(checkout) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start runs on the cluster; what one shows goes to shown.txt."""
    runs = []

    def start(*arguments: str, config: dict = STUDY) -> subprocess.Popen:
        (checkout / "study.yaml").write_text(yaml.safe_dump(config))
        command = [
            sys.executable,
            "-c",
            SNAKEMAKE,
            "--profile",
            "workflow/profiles/slurm",
            "--configfile",
            "study.yaml",
        ]
        with (checkout / "shown.txt").open("w") as shown:
            run = subprocess.Popen(
                [*command, *QUICKLY, *arguments],
                cwd=checkout,
                stdout=shown,
                stderr=subprocess.STDOUT,
                env={**os.environ, **warm_python(0), "COLUMNS": "200", "RM_JUDGE_API_KEY": SECRET},
            )
        runs.append(run)
        return run

    yield start
    for run in runs:
        run.kill()


@pytest.fixture
def done(start, checkout) -> Callable[..., tuple[int, str]]:
    """Run to its end on the cluster: status and what was shown."""

    def done(*arguments: str, config: dict = STUDY) -> tuple[int, str]:
        return start(*arguments, config=config).wait(), (checkout / "shown.txt").read_text()

    return done


def test_cancelled_killed_requeued_and_drained_it_ends_with_the_tables_of_the_local_run(
    start, checkout, shared, node, capsys
):
    local = shared("finished", run_study)
    # select_rows gets less memory than Python needs, the first time.
    little = [*TARGETS, "--set-resources", "select_rows:mem_mb=60 if attempt == 1 else 1500"]

    # Snakemake is killed, and a job that it sent is still there.
    run = start(*little)
    wait_for(in_state(RUNNING), run)
    run.kill()
    run.wait()
    ask("sbatch", "--hold", "--chdir", str(checkout), "--wrap", "true")
    start("--unlock").wait()
    assert start(*little).wait() == 1
    leftovers = re.search(r"still in SLURM's queue; .*: (scancel [\d ]+)", (checkout / "shown.txt").read_text())
    ask(*leftovers[1].split())

    while in_state("COMPLETING", "")() or in_state(RUNNING)():
        time.sleep(0.1)
    run = start(*little)
    wait_for(in_state("FAILED", "rule_select_rows"), run)
    cancelled = wait_for(in_state(RUNNING, "rule_train_reward_model"), run)
    ask("scancel", cancelled)
    ask("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    wait_for(lambda: not in_state(RUNNING)() and in_state(PENDING)(), run)
    time.sleep(2)
    assert not in_state(RUNNING)()
    ask("scontrol", "update", f"nodename={node}", "state=resume")
    requeued = wait_for(in_state(RUNNING), run)
    ask("scontrol", "requeue", requeued)
    status = run.wait()
    shown = (checkout / "shown.txt").read_text()
    assert status == 0, shown

    jobs = queue()
    states = Counter(state for _, _, state in jobs)
    tables = sorted(p.relative_to(local / "results/tiny") for p in (local / "results/tiny/tables").rglob("*.*"))
    assert len(tables) > 20
    for table in tables:
        assert (checkout / "results/tiny" / table).read_bytes() == (local / "results/tiny" / table).read_bytes(), table
    assert states.keys() == {"COMPLETED", "CANCELLED", "FAILED"}
    logs = (checkout / ".snakemake/slurm_logs/rule_select_rows").glob("*.log")
    assert any("Exceeded job memory limit" in log.read_text() for log in logs)
    assert next(state for number, _, state in jobs if number == requeued) == "COMPLETED"
    assert f"SLURM-job '{cancelled}' failed, SLURM status is: 'CANCELLED'" in shown
    for file in [p for p in checkout.rglob("*") if p.is_file()]:
        assert SECRET.encode() not in file.read_bytes(), file
    with capsys.disabled():
        print(
            f"\nSLURM: {len(jobs)} jobs, {dict(states)}, one requeued, the node drained and resumed; {len(tables)} tables as locally"
        )


def test_a_script_that_fails_says_why_and_the_same_command_goes_on(done, checkout):
    rows = (checkout / "benchmark.jsonl").read_text(encoding="utf-8")
    new = '{"id": "new", "subset": "chat", "prompt": "Not in memory?", "chosen": "No.", "rejected": "Yes."}\n'
    (checkout / "benchmark.jsonl").write_text(rows + new, encoding="utf-8")
    target = "results/tiny/translations/es/sample.parquet"
    status, shown = done(target, "--retries", "0")
    assert status == 1
    assert "segments have no en -> es translation" in shown
    assert "finished jobs are kept" in shown
    assert "docs/cluster.md" in shown
    (checkout / "benchmark.jsonl").write_text(rows, encoding="utf-8")
    status, shown = done(target, "--retries", "0")
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
            "train_reward_model asks for 600 minutes, and partition main gives 300;",
        ),
        (["--slurm-status-command", "sacct"], STUDY, "sacct: Slurm accounting storage is disabled"),
        # Eight threads of a heavy job where jobs are sent elsewhere, however many cores and GPUs there are here.
        ([], changed(resources={"threads_per_job": "auto"}), "resources.threads_per_job: "),
    ],
)
def test_what_the_cluster_has_not_is_said_before_the_first_job(done, arguments, config, words):
    before = queue()
    status, shown = done(*arguments, config=config)
    assert status == 1
    assert words in shown
    assert queue() == before


def test_a_job_of_two_gpus_runs_its_script_once_and_gpu_check_says_that_there_are_none(done, checkout):
    (checkout / "Snakefile").write_text(
        (checkout / "Snakefile").read_text()
        + '\nrule two:\n    output: "two"\n    resources: gpu=2, tasks=0, mem_mb=1000, runtime=5\n'
        '    shell: "echo $CUDA_VISIBLE_DEVICES >> {output}"\n'
    )
    status, shown = done("two", "gpu_check", "--keep-going", "--retries", "0")
    assert status == 1
    assert (checkout / "two").read_text() == "0,1\n"
    assert re.search(r"a job asks for 1 GPU and \S+ shows none .*by the profile.s partition or gres", shown), shown
