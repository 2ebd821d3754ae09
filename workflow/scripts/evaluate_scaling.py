"""Turn a benchmark's scores into its table of accuracy by training pairs and base model."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.kit.manifest import read_manifest
from rmtransfer.study.footprint import parameters_of
from rmtransfer.study.study import TrainingSet
from rmtransfer.transfer.scaling import evaluate_scaling

evaluate_scaling(
    job.by_reward_model(job.at.scores, job.input.scores),
    job.params.sections,
    job.output.table,
    source=job.source,
    targets=job.params.targets,
    training_sets={name: TrainingSet(*these) for name, these in job.params.training_sets.items()},
    pairs=read_manifest(job.input.whole)["pairs"],
    parameters={base: parameters_of(path) for base, path in job.by("base", job.at.base_model, job.input.bases).items()},
)
