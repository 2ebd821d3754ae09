"""The training logs of all reward models as one table."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.models.training_log import gather_training_logs
from rmtransfer.study.study import RewardModelId

gather_training_logs(
    {
        RewardModelId.parse(name): folder
        for name, folder in job.by("reward_model", job.at.model, job.input.models).items()
    },
    job.output.table,
)
