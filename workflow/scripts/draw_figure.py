"""Draw one figure."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.report.catalogue import draw

draw(job.params.figure, job.input, [job.output.png, job.output.pdf], job.params.names, job.params.style)
