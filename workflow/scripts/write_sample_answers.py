"""Write a page of sample answers."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.report.sample_answers import write_sample_answers

grouped = job.grouped("policy", job.at.comparisons, job.input.comparisons)
write_sample_answers(
    {policy: job.by_language(files) for policy, files in grouped.items()}, job.params.source, job.output.page
)
