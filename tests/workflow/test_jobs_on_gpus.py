"""As many heavy jobs at a time as there are GPUs, each on its own, by the workflow's own common.smk; the GPUs are files."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from conftest import ROOT, warm_snakemake

pytestmark = pytest.mark.slow

SNAKEFILE = """
import sys
from pathlib import Path
sys.path.insert(0, "workflow")
from rmtransfer.kit import devices
devices._DRIVER = Path("dev")
configfile: "study.yaml"
include: "workflow/rules/common.smk"
rule all:
    input: expand("done/{n}", n=range(5))
rule heavy:
    output: "done/{n}"
    log: "logs/{n}"
    threads: HEAVY
    resources: **DEVICE, gpu=int(ON_GPU)
    script: "heavy.py"
"""
HEAVY = """
import json, os, time
from pathlib import Path
from rmtransfer.kit import devices
devices._DRIVER, devices._LOCKS, devices._POLL_SECONDS = Path("dev"), Path("locks"), 0.05
from rmtransfer.study.job import start_job
began = time.time()
job = start_job(snakemake)
time.sleep(1)
Path(snakemake.output[0]).write_text(json.dumps({
    "began": began, "ended": time.time(), "device": os.environ.get("CUDA_VISIBLE_DEVICES"), "threads": snakemake.threads,
    "cores": os.environ["RMTRANSFER_CORES"], "workers": job.cores.workers(),
}))
"""
CONFIG = {
    "study": "tiny",
    "languages": {"source": "en", "targets": []},
    "benchmarks": {"sample": {"path": "benchmark.jsonl"}},
    "reward_models": {"random": {"kind": "random"}},
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the tiny workflow with four cores and some GPUs; what each job wrote."""
    for variable in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "SLURM_JOB_ID"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "heavy.py").write_text(HEAVY)
    (tmp_path / "benchmark.jsonl").write_text("{}\n")
    (tmp_path / "dev").mkdir()

    def run(gpus: int, *arguments: str, **sections) -> tuple[str, list[dict]]:
        for number in range(gpus):
            (tmp_path / "dev" / f"nvidia{number}").touch()
        (tmp_path / "study.yaml").write_text(yaml.safe_dump({**CONFIG, **sections}))
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", "4", *arguments],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **warm_snakemake()},
            check=False,
        )
        return done.stdout, [json.loads(path.read_text()) for path in sorted(tmp_path.glob("done/*"))]

    return run


def at_once(jobs: list[dict]) -> int:
    return max(sum(other["began"] <= job["began"] < other["ended"] for other in jobs) for job in jobs)


def test_two_gpus_two_jobs_at_a_time_each_on_its_own(run):
    shown, jobs = run(2)
    assert 'Provided resources: gpu=Resource("gpu", 2)' in shown
    assert len(jobs) == 5, shown
    assert at_once(jobs) == 2
    assert {job["device"] for job in jobs} == {"0", "1"}
    for device in "01":
        assert at_once([job for job in jobs if job["device"] == device]) == 1
    assert {(job["threads"], job["cores"], job["workers"]) for job in jobs} == {(2, "4", 2)}


@pytest.mark.parametrize(
    ("gpus", "arguments", "sections"),
    [(0, [], {"resources": {"threads_per_job": 1}}), (2, [], {"resources": {"device": "cpu", "threads_per_job": 1}})],
)
def test_jobs_on_a_cpu_are_limited_by_its_cores_alone(run, gpus, arguments, sections):
    shown, jobs = run(gpus, *arguments, **sections)
    assert "Provided resources" not in shown
    assert len(jobs) == 5, shown
    assert at_once(jobs) > 2
    assert {job["device"] for job in jobs} == {None}


def test_a_limit_that_the_user_gives_and_more_processes_than_devices(run):
    assert "threads: 2\n" in run(2, "--dry-run")[0]
    assert "threads: 4\n" in run(2, "--dry-run", "--resources", "gpu=1")[0]  # all cores for the only job at a time
    shown, jobs = run(2, training={"processes": 8})
    assert "training.processes: 8 GPUs for one reward model, and this machine shows 2; lower it to 2" in shown
    assert jobs == []
