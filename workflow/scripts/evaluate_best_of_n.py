"""Judge what each reward model picks by the others."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.alignment.best_of_n import evaluate_best_of_n

evaluate_best_of_n(job.by_reward_model(job.at.answer_rewards, job.input.rewards), job.params.best_of, job.output.table)
