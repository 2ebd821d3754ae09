"""Sample answers to the instructions from one base model in one language."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)
keep = job.keep(job.output.answers)
if keep.take():
    raise SystemExit

from rmtransfer.alignment.sampling import sample_answers
from rmtransfer.texts.corpus import load_selected

with job.cores:
    sample_answers(
        job.input.base,
        load_selected(job.input.rows, job.input.ids),
        job.wildcards.language,
        job.params.options,
        job.params.seed,
        job.output.answers,
        tokens_per_batch=job.resources.tokens_per_batch,
        device=job.resources.device,
    )
keep.put()
