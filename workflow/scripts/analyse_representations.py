"""Compare the hidden states of all models."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.representation.analysis import analyse_representations

analyse_representations(
    job.by_reward_model(job.at.states, job.input.states),
    job.output.table,
    job.output.coordinates,
    centered=job.params.centered,
)
