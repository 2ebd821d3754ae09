"""What the rules ask for, by Snakemake's own account."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from conftest import ROOT, warm_snakemake

pytestmark = pytest.mark.slow

ASKED = {"mem_mb", "runtime", "disk_mb", "gpu", "network"}
SNAKEFILE = """
import sys
from pathlib import Path
sys.path.insert(0, "workflow")
from rmtransfer.kit import devices
devices._DRIVER = Path("dev")
configfile: "study.yaml"
include: "workflow/rules/common.smk"
include: "workflow/rules/run.smk"
rule all:
    input: "done"
rule light:
    output: "light"
    resources: **LIGHT
    shell: "echo {resources.mem_mb} {resources.runtime} >> attempts; test {resources.mem_mb} -ge 2000; touch {output}"
rule heavy:
    input: "light"
    output: "done"
    threads: HEAVY
    resources: **asks(lambda wildcards: SMALL, gpu=int(ON_GPU))
    shell: "touch {output}"
"""
CONFIG = {
    "study": "tiny",
    "languages": {"source": "en", "targets": []},
    "benchmarks": {"sample": {"path": "benchmark.jsonl"}},
    "reward_models": {"random": {"kind": "random"}},
}


def snakemake(folder, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **warm_snakemake()},
        check=False,
    )


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A workflow of two rules on a machine without GPUs, by the workflow's own common.smk."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "benchmark.jsonl").write_text('{"id": "a", "prompt": "p", "chosen": "c", "rejected": "r"}\n')
    (tmp_path / "dev").mkdir()

    def configure(**sections):
        (tmp_path / "study.yaml").write_text(yaml.safe_dump({**CONFIG, **sections}))
        return tmp_path

    return configure


def test_every_job_of_the_default_study_asks_and_the_command_line_has_the_last_word(tmp_path):
    for name in ("workflow", "resources", "envs"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    shown = snakemake(tmp_path, "-n", "--cores", "2", "--set-resources", "train_reward_model:mem_mb=123").stdout
    found: dict[str, list[dict[str, str]]] = {}
    for rule, resources in re.findall(
        r"^(?:local)?(?:rule|checkpoint) (\w+):\n(?:    .*\n)*?    resources: (.*)$", shown, re.M
    ):
        found.setdefault(rule, []).append(dict(each.split("=", 1) for each in resources.split(", ")))
    del found["all"]
    assert len(found) > 20, shown
    assert [rule for rule, jobs in found.items() for job in jobs if not job.keys() >= ASKED] == []
    assert {job["mem_mb"] for job in found["train_reward_model"]} == {"123"}
    assert {job["mem_mb"] for rule, jobs in found.items() if rule.startswith("draw_") for job in jobs} == {"1000"}
    # Neither rows nor model are there: how long a training takes is not known yet, and that is no error.
    assert {job["runtime"] for job in found["train_reward_model"]} == {"<TBD>"}
    assert {job["network"] for jobs in found.values() for job in jobs} == {"0"}
    # Jobs on this machine are not held back by what they ask for.
    assert "Provided resources: " not in shown


def test_every_rule_says_what_its_jobs_ask_for():
    rules = 0
    for file in sorted((ROOT / "workflow/rules").glob("*.smk")):
        text = file.read_text(encoding="utf-8")
        for block in re.split(r"^ *(?=(?:rule|checkpoint)\b)", text, flags=re.M)[1:]:
            if "script:" in block:
                rules += 1
                assert re.search(r"\*\*(asks\(|LIGHT)|mem_mb=", block), f"{file.name}: {block.splitlines()[0]}"
    assert rules >= 20


def test_a_second_attempt_asks_for_twice_as_much(small):
    folder = small()
    done = snakemake(folder, "--cores", "2", "--retries", "1")
    assert done.returncode == 0, done.stdout
    assert (folder / "attempts").read_text() == "1000 10\n2000 20\n"


def test_a_run_whose_jobs_want_a_gpu_that_is_not_there_stops_before_the_first(small):
    folder = small(resources={"device": "cuda"})
    assert "gpu=1" in snakemake(folder, "-n", "--cores", "2").stdout  # to look is free
    done = snakemake(folder, "--cores", "2")
    assert done.returncode == 1
    assert re.search(r"a job asks for 1 GPU and \S+ shows none .*resources\.device: cpu", done.stdout), done.stdout
    assert not (folder / "attempts").exists()
    (folder / "light").touch()
    (folder / "done").touch()
    assert snakemake(folder, "--cores", "2").returncode == 0


def test_where_jobs_are_sent_elsewhere_they_have_eight_cores_and_ask_for_a_gpu(small):
    """Whatever the machine has that sends them; the same number of cores is told to their node."""
    folder = small()
    shown = snakemake(folder, "-n", "--cores", "16", "--jobs", "5").stdout
    assert "threads: 8\n" in shown
    assert "gpu=1" in shown
    shown = snakemake(small(resources={"device": "cpu"}), "-n", "--cores", "16", "--jobs", "5").stdout
    assert "threads: 8\n" in shown
    assert "gpu=1" not in shown
