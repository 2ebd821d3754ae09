"""Look for a benchmark's prompts in the training data."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.texts.contamination import write_contamination

write_contamination(job.input.benchmark, job.input.get("training"), job.output.flagged)
