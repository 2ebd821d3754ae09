"""Refuse to start a translation that the budget cannot pay."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.translation.budget import check_budget

check_budget(
    job.params.ways,
    job.input.without("needs"),
    job.root / job.resources.store,
    job.resources.budget,
    job.root,
    job.output.plan,
)
