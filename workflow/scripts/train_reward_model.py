"""Train one reward model."""

from rmtransfer.kit.progress import report, start_job

start_job(f"train_reward_model {snakemake.wildcards.base} {snakemake.wildcards.train_language}", snakemake.log[0])

from pathlib import Path

from rmtransfer.models.training import train_reward_model
from rmtransfer.texts.corpus import load_ids, load_rows
from rmtransfer.texts.mixture import mix

output = Path(snakemake.output.folder)
shares = snakemake.params.shares
ids = load_ids(Path(snakemake.input.ids))
train_reward_model(
    Path(snakemake.input.base),
    mix({k: load_rows(Path(path), ids) for k, path in zip(shares, snakemake.input.rows, strict=True)}, shares),
    snakemake.params.recipe,
    int(snakemake.wildcards.seed),
    output,
    output.parents[3] / ".work" / "training",
    card={
        "base_model": snakemake.wildcards.base,
        "train_language": snakemake.wildcards.train_language,
        "languages": ", ".join(shares),
    },
    tokens_per_batch=snakemake.resources.tokens_per_batch,
    checkpoint_minutes=snakemake.resources.checkpoint_minutes,
    device=snakemake.resources.device,
)
report("ready")
