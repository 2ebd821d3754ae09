"""Write every text of the study with all its translations as TMX."""

from rmtransfer.kit.progress import report, start_job

start_job("export_memory", snakemake.log[0])

from pathlib import Path

from rmtransfer.translation.exchange import export_memory

count = export_memory(
    snakemake.params.specs,
    snakemake.params.source,
    dict(zip(snakemake.params.roles, map(Path, snakemake.input.rows), strict=True)),
    Path(snakemake.resources.store),
    Path.cwd(),
    Path(snakemake.output.memory),
)
report(f"{count:,} texts in {snakemake.output.memory}")
