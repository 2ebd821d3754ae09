"""How far an aligned policy went, in its own answers: the reward that it implies, with a factor of 1."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.scoring.job import Outputs, score
from rmtransfer.scoring.reward_model import TrunkStore
from rmtransfer.study.config import unchanged_layers
from rmtransfer.texts.corpus import load_rows

score(
    {"kind": "implicit", "policy": str(job.input.aligned), "reference": str(job.input.reference), "beta": 1.0},
    job.wildcards.aligned,
    {language: load_rows(path) for language, path in job.by_language(job.input.rows).items()},
    Outputs(scores=job.by_language(job.output.drift)),
    job.root / job.at.cache,
    tokens_per_batch=job.resources.tokens_per_batch,
    requests_at_once=1,
    device=job.resources.device,
    cores=job.cores,
    trunk=TrunkStore(
        job.root / job.at.trunk,
        job.config["resources"]["trunk_gigabytes"],
        unchanged_layers(job.config["alignment"]["training"]),
    ),
)
