"""Print what the study will cost."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.report.plan import print_plan

print_plan(job.config, job.params.ways, job.input, job.root / job.resources.store, job.root)
