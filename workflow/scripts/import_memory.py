"""Put a TMX file into the translation store."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.translation.exchange import import_memory

import_memory(job.params.specs, job.source, job.input.get("memory"), job.root / job.resources.store, job.root)
