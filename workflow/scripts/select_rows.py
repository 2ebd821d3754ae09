"""Decide which rows of each part the study keeps."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.models.chat import longest_conversation
from rmtransfer.study.names import back_name
from rmtransfer.texts.selection import select_parts

rows = {part: job.by_language(job.input[part]) for part in job.params.parts}
back = job.by("language", job.at.back_rows, job.input.get("back"))
rows[job.params.leading] |= {back_name(language, job.source): path for language, path in back.items()}
select_parts(
    rows,
    job.by("part", job.at.ids, job.output.ids),
    job.by("part", job.at.dropped, job.output.dropped),
    job.output.digests,
    job.output.benchmarks,
    tokens=longest_conversation(job.input.get("bases") or []),
    max_length=job.params.max_length,
    several_rows=job.params.several_rows,
    origins=job.params.origins,
)
