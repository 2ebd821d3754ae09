"""Put what every translation job counted into one table."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

import pandas as pd

measures = [pd.read_csv(path, keep_default_na=False) for path in job.input.measures]
pd.concat(measures).to_csv(job.output.table, index=False)
