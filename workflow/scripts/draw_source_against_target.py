"""Draw the source-language reward model against the target-language ones."""

from rmtransfer.kit.progress import report, start_job

start_job("draw_source_against_target", snakemake.log[0])

from pathlib import Path

from rmtransfer.report.figures import draw_source_against_target

draw_source_against_target(
    Path(snakemake.input.seeds),
    [Path(path) for path in snakemake.output.dumbbell],
    snakemake.params.source,
    **snakemake.params.style,
)
report("ready")
