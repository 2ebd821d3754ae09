"""Turn a benchmark's scores into its table of accuracy by training pairs and base model."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.study.footprint import parameters_of
from rmtransfer.study.study import TrainingSet
from rmtransfer.texts.corpus import load_ids
from rmtransfer.texts.split import trained_on
from rmtransfer.transfer.scaling import evaluate_scaling

evaluate_scaling(
    job.by_reward_model(job.at.scores, job.input.scores),
    job.params.sections,
    job.output.table,
    source=job.source,
    targets=job.params.targets,
    training_sets={name: TrainingSet(*these) for name, these in job.params.training_sets.items()},
    pairs=len(trained_on(load_ids(job.input.ids), job.params.recipe["held_out"])),
    parameters={base: parameters_of(path) for base, path in job.by("base", job.at.base_model, job.input.bases).items()},
)
