"""Rewards of one model for a benchmark or for sampled answers in every language, and hidden states where asked for."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.scoring.job import Outputs, score
from rmtransfer.scoring.reward_model import TrunkStore
from rmtransfer.study.config import unchanged_layers
from rmtransfer.study.study import RewardModelId
from rmtransfer.texts.corpus import load_selected

models = {key: str(folder) for key, folder in job.input.without("rows", "ids", "chat_template", "base").items()}
template = {"chat_template": job.text("chat_template")} if "chat_template" in job.input else {}
score(
    {**job.params.options, **models, **template},
    RewardModelId.parse(job.wildcards.reward_model).key,
    {k: load_selected(path, job.input.get("ids")) for k, path in job.by_language(job.input.rows).items()},
    Outputs(
        scores=job.by_language(job.output.get("scores", [])),
        states=job.by_language(job.output.get("states", [])),
        settings=job.output.get("settings"),
    ),
    job.root / job.params.cache,
    tokens_per_batch=job.resources.tokens_per_batch,
    requests_at_once=job.resources.requests_at_once,
    device=job.resources.device,
    cores=job.cores,
    trunk=TrunkStore(
        job.root / job.at.trunk,
        job.config["resources"]["trunk_gigabytes"],
        unchanged_layers(job.config["training"]),
    ),
)
