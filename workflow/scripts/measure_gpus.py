"""Say what the job's GPUs are and can do."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.models.gpus import describe_gpus

job.output.shown.write_text(describe_gpus() + "\n", encoding="utf-8")
