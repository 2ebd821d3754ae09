"""A tiny study's tables, kept in ``tests/golden/``: who says that a stage's results did not change is held to them.

.venv/bin/python tests/golden.py results/tiny/tables      keeps the tables of a finished tiny study as they are now
"""

import shutil
import sys
from pathlib import Path

import pandas as pd

KEPT = Path(__file__).parent / "golden"
TOLERANCE = 1e-4  # processors round differently, and training carries that on


def differences(tables: Path) -> list[str]:
    """Where the tables of a study are not the ones that were kept: names and counts exactly, numbers to ``TOLERANCE``."""
    found, kept = (sorted(p.relative_to(folder) for p in folder.rglob("*.csv")) for folder in (tables, KEPT))
    if found != kept:
        return [f"there are other tables: {', '.join(map(str, {*found} ^ {*kept}))}"]
    problems = []
    for name in kept:
        now, before = (pd.read_csv(folder / name, keep_default_na=False, na_values=[""]) for folder in (tables, KEPT))
        try:
            pd.testing.assert_frame_equal(now, before, check_exact=False, rtol=TOLERANCE, atol=TOLERANCE)
        except AssertionError as difference:
            problems.append(f"{name}: {' '.join(str(difference).split())}")
    return problems


if __name__ == "__main__":
    shutil.rmtree(KEPT, ignore_errors=True)
    tables = Path(sys.argv[1])
    for path in sorted(tables.rglob("*.csv")):
        target = KEPT / path.relative_to(tables)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
