"""Write every text of the study with all its translations as TMX."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.translation.exchange import export_memory

export_memory(
    job.params.specs,
    job.source,
    job.input.only(*job.params.parts),
    job.root / job.resources.store,
    job.root,
    job.output.memory,
)
