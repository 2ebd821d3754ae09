"""Draw the transfer matrix and the section panels."""

from rmtransfer.progress import report, start_job

start_job("draw_transfer", snakemake.log[0])

from pathlib import Path

from rmtransfer.figures import draw_transfer

draw_transfer(
    Path(snakemake.input.table),
    Path(snakemake.input.baseline),
    [Path(path) for path in snakemake.output.heatmap],
    [Path(path) for path in snakemake.output.sections],
    **snakemake.params.style,
)
report("ready")
