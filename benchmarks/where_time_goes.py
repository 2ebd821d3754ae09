"""Where a finished study's time went, from the jobs' logs.

.venv/bin/python benchmarks/where_time_goes.py results/sample
"""

import argparse
import re
from datetime import datetime
from pathlib import Path

import pandas as pd

_TOOK = re.compile(r" took ([\d.]+) s, ([\d.]+) CPU s, (\d+) MB at most")
# What a progress bar reports when it reaches its total: seconds of real work, apart from imports and loading.
_WORK = re.compile(r"^(\S+) \[.*\] (?:training|scoring \S+|sampling \S+): ([\d,]+)/\2 \w+ \(.*?, ([\d.]+) s\)", re.M)


def main() -> None:
    """Print one line per rule: jobs, seconds, seconds of work, of starting up, of the rest, and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    study = parser.parse_args().study
    lines = []
    for path in sorted((study / "logs").rglob("*.log")):
        log = path.read_text(encoding="utf-8")
        took = _TOOK.search(log)
        if took is None:  # killed, or still running
            continue
        seconds, cpu, memory = map(float, took.groups())
        done = _WORK.findall(log)
        work = sum(float(seconds) for _, _, seconds in done)
        start = 0.0
        if done:
            at, _, first = done[0]
            start = (_clock(at) - _clock(log[:8])).seconds - float(first)
        rule = path.relative_to(study / "logs").parts[0].removesuffix(".log")
        lines.append((rule, 1, seconds, cpu, work, start, memory))
    frame = pd.DataFrame(lines, columns=["rule", "jobs", "seconds", "CPU s", "work", "start", "max_rss_MB"])
    columns = ("jobs", "seconds", "CPU s", "work", "start")
    table = frame.groupby("rule", sort=False).agg(dict.fromkeys(columns, "sum") | {"max_rss_MB": "max"})
    table.insert(5, "other", table["seconds"] - table["work"] - table["start"])
    table = table.sort_values("seconds", ascending=False)
    table.loc["total"] = table.sum()
    table.loc["total", "max_rss_MB"] = frame["max_rss_MB"].max()
    print(table.round(0).astype("Int64").to_string())
    print(
        "Seconds of jobs, which run side by side. work: training, scoring and sampling; start: imports and loads before\n"
        "the first work; other: files, loads in between, and all of the jobs that report no progress."
    )


def _clock(text: str) -> datetime:
    return datetime.strptime(text, "%H:%M:%S")


if __name__ == "__main__":
    main()
