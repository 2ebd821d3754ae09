"""Put what every translation job counted into one table."""

from rmtransfer.kit.progress import report, start_job

start_job("summarise_translation", snakemake.log[0])

import pandas as pd

pd.concat([pd.read_csv(path, keep_default_na=False) for path in snakemake.input.measures]).to_csv(
    snakemake.output.table, index=False
)
report("ready")
