"""Look for a benchmark's prompts in the training data."""

from rmtransfer.kit.progress import report, start_job

start_job("find_contamination", snakemake.log[0])

from pathlib import Path

from rmtransfer.texts.contamination import write_contamination

training = snakemake.input.get("training")
flagged = write_contamination(
    Path(snakemake.input.benchmark), Path(training) if training else None, Path(snakemake.output.flagged)
)
report(f"{flagged:,} benchmark rows have prompts of the training data")
