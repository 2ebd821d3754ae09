"""Read, validate and store the rows of one role in one language."""

from rmtransfer.kit.progress import report, start_job

start_job(f"read_rows {snakemake.wildcards.role} {snakemake.params.language}", snakemake.log[0])

from pathlib import Path

from rmtransfer.texts.corpus import import_rows

rows = import_rows(
    snakemake.params.source,
    snakemake.wildcards.role,
    snakemake.params.language,
    Path.cwd(),
    Path(snakemake.output.rows),
    Path(snakemake.params.ledger),
    snakemake.resources.sections or None,
)
report(f"{len(rows):,} rows")
