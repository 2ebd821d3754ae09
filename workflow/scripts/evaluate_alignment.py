"""What alignment buys: one tidy table."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

import pandas as pd

from rmtransfer.alignment.evaluation import evaluate_alignment
from rmtransfer.study.names import ALL
from rmtransfer.transfer.design import Design

at = job.at


def by_language(field, pattern, name):
    """Files by one field of their path, each by language."""
    return {key: job.by_language(files) for key, files in job.grouped(field, pattern, job.input.get(name, [])).items()}


constraints = None
if "constraints" in job.input:
    table = pd.read_csv(job.input.constraints)
    constraints = table[table["constraint"] == ALL].drop(columns="constraint")
evaluate_alignment(
    by_language("policy", at.comparisons, "comparisons"),
    {
        policy: job.by_reward_model(at.verdicts, files)
        for policy, files in job.grouped("policy", at.verdicts, job.input.get("verdicts", [])).items()
    },
    by_language("writer", at.answers, "answers"),
    by_language("aligned", at.drift, "drift"),
    job.input.best_of_n,
    Design(job.source, job.params.bases, job.params.trained_in),
    job.params.baselines,
    job.output.table,
    built_on=job.params.built_on,
    constraints=constraints,
)
