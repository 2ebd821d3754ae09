"""Try the models' chat templates on the rows of the source language."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.models.templates import check_templates
from rmtransfer.study.names import HELD_OUT, INSTRUCTIONS
from rmtransfer.texts.contamination import check_held_out

if {INSTRUCTIONS, HELD_OUT} <= set(job.params.parts):
    check_held_out(job.input[INSTRUCTIONS], job.input[HELD_OUT])
check_templates(
    job.params.models,
    {part: job.input[part] for part in job.params.parts},
    job.params.stop_at,
    job.params.max_length,
    job.root,
    job.output.templates,
)
