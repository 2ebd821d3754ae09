"""Kill jobs of a tiny study and Snakemake itself, recover, and compare the results with those of a run nobody disturbed.

    PYTHONPATH=workflow:tests/workflow python tests/faults.py [--kills 45] [--seed 0] [--cold]

A kill is signal 9, to one process and without warning: every other one to the process that computes a job (of its group
nobody else, so that Snakemake sees a failed job), every other one to Snakemake's main process alone, whose jobs then live on
without it. Kills go through all stages in turn, at a random moment of a job of that stage, unless the job ends before; each
is followed by the same command again, which is all there is to recovery. Without ``--cold`` jobs are forked from an interpreter that has the libraries
loaded (tests/warm), with it each is a Python of its own, as users have it.

Compared are all files of the study but logs and what rests in ``.work``, byte for byte: a half artifact that was taken for a
whole one would be among them, or have gone into what was made of it.
"""

import argparse
import contextlib
import difflib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml
from test_alignment import ALIGNED, add_alignment
from test_workflow import CONFIG, set_up

from conftest import ROOT, warm_python

KEY = "a-key:fx"
START = "start"  # Snakemake reads the Snakefile, finds out what is to be done and takes its lock
STAGES = {  # to the logs of its jobs
    START: START,
    "corpus": r"read_rows|read_constraints|find_contamination",
    "translation": r"translate_rows",
    "base model": r"prepare_base_model|check_templates",
    "selection": r"select_rows",
    "training": r"train_reward_model",
    "scoring": r"score/.+(seed|talker|longer)",
    "states": r"score/.+base|analyse_representations",
    "sampling": r"sample_answers",
    "rewards": r"score_answers",
    "aligning": r"align_policy",
    "drift": r"measure_drift",
    "judging": r"compare_answers|judge_comparisons",
    "tables": r"evaluate_|write_paper_tables|gather_|summarise_translation",
    "figures": r"draw_|write_sample_answers",
}
COMMAND = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "study.yaml"]
_STARTED = re.compile(r"^(?:local)?(?:rule|checkpoint) (\w+):\n((?:    .+\n)+)", re.M)
_FINISHED = re.compile(r"^Finished jobid: (\d+) ", re.M)
_PATIENCE_SECONDS = 300


class Kill(NamedTuple):
    """One blow: at a job of a stage, or at Snakemake while such a job runs, after a share of the CPU time that it usually takes."""

    stage: str
    victim: str
    moment: float


class Outcome(NamedTuple):
    """What came of a study that was disturbed.

    Attributes:
        kills: those that struck.
        starts: how often a job was started.
        interrupted: jobs that had begun, and not been reported finished, when their run was killed or stopped.
        redone: jobs that ran again though they had been reported finished.
        different: files that are not those of the undisturbed run, missing and surplus ones among them.
        paid_twice: texts that the translation server was asked for again.
    """

    kills: list[Kill]
    starts: int
    interrupted: int
    redone: list[str]
    different: list[str]
    paid_twice: int = 0


