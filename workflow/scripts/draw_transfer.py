"""Draw what a benchmark says of all reward models."""

from rmtransfer.kit.progress import report, start_job

start_job("draw_transfer", snakemake.log[0])

from pathlib import Path

from rmtransfer.report.figures import draw_consistency, draw_length_bias, draw_rewards, draw_transfer

table = {name: Path(path) for name, path in snakemake.input.items()}
figure = {name: [Path(path) for path in paths] for name, paths in snakemake.output.items()}
style = snakemake.params.style
draw_transfer(
    table["transfer"],
    table["significance"],
    table["length_baseline"],
    figure["transfer"],
    figure["sections"],
    **style,
)
draw_consistency(table["consistency"], figure["consistency"], **style)
draw_rewards(table["rewards"], table["calibration"], figure["rewards"], **style)
draw_length_bias(table["length_bias"], figure["length_bias"], **style)
report("ready")
