"""Turn a benchmark's scores into its tables and the answer."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.kit.progress import report
from rmtransfer.texts.corpus import read_ledger
from rmtransfer.transfer.design import Design
from rmtransfer.transfer.evaluate import evaluate_transfer

answer = evaluate_transfer(
    job.by_reward_model(job.at.scores, job.input.scores),
    job.params.sections,
    Design(job.source, job.params.bases, job.params.trained_in),
    job.output,
    contaminated={entry["id"] for entry in read_ledger(job.input.contaminated)},
    ties_half=job.params.ties_half,
    native=job.params.native,
)
report(answer)
