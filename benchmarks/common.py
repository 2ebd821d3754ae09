"""What the benchmarks share: which machine this is, fair timing, and the blocks of benchmarks/README.md.

.venv/bin/python -m benchmarks.common    put the measured figures into the README
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
MEASURED = ROOT / "benchmarks/README.md"
README = ROOT / "README.md"
# What decides how fast fp32 and bf16 products are.
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
_LIBRARIES = ("torch", "transformers", "trl", "accelerate")
_BLOCK = re.compile(r"<!-- (\w+) on ([^>]+): begin -->\n(.*?)<!-- \1 on \2: end -->\n", re.S)
_BLOCKS = ("<!-- blocks:begin -->", "<!-- blocks:end -->")
_SPEED = ("<!-- speed:begin -->", "<!-- speed:end -->")
_GAINS = ("what", "against", "gain", "computed for each real token: ours, theirs")
# Benchmarks whose figures rest in benchmarks/README.md, in its order.
RECORDED = {
    "scoring_speed": "Scoring, against reward-bench's batches and length-sorted ones",
    "training_speed": "Training, against TRL's RewardTrainer",
    "sampling_speed": "Sampling answers, against one at a time",
    "growth": "How time grows with rows, length and languages",
    "where_time_goes": "Floating-point operations of a study, against stock implementations",
    "gpu": "On CUDA in bf16: scoring, training, peak memory",
    "dry_run": "Planning a large study: snakemake -n",
    "rows_at_scale": "Reading, translating from the store and selecting many rows",
}


class Gain(NamedTuple):
    """A figure for the README: how much faster than a peer, or how much less."""

    what: str
    against: str
    gain: str
    tokens: str = ""
    """computed per real token: ours, and the peer's"""


class Table(NamedTuple):
    """Rows that all have the same keys, which are the columns."""

    rows: Sequence[Mapping[str, str]]
    notes: Sequence[str] = ()


class Machine(NamedTuple):
    """Where something was measured.

    Attributes:
        name: processor, what it can do, cores, GPU; the key of a block.
        facts: versions, commit and date of one measurement.
    """

    name: str
    facts: str


class Measured(NamedTuple):
    """Each round's wall and CPU seconds (of all threads), and what the first one returned."""

    seconds: list[float]
    cpu: list[float]
    result: Any


class Finished(NamedTuple):
    """A process of its own: wall and CPU seconds, imports included, and what it said."""

    seconds: float
    cpu: float
    said: dict[str, Any]


def parser_of(description: str | None, name: str) -> argparse.ArgumentParser:
    """A parser with the options that all recorded benchmarks share."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all cores")
    parser.add_argument("--record", action="store_true", help="put the tables into benchmarks/README.md")
    return parser


def machine(threads: int, gpu: str | None = None) -> Machine:
    """This machine, as far as it decides what is measured."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    facts = dict(re.findall(r"^(.+?)\s*: (.*)$", cpu.split("\n\n")[0], re.M))
    model = facts.get("model name", platform.processor() or platform.machine())
    if "model" in facts:  # virtual machines hide what a processor is called
        model += f" (family {facts['cpu family']}, model {facts['model']})"
    flags = [flag for flag in _FLAGS if flag in facts.get("flags", "").split()]
    name = f"{model}, {' '.join(flags) or 'no AVX2'}, {len(os.sched_getaffinity(0))} cores"
    versions = [f"{library} {importlib.metadata.version(library)}" for library in _LIBRARIES]
    commit = _git("rev-parse", "--short", "HEAD")
    if _git("status", "--porcelain", "--", ".", ":!README.md", ":!benchmarks/README.md"):
        commit += " with changes"
    return Machine(
        f"{gpu}, {name}" if gpu else name,
        f"{threads} threads, Python {platform.python_version()}, {', '.join(versions)}, commit {commit}, "
        f"{datetime.date.today()}",
    )


def _git(*arguments: str) -> str:
    found = subprocess.run(["git", *arguments], cwd=ROOT, check=False, capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else "unknown"


def in_turns(runs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Measured]:
    """Run all of ``runs`` in each round, every other round from the last, so that a drift of the machine's hits all alike."""
    measured: dict[str, Measured] = {}
    for number in range(rounds):
        for name in list(runs)[:: -1 if number % 2 else 1]:
            wall, cpu = time.perf_counter(), time.process_time()
            result = runs[name]()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            measured.setdefault(name, Measured([], [], result))
            measured[name].seconds.append(wall)
            measured[name].cpu.append(cpu)
    return {name: measured[name] for name in runs}


def in_new_process(module: str, arguments: Iterable[object], threads: int) -> Finished:
    """Run a benchmark's module in a process of its own, which ends with :func:`say`."""
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{module}", *map(str, arguments)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": str(ROOT / "workflow"),
    }
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = process.stdout.read().splitlines()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}; its messages stand above")
    return Finished(seconds, used.ru_utime + used.ru_stime, json.loads(lines[-1]))


def say(**facts: object) -> None:
    """A new process's last line, for the one that started it."""
    print(json.dumps(facts), flush=True)


