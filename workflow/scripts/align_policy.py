"""Align one policy with one selector."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.kit.kept import digest_of_inputs

keep = job.keep(job.output.folder, inputs=digest_of_inputs([*job.input.answers, *job.input.rewards]))
if keep.take():
    raise SystemExit

from rmtransfer.alignment.aligning import align_policy
from rmtransfer.alignment.pairs import choices
from rmtransfer.study.aligning import Contender

policy, _, contender = job.wildcards.aligned.partition("/")
method, _, selector = Contender.parse(contender)
answers, rewards = (job.by_language(job.input[name]) for name in ("answers", "rewards"))
found = {language: choices(path, rewards[language], language) for language, path in answers.items()}
speed = job.config["alignment"]["training"]
with job.cores:
    align_policy(
        job.input.base,
        [choice for of_language, _ in found.values() for choice in of_language],
        {language: counts for language, (_, counts) in found.items()},
        job.params.recipe,
        method,
        selector.seed,
        job.output.folder,
        job.root / job.at.training_states,
        card={"policy": policy, "method": method, "selector": selector.id, "languages": ", ".join(found)},
        tokens_per_batch=job.resources.tokens_per_batch,
        checkpoint_minutes=job.resources.checkpoint_minutes,
        device=job.resources.device,
        gradient_checkpointing=speed["gradient_checkpointing"],
        trunk_store=job.root / job.at.trunk,
        trunk_gigabytes=job.config["resources"]["trunk_gigabytes"],
        keep=keep,
    )
