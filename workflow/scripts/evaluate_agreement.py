"""How far reward models agree about a policy's answers."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.alignment.agreement import evaluate_agreement

answers, rewards = job.at.answers, job.at.answer_rewards
evaluate_agreement(
    {
        policy: job.by_reward_model(rewards, files)
        for policy, files in job.grouped("policy", rewards, job.input.rewards).items()
    },
    {policy: job.by_language(files) for policy, files in job.grouped("writer", answers, job.input.answers).items()},
    job.output.table,
)
