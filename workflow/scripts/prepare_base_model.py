"""Bring one base model into the study."""

from rmtransfer.kit.progress import report, start_job

start_job(f"prepare_base_model {snakemake.wildcards.base}", snakemake.log[0])

from pathlib import Path

from rmtransfer.models.base import prepare_base_model

template = snakemake.input.get("chat_template")
prepare_base_model(
    snakemake.params.spec,
    snakemake.wildcards.base,
    Path.cwd(),
    Path(snakemake.output.folder),
    chat_template=Path(template).read_text(encoding="utf-8") if template else None,
)
report("ready")
