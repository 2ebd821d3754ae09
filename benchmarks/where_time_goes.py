"""Where a finished study's time went, from Snakemake's benchmark files and the jobs' logs.

.venv/bin/python benchmarks/where_time_goes.py results/sample
"""

import argparse
import re
from pathlib import Path

import pandas as pd

# What a progress bar reports when it reaches its total: seconds of real work, apart from imports and loading.
_WORK = re.compile(r"(?:training|scoring \S+|sampling \S+): ([\d,]+)/\1 \w+ \(.*?, ([\d.]+) s\)")


def main() -> None:
    """Print one line per rule: jobs, seconds, seconds of work, the rest, and the largest memory of a job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    study = parser.parse_args().study
    lines = []
    for path in sorted((study / "benchmarks").rglob("*.tsv")):
        rule = path.relative_to(study / "benchmarks").parts[0].removesuffix(".tsv")
        log = study / "logs" / path.relative_to(study / "benchmarks").with_suffix(".log")
        work = sum(float(m.group(2)) for m in _WORK.finditer(log.read_text(encoding="utf-8"))) if log.is_file() else 0.0
        cost = pd.read_csv(path, sep="\t", na_values="-").iloc[0]
        lines.append((rule, 1, cost["s"], work, cost["max_rss"]))
    frame = pd.DataFrame(lines, columns=["rule", "jobs", "seconds", "work", "max_rss_MB"])
    table = frame.groupby("rule", sort=False).agg({"jobs": "sum", "seconds": "sum", "work": "sum", "max_rss_MB": "max"})
    table["other"] = table["seconds"] - table["work"]
    table = table.sort_values("seconds", ascending=False)
    table.loc["total"] = table.sum()
    table.loc["total", "max_rss_MB"] = frame["max_rss_MB"].max()
    print(table[["jobs", "seconds", "work", "other", "max_rss_MB"]].round(0).astype("Int64").to_string())
    print(
        "Seconds of jobs, which run side by side. work: training, scoring and sampling; other: imports, loads, files."
    )


if __name__ == "__main__":
    main()
