"""Write the main result as a LaTeX and a Markdown table."""

from rmtransfer.kit.progress import report, start_job

start_job("write_paper_tables", snakemake.log[0])

from pathlib import Path

from rmtransfer.report.paper_tables import write_paper_tables

write_paper_tables(
    Path(snakemake.input.transfer),
    Path(snakemake.output.latex),
    Path(snakemake.output.markdown),
    snakemake.params.source,
)
report("ready")
