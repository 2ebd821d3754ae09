"""Everybody's answers to the held-out instructions against the policy's own, in every language."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.alignment.comparisons import write_comparisons
from rmtransfer.study.aligning import Contender, selecting_in

policy = job.wildcards.policy
answers = job.by_language(job.input.answers)
aligned = {
    writer.removeprefix(f"{policy}/"): job.by_language(files)
    for writer, files in job.grouped("writer", job.at.answers, job.input.get("aligned", [])).items()
}
rewards = job.by_reward_model(job.at.answer_rewards, job.input.rewards)
picking = {name: c for name in job.params.contenders if (c := Contender.parse(name)).n is not None}
for language, output in job.by_language(job.output.rows).items():
    write_comparisons(
        answers[language],
        {name: files[language] for name, files in aligned.items()},
        {
            name: (contender.n, rewards[selecting_in(language, contender.selector)][language])
            for name, contender in picking.items()
        },
        output,
    )
