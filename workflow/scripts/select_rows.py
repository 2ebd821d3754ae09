"""Decide which rows of each part the study keeps."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.models.chat import load_tokenizer, row_reader
from rmtransfer.study.config import load_config
from rmtransfer.study.names import back_name
from rmtransfer.study.study import PREFERENCES, Study
from rmtransfer.texts.corpus import load_ids
from rmtransfer.texts.mixture import check_sizes
from rmtransfer.texts.selection import select_parts
from rmtransfer.texts.split import trained_on

rows = {part: job.by_language(job.input[part]) for part in job.params.parts}
back = job.by("language", job.at.back_rows, job.input.get("back"))
rows[job.params.leading] |= {back_name(language, job.source): path for language, path in back.items()}
bases = job.by("base", job.at.base_model, job.input.get("bases"))
ids = job.by("part", job.at.ids, job.output.ids)
select_parts(
    rows,
    ids,
    job.by("part", job.at.dropped, job.output.dropped),
    job.output.digests,
    job.output.benchmarks,
    read=row_reader({f"base_models.{base}": load_tokenizer(path) for base, path in bases.items()}) if bases else None,
    max_length=job.params.max_length,
    several_rows=job.params.several_rows,
    origins=job.params.origins,
)
# Sizes change no row, so they are no param: whoever adds one to a finished study hears of it when its training starts.
study = Study(load_config(job.config, job.root))
if study.bases:
    mine = trained_on(load_ids(ids[PREFERENCES]), study.config.training.held_out)
    check_sizes(study.training_sets, len(mine))
