"""Download one model of the hub."""

from rmtransfer.kit.progress import report, start_job

start_job(f"fetch_model {snakemake.wildcards.reward_model} {snakemake.wildcards.key}", snakemake.log[0])

from pathlib import Path

from rmtransfer.models.base import fetch_model

fetch_model(snakemake.params.model, snakemake.params.revision, Path(snakemake.output.folder))
report("ready")
