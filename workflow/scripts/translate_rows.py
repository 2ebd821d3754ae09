"""Translate the rows of one role into one language."""

from rmtransfer.progress import report, start_job

start_job(f"translate_rows {snakemake.wildcards.role} {snakemake.wildcards.language}", snakemake.log[0])

from pathlib import Path

from rmtransfer.corpus import fields_of, load_rows, save_rows
from rmtransfer.translation import translate_rows
from rmtransfer.translation.memory import TranslationMemory

rows = translate_rows(
    load_rows(Path(snakemake.input.rows)),
    fields_of(snakemake.wildcards.role),
    TranslationMemory(Path(snakemake.input.memory)),
    snakemake.params.source,
    snakemake.wildcards.language,
)
save_rows(rows, Path(snakemake.output.rows))
report(f"{len(rows):,} rows")
