"""Print what is kept of earlier runs."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.report.kept import print_kept

print_kept(job.at, job.config)
