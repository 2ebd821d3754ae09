"""Sample answers to the instructions from one base model in one language."""

from rmtransfer.kit.progress import report, start_job

start_job(f"sample_answers {snakemake.wildcards.base} {snakemake.wildcards.language}", snakemake.log[0])

from pathlib import Path

from rmtransfer.alignment.sampling import sample_answers
from rmtransfer.texts.corpus import load_ids, load_rows

sample_answers(
    Path(snakemake.input.base),
    load_rows(Path(snakemake.input.rows), load_ids(Path(snakemake.input.ids))),
    snakemake.wildcards.language,
    snakemake.params.options,
    snakemake.params.seed,
    Path(snakemake.output.answers),
    tokens_per_batch=snakemake.resources.tokens_per_batch,
    device=snakemake.resources.device,
)
report("ready")
