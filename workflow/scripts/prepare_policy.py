"""Bring one policy into the study that is none of its base models."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.models.base import prepare_base_model
from rmtransfer.study.names import DATE

options = dict(job.params.options)
date = options.pop("date", DATE)  # no key of the entry, but of the study
prepare_base_model(
    options,
    job.wildcards.base,
    job.root,
    job.output.folder,
    chat_template=job.text("chat_template"),
    date=date,
    section="policies",
)
