"""Rewards of a linear head for a benchmark in every language, from hidden states that are there."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.scoring.states import score_states
from rmtransfer.study.study import RewardModelId
from rmtransfer.texts.corpus import load_selected

score_states(
    job.params.options,
    RewardModelId.parse(job.wildcards.reward_model).key,
    job.input.base,
    job.by_language(job.input.states),
    {k: load_selected(path, job.input.ids) for k, path in job.by_language(job.input.rows).items()},
    job.by_language(job.output.scores),
    job.output.settings,
    pairs=job.input.get("pairs"),
    held_out=job.params.held_out,
)
