"""Write the main results as a LaTeX and a Markdown table."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.report.paper_tables import write_paper_tables

write_paper_tables(job.input, job.output.latex, job.output.markdown, job.params.source, job.params.origins)