class Run:
    """Snakemake at work in a folder, with what it has said so far."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder.resolve()
        self.said = folder / "said.txt"
        self.chosen = False
        with self.said.open("w") as file:
            self.process = subprocess.Popen(
                COMMAND,
                cwd=folder,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment, "COLUMNS": "200"},
                start_new_session=True,
            )

    def jobs(self) -> dict[int, str]:
        """The processes that compute jobs of this run, to the log that their standard output is.

        Before it chooses some, those that are there are what a killed run left.
        """
        if not self.chosen and "Select jobs to execute" in self.said.read_text(encoding="utf-8"):
            self.chosen = True
        if not self.chosen:
            return {}
        logs = f"{self.folder}/results/{CONFIG['study']}/logs/"
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdecimal() and (shown := os.readlink(entry / "fd/1")).startswith(logs):  # noqa: PTH115
                    found[int(entry.name)] = shown.removeprefix(logs)
        return found


def reported(said: str) -> tuple[list[str], list[str]]:
    """Jobs that Snakemake said were started, and finished, by rule and first output."""
    names: dict[str, str] = {}
    started = []
    for rule, block in _STARTED.findall(said):
        fields = dict(line.strip().split(": ", 1) for line in block.splitlines() if ": " in line)
        if rule != "all":
            names[fields["jobid"]] = f"{rule} {fields['output'].split(', ')[0]}"
            started.append(names[fields["jobid"]])
    return started, [names[number] for number in _FINISHED.findall(said) if number in names]


def kills_of(count: int, seed: int) -> list[Kill]:
    """Where to strike, in run order: all stages in turn, jobs and Snakemake in turn within each."""
    draw = random.Random(seed)
    stages = list(STAGES)
    if count < len(stages):
        stages = draw.sample(stages, count)
    drawn = [stages[i % len(stages)] for i in range(count)]
    victims = {stage: draw.randrange(2) for stage in stages}
    kills = []
    for stage in sorted(drawn, key=list(STAGES).index):
        victims[stage] += 1
        victim = ("job", "Snakemake")[victims[stage] % 2 or stage == START]
        kills.append(Kill(stage, victim, draw.uniform(0, 0.7)))
    return kills


def disturb(folder: Path, kills: list[Kill], environment: dict[str, str], usual: dict[str, float]) -> Outcome:
    """Run a study to its end through kills.

    Args:
        usual: stage to CPU seconds that its shortest job takes; a busy machine makes them no more.

    Raises:
        RuntimeError: the study stopped where nobody struck, or never came to an end.
    """
    waiting, redone = list(kills), []
    starts = interrupted = 0
    missed: Counter[Kill] = Counter()
    done: set[str] = set()
    while True:
        run = Run(folder, environment)
        began = {run.process.pid: START}
        hit: Kill | None = None
        for running in _watched(run):
            for pid in began.keys() - running.keys() - {run.process.pid}:
                log = began.pop(pid)
                missed.update(kill for kill in waiting if hit is None and _is_of(log, kill.stage))
            began |= running
            for kill in waiting if hit is None else ():
                due = kill.moment * usual[kill.stage] / 2 ** missed[kill]
                ripe = [pid for pid, log in began.items() if _is_of(log, kill.stage) and _cpu_seconds(pid) >= due]
                if ripe:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(ripe[0] if kill.victim == "job" else run.process.pid, signal.SIGKILL)
                        hit = kill
                    break
        if hit:
            waiting.remove(hit)
        started, finished = reported(run.said.read_text(encoding="utf-8"))
        starts += len(started)
        redone += [job for job in started if job in done]
        interrupted += len(started) - len(finished)
        done |= set(finished)
        if run.process.returncode == 0:
            assert hit is None, f"{hit} did no harm"
            return Outcome([kill for kill in kills if kill not in waiting], starts, interrupted, redone, [])
        if hit is None:
            raise RuntimeError(f"the study stopped, and nobody had struck:\n{run.said.read_text()}")


def _watched(run: Run) -> Iterator[dict[int, str]]:
    until = time.monotonic() + _PATIENCE_SECONDS
    while run.process.poll() is None:
        yield run.jobs()
        time.sleep(0.01)
        if time.monotonic() > until:
            raise RuntimeError(f"nothing came to an end in {_PATIENCE_SECONDS} s:\n{run.said.read_text()}")


def _is_of(log: str, stage: str) -> bool:
    return re.match(STAGES[stage], log) is not None


def _cpu_seconds(pid: int) -> float:
    """What a process has computed, all of its threads together; 0 where there is none any more."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0


def undisturbed(folder: Path, environment: dict[str, str]) -> dict[str, float]:
    """Run a study; CPU seconds that the shortest job of each stage takes."""
    run = Run(folder, environment)
    starting = 0.0
    seen: dict[int, tuple[str, float]] = {}
    for running in _watched(run):
        starting = starting if seen else _cpu_seconds(run.process.pid)
        for pid, log in running.items():
            seen[pid] = (log, max(_cpu_seconds(pid), seen[pid][1] if pid in seen else 0))
    if run.process.returncode:
        raise RuntimeError(f"the undisturbed study stopped:\n{run.said.read_text()}")
    if missed := {log for log, _ in seen.values() if not any(_is_of(log, stage) for stage in STAGES)}:
        raise RuntimeError(f"jobs that belong to no stage here: {', '.join(sorted(missed))}")
    taken = {stage: [seconds for log, seconds in seen.values() if _is_of(log, stage)] for stage in STAGES}
    return {stage: min(these) for stage, these in taken.items() if these} | {START: starting}


def artifacts(folder: Path) -> dict[str, str]:
    """Every file of a study but logs and ``.work``, with the digest of its bytes."""
    results = folder / "results" / CONFIG["study"]
    return {
        str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(results.rglob("*"))
        if path.is_file() and path.relative_to(results).parts[0] not in ("logs", ".work")
    }


