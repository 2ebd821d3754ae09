"""Put the components of variance of all benchmarks into one table."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.transfer.evaluate import gather

gather({path.parent.name: path for path in job.input.variance}, job.output.table)
