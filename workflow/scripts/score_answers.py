"""Score the sampled answers in every language with one reward model."""

from rmtransfer.kit.progress import report, start_job

start_job(" ".join([snakemake.rule, *map(str, snakemake.wildcards)]), snakemake.log[0])

from pathlib import Path

from rmtransfer.scoring.job import score_answers
from rmtransfer.texts.corpus import load_rows

languages = snakemake.params.languages
score_answers(
    Path(snakemake.input.model),
    {k: load_rows(Path(path)) for k, path in zip(languages, snakemake.input.answers, strict=True)},
    dict(zip(languages, map(Path, snakemake.output.rewards), strict=True)),
    Path(snakemake.params.store),
    tokens_per_batch=snakemake.resources.tokens_per_batch,
    device=snakemake.resources.device,
)
report("ready")
