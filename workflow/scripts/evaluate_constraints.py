"""How many constraints answers fulfil."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.alignment.constraints.accuracy import write_constraints

answers = job.grouped("writer", job.at.answers, job.input.answers)
write_constraints(
    job.by_language(job.input.rows),
    job.input.left_out,
    {writer: job.by_language(files) for writer, files in answers.items()},
    job.output.table,
)
