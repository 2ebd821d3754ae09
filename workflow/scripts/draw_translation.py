"""Draw what became of every translated text."""

from rmtransfer.kit.progress import report, start_job

start_job("draw_translation", snakemake.log[0])

from pathlib import Path

from rmtransfer.report.figures import draw_translation

draw_translation(
    Path(snakemake.input.table), [Path(path) for path in snakemake.output.outcomes], **snakemake.params.style
)
report("ready")