def prepare(folder: Path, server: str) -> Path:
    """A checkout with a tiny study that was never run, aligns policies, and pays a server for its translations.

    Training writes a checkpoint after every step, for kills to strike.
    """
    folder.mkdir()
    set_up(folder)
    add_alignment(folder)
    shutil.copy(folder / "resources/sample/constraints/en.jsonl", folder / "resources/sample/constraints/en-GB.jsonl")
    (folder / "profiles").symlink_to("workflow/profiles")  # what Snakemake looks for beside the Snakefile
    study = {
        **ALIGNED,
        "languages": {"source": "en", "targets": ["en-GB"]},
        "translation": {"engine": "deepl", "deepl": {"server_url": server}},
        "resources": {**ALIGNED["resources"], "checkpoint_minutes": 0},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return folder


@contextlib.contextmanager
def translators(*logs: Path) -> Iterator[list[str]]:
    """Servers that play DeepL, one for each log of what it is asked: their addresses."""
    servers = []
    try:
        for log in logs:
            command = [sys.executable, str(ROOT / "tests/fake_deepl.py"), "--key", KEY, "--delay", "0.5"]
            servers.append(subprocess.Popen([*command, "--requests-log", str(log)], stdout=subprocess.PIPE, text=True))
        yield [server.stdout.readline().strip() for server in servers if server.stdout]
    finally:
        for server in servers:
            server.kill()


def texts_in(log: Path) -> Counter[str]:
    """How often a server was asked for each text."""
    requests = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return Counter(text for request in requests for text in request["body"]["text"])


def compare(folder: Path, reference: dict[str, str]) -> list[str]:
    """Names of files that are not as in the undisturbed run."""
    found = artifacts(folder)
    return sorted(name for name in found.keys() | reference.keys() if found.get(name) != reference.get(name))


def summary(outcome: Outcome, planned: int, seed: int, tables: int, jobs: int, what: str) -> str:
    """One line."""
    by = {victim: sum(k.victim == victim for k in outcome.kills) for victim in ("job", "Snakemake")}
    stages = ", ".join(f"{stage} {sum(kill.stage == stage for kill in outcome.kills)}" for stage in STAGES)
    wrong = [name for name in outcome.different if name.startswith("tables/")]
    return (
        f"seed {seed}, {what} jobs: {len(outcome.kills)} of {planned} kills struck ({by['job']} of jobs, {by['Snakemake']} of Snakemake; {stages}); "
        f"{outcome.starts} starts for {jobs} jobs, {outcome.interrupted} interrupted, {len(outcome.redone)} finished ones redone; "
        f"{tables - len(wrong)} of {tables} tables identical, {len(outcome.different)} files in all that differ; "
        f"{outcome.paid_twice} texts paid for twice"
    )


def main() -> int:
    """Run both studies; 0 where nothing is lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=3 * len(STAGES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cold", action="store_true", help="a Python of its own for every job")
    arguments = parser.parse_args()
    environment = {**({} if arguments.cold else warm_python()), "DEEPL_AUTH_KEY": KEY}
    folder = Path(tempfile.mkdtemp(prefix="faults"))
    with translators(folder / "asked.jsonl", folder / "asked_again.jsonl") as (first, second):
        calm, other = prepare(folder / "undisturbed", first), prepare(folder / "disturbed", second)
        usual = undisturbed(calm, environment)
        jobs = len(reported((calm / "said.txt").read_text(encoding="utf-8"))[0])
        reference = artifacts(calm)
        outcome = disturb(other, kills_of(arguments.kills, arguments.seed), environment, usual)
    again = texts_in(folder / "asked_again.jsonl") - texts_in(folder / "asked.jsonl")
    outcome = outcome._replace(different=compare(other, reference), paid_twice=again.total())
    tables = sum(name.startswith("tables/") for name in reference)
    print(summary(outcome, arguments.kills, arguments.seed, tables, jobs, "cold" if arguments.cold else "warm"))
    for name in outcome.different:
        print("  not as in the undisturbed run:", name)
        if name.endswith(".csv"):
            both = [(f / "results" / CONFIG["study"] / name).read_text().splitlines() for f in (calm, other)]
            print(*difflib.unified_diff(*both, lineterm="", n=0), sep="\n")
    for job in outcome.redone:
        print("  redone:", job)
    shutil.rmtree(folder)
    return bool(outcome.different or outcome.redone)


if __name__ == "__main__":
    sys.exit(main())
