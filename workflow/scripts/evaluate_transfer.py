"""Turn a benchmark's scores into its tables and the answer."""

from rmtransfer.kit.progress import report, start_job

start_job("evaluate_transfer", snakemake.log[0])

from pathlib import Path

import pandas as pd

from rmtransfer.transfer.transfer import evaluate_transfer

# scores/<reward model>/<language>.parquet; several files in a row belong to one judge.
files: dict = {}
labels = iter(snakemake.params.judges)
folder = None
for path in map(Path, snakemake.input.scores):
    if path.parent != folder:
        folder = path.parent
        base, train, seed = next(labels)
        judge = files[base, train, int(seed)] = {}
    judge[path.stem] = path
contaminated = pd.read_csv(snakemake.input.contaminated, dtype=str, keep_default_na=False)["id"]
answer = evaluate_transfer(
    files,
    snakemake.params.sections,
    snakemake.params.source,
    {name: Path(path) for name, path in snakemake.output.items()},
    contaminated=set(contaminated),
)
report(answer)
