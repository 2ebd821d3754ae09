"""How much of the workflow is frame, and how many files an addition touches.

.venv/bin/python benchmarks/frame_counts.py                    lines of the rules, of the scripts, of each room
.venv/bin/python benchmarks/frame_counts.py main..additions    and the files that each commit of a branch touches
"""

import argparse
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commits", nargs="?", help="a range of commits, one addition each")
    commits = parser.parse_args().commits
    rules = sorted((ROOT / "workflow/rules").glob("*.smk"))
    print(
        f"{_lines(rules):6,} lines in {len(rules)} .smk files, {_lines([ROOT / 'workflow/rules/common.smk'])} in common.smk"
    )
    scripts = sorted((ROOT / "workflow/scripts").glob("*.py"))
    print(f"{_lines(scripts):6,} lines in {len(scripts)} scripts")
    for room in sorted((ROOT / "workflow/rmtransfer").glob("*/__init__.py")):
        modules = sorted(room.parent.rglob("*.py"))
        print(f"{_lines(modules):6,} lines in {len(modules)} modules of {room.parent.name}")
    if commits:
        for line in _git("log", "--reverse", "--format=%h %s", commits):
            commit, _, subject = line.partition(" ")
            files = _git("show", "--format=", "--name-only", commit)
            print(f"{len(files):6} files: {subject}\n       {', '.join(files)}")


def _lines(files: list[Path]) -> int:
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def _git(*arguments: str) -> list[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")[
        :-1
    ]


if __name__ == "__main__":
    main()
