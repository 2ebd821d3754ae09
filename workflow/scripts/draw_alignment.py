"""Draw the best-of-n curves."""

from rmtransfer.kit.progress import report, start_job

start_job("draw_alignment", snakemake.log[0])

from pathlib import Path

from rmtransfer.report.figures import draw_alignment

draw_alignment(Path(snakemake.input.table), [Path(path) for path in snakemake.output.curves], **snakemake.params.style)
report("ready")
