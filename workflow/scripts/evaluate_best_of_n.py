"""What each reward model's picks are worth to others, and what they are like."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.alignment.best_of_n import evaluate_best_of_n
from rmtransfer.transfer.design import Design

answers, rewards = job.at.answers, job.at.answer_rewards
evaluate_best_of_n(
    {policy: job.by_language(files) for policy, files in job.grouped("writer", answers, job.input.answers).items()},
    {
        policy: job.by_reward_model(rewards, files)
        for policy, files in job.grouped("policy", rewards, job.input.rewards).items()
    },
    Design(job.source, job.params.bases, job.params.trained_in),
    job.params.baselines,
    job.params.best_of,
    job.output.table,
)
