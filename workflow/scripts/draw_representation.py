"""Draw the PCA panels, the shift from the base, the singular-value share and the norms."""

from rmtransfer.kit.progress import report, start_job

start_job("draw_representation", snakemake.log[0])

from pathlib import Path

from rmtransfer.report.figures import draw_representation

draw_representation(
    Path(snakemake.input.table),
    Path(snakemake.input.coordinates),
    [Path(path) for path in snakemake.output.pca],
    [Path(path) for path in snakemake.output.shift],
    **snakemake.params.style,
)
report("ready")
