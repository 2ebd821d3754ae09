"""Sample a policy's answers to prompts in every language."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.alignment.sampling import sample_answers
from rmtransfer.texts.corpus import load_selected

sample_answers(
    job.input.base,
    {k: load_selected(path, job.input.get("ids")) for k, path in job.by_language(job.input.rows).items()},
    job.params.options,
    job.params.seed,
    job.by_language(job.output.answers),
    job.root / job.at.sampled,
    samples=job.params.options["samples"],
    tokens_per_batch=job.resources.tokens_per_batch,
    device=job.resources.device,
    cores=job.cores,
)