def peak_memory() -> float:
    """The most memory that this process has held, in GB."""
    # Not ru_maxrss, which a new process inherits from the one that started it.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


def faster(slower: "Measured", measured: "Measured") -> str:
    """How many times faster one is than another, in words."""
    wall, cpu = ratio(slower.seconds, measured.seconds), ratio(slower.cpu, measured.cpu)
    return f"{wall:.1f} times faster ({cpu:.1f} in CPU seconds)"


def ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """The median of the ratios round by round."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median, and the range where there is more than one."""
    middle = f"{statistics.median(values):,.{digits}f}"
    return f"{middle} ({min(values):,.{digits}f}-{max(values):,.{digits}f})" if len(values) > 1 else middle


def pairs_of(path: Path, count: int | None = None) -> list[dict[str, Any]]:
    """The first preference pairs of a JSONL file, as the study reads them."""
    from rmtransfer.texts.corpus import PAIR_FIELDS, valid_rows

    lines = path.read_text(encoding="utf-8").splitlines()[:count]
    rejected: list[dict[str, Any]] = []
    rows = list(valid_rows(enumerate(map(json.loads, lines), 1), PAIR_FIELDS, {}, rejected))
    if rejected or not rows:
        raise SystemExit(f"{path}: {rejected[0] if rejected else 'holds no row'}")
    return rows


def publish(
    name: str, where: Machine, command: str, gains: Sequence[Gain], tables: Sequence[Table], *, record: bool
) -> None:
    """Print what was measured, and put it into benchmarks/README.md if it is to be recorded."""
    block = render_block(where, command, gains, tables)
    print(f"{where.name}\n\n{block}")
    if record:
        text = MEASURED.read_text(encoding="utf-8")
        MEASURED.write_text(with_block(text, name, where.name, block), encoding="utf-8")


def render_block(where: Machine, command: str, gains: Sequence[Gain], tables: Sequence[Table]) -> str:
    """A block of benchmarks/README.md; its first table is what the README shows."""
    parts = [f"`{command}`\n\n{where.facts}\n", render_table([dict(zip(_GAINS, gain, strict=True)) for gain in gains])]
    for table in tables:
        parts += [render_table(table.rows), *(f"{note}\n" for note in table.notes)]
    return "\n".join(parts)


def render_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows in Markdown."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([row[column] for column in columns] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def with_block(text: str, name: str, where: str, block: str) -> str:
    """benchmarks/README.md with a benchmark's block of one machine put in or replaced."""
    blocks = {(there, benchmark): found for benchmark, there, found in _BLOCK.findall(text)}
    blocks[where, name] = block
    return between(text, _BLOCKS, _arranged(blocks))


def _arranged(blocks: Mapping[tuple[str, str], str]) -> str:
    """Blocks by machine, and what no machine has measured."""
    parts = []
    for there in sorted({there for there, _ in blocks}):
        parts.append(f"## {there}\n")
        for benchmark, title in RECORDED.items():
            if (there, benchmark) in blocks:
                mark = f"<!-- {benchmark} on {there}: {{}} -->\n"
                found = blocks[there, benchmark]
                parts.append(f"### {title}\n\n{mark.format('begin')}{found}{mark.format('end')}")
    missing = [name for name in RECORDED if name not in {benchmark for _, benchmark in blocks}]
    if missing:
        parts.append("## Open\n\nNot measured on any machine yet:\n")
        parts.append("".join(f"- {RECORDED[name]} (`{name}`)\n" for name in missing))
    return "\n".join(parts)


def readme_figures(measured: str) -> str:
    """What the README says of speed: the gains in the blocks of benchmarks/README.md, machine by machine."""
    found: dict[str, list[str]] = {}
    for _, where, block in _BLOCK.findall(measured):
        table = next(part for part in block.split("\n\n") if part.startswith("| what |"))
        found.setdefault(where, []).extend(table.strip().split("\n")[2:])
    if not found:
        return "Nothing measured yet (`benchmarks/README.md`).\n"
    parts = []
    for where, lines in sorted(found.items()):
        parts.append(f"{where}:\n")
        parts.append(f"| {' | '.join(_GAINS)} |\n{'|---' * len(_GAINS)}|\n" + "".join(f"{line}\n" for line in lines))
    return "\n".join(parts)


def between(text: str, marks: tuple[str, str], content: str) -> str:
    """``text`` with ``content`` between two lines that mark its place."""
    before, _, rest = text.partition(f"{marks[0]}\n")
    _, mark, after = rest.partition(marks[1])
    if not mark:
        raise SystemExit(f"the lines {' and '.join(marks)} are not there")
    return f"{before}{marks[0]}\n{content}{mark}{after}"


def with_figures(readme: str, measured: str) -> str:
    """The README with the figures of benchmarks/README.md."""
    return between(readme, _SPEED, readme_figures(measured))


def main() -> None:
    """Put the figures of benchmarks/README.md into the README."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    text = with_figures(README.read_text(encoding="utf-8"), MEASURED.read_text(encoding="utf-8"))
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
