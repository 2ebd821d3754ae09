"""Read, validate and store the rows of one part in one language."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.texts.corpus import import_rows

import_rows(
    job.params.entry,
    job.wildcards.part,
    job.params.language,
    job.root,
    job.output.rows,
    job.root / job.params.ledger,
    job.resources.sections or None,
    job.input.get("original"),
)
