"""Train one reward model."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)
keep = job.keep(job.output.folder)
if keep.take():
    raise SystemExit

from rmtransfer.models.training import train_reward_model
from rmtransfer.study.study import RewardModelId, TrainingSet
from rmtransfer.texts.corpus import load_selected
from rmtransfer.texts.mixture import check_sizes, mix
from rmtransfer.texts.split import split

rows = {k: load_selected(path, job.input.ids) for k, path in job.by_language(job.input.rows).items()}
base, train_language, seed = RewardModelId.parse(job.wildcards.reward_model)
pairs, held_out = split(rows, job.params.recipe["held_out"])
training_set = TrainingSet(job.params.shares, job.params.pairs)
check_sizes({train_language: training_set}, len(next(iter(pairs.values()))))
with job.cores:
    train_reward_model(
        job.input.base,
        mix(pairs, *training_set),
        job.params.recipe,
        seed,
        job.output.folder,
        job.root / job.at.training_states,
        card={"base_model": base, "train_language": train_language, "languages": ", ".join(job.params.shares)},
        tokens_per_batch=job.resources.tokens_per_batch,
        checkpoint_minutes=job.resources.checkpoint_minutes,
        device=job.resources.device,
        processes=job.config["training"]["processes"],
        gradient_checkpointing=job.config["training"]["gradient_checkpointing"],
        trunk_store=job.root / job.at.trunk,
        trunk_gigabytes=job.config["resources"]["trunk_gigabytes"],
        held_out=mix(held_out, job.params.shares),
        keep=keep,
    )
