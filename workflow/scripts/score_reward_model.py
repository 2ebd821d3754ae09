"""Score a benchmark in every language with one off-the-shelf reward model or baseline."""

from rmtransfer.kit.progress import report, start_job

start_job(" ".join([snakemake.rule, *map(str, snakemake.wildcards)]), snakemake.log[0])

from pathlib import Path

from rmtransfer.scoring.others import score_reward_model
from rmtransfer.texts.corpus import load_ids, load_rows

languages = snakemake.params.languages
ids = load_ids(Path(snakemake.input.ids))
folders = {key: str(snakemake.input[key]) for key in snakemake.params.spec if key in snakemake.input.keys()}
template = snakemake.input.get("chat_template")
score_reward_model(
    {
        **snakemake.params.spec,
        **folders,
        **({"chat_template": Path(template).read_text(encoding="utf-8")} if template else {}),
    },
    snakemake.wildcards.reward_model,
    {k: load_rows(Path(path), ids) for k, path in zip(languages, snakemake.input.rows, strict=True)},
    dict(zip(languages, map(Path, snakemake.output.scores), strict=True)),
    Path(snakemake.output.settings),
    Path(snakemake.params.store),
    tokens_per_batch=snakemake.resources.tokens_per_batch,
    requests_at_once=snakemake.resources.requests_at_once,
    device=snakemake.resources.device,
)
report("ready")
