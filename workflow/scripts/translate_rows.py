"""Translate the rows of one part from one language into another."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.translation import Machine
from rmtransfer.translation.engines import build_engine
from rmtransfer.translation.rows import translate_rows

machine = Machine(job.root, job.resources.tokens_per_batch, job.resources.requests_at_once, job.resources.device)
engine = build_engine(job.params.spec, job.params.source, job.params.target, machine)
translate_rows(
    job.input.rows,
    job.params.part,
    job.params.target,
    engine,
    job.root / job.resources.store,
    job.output.rows,
    job.output.dropped,
    job.output.measures,
    budget=job.resources.budget,
    references=job.input.get("references"),
)
