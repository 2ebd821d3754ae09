"""Download one model of the hub."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.models.hub import fetch_model

fetch_model(**job.params.download, output=job.output.folder)
