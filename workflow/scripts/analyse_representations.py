"""Compare the hidden states of all models."""

from rmtransfer.kit.progress import report, start_job

start_job("analyse_representations", snakemake.log[0])

from pathlib import Path

from rmtransfer.representation.analysis import analyse_representations

paths = iter(map(Path, snakemake.input.states))
analyse_representations(
    {
        tuple(labels): {language: next(paths) for language in snakemake.params.languages}
        for labels in snakemake.params.models
    },
    Path(snakemake.output.table),
    Path(snakemake.output.coordinates),
    centered=snakemake.params.centered,
)
report("ready")
