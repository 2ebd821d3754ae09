"""Put a TMX file into the translation store."""

from rmtransfer.kit.progress import report, start_job

start_job("import_memory", snakemake.log[0])

from pathlib import Path

from rmtransfer.translation.exchange import import_memory

if not snakemake.input.get("memory"):
    report("nothing to import: name a TMX file in translation.memory")
else:
    count = import_memory(
        snakemake.params.specs,
        snakemake.params.source,
        Path(snakemake.input.memory),
        Path(snakemake.resources.store),
        Path.cwd(),
    )
    report(f"{count:,} translations are in {snakemake.resources.store}")
