"""Score the benchmark in every language with one reward model, or take a base model's hidden states of it."""

from rmtransfer.kit.progress import report, start_job

start_job(" ".join([snakemake.rule, *map(str, snakemake.wildcards)]), snakemake.log[0])

from pathlib import Path

from rmtransfer.scoring.job import score_pairs
from rmtransfer.texts.corpus import load_ids, load_rows

languages = snakemake.params.languages
ids = load_ids(Path(snakemake.input.ids))


def by_language(paths):
    return dict(zip(languages, map(Path, paths), strict=True))


score_pairs(
    Path(snakemake.input.model),
    {language: load_rows(path, ids) for language, path in by_language(snakemake.input.rows).items()},
    by_language(snakemake.output.scores) if "scores" in snakemake.output.keys() else None,
    by_language(snakemake.output.states) if "states" in snakemake.output.keys() else None,
    Path(snakemake.params.store),
    tokens_per_batch=snakemake.resources.tokens_per_batch,
    device=snakemake.resources.device,
)
report("ready")
