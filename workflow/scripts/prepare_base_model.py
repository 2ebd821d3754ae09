"""Bring one base model into the study."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.models.base import prepare_base_model

prepare_base_model(
    job.params.options, job.wildcards.base, job.root, job.output.folder, chat_template=job.text("chat_template")
)
