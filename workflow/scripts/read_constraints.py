"""Read the instructions whose answers code can check."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

from rmtransfer.alignment.constraints.rows import load_constraints, save_constraints
from rmtransfer.kit.progress import report

for path, rows_path, left_out_path in zip(job.input.rows, job.output.rows, job.output.left_out, strict=True):
    language = job.at.language_of(rows_path)
    rows, left_out = load_constraints(path, language, job.params.languages)
    report(f"{language}: {len(rows):,} instructions, {len(left_out):,} left out")
    left_out.to_csv(left_out_path, index=False)
    save_constraints(rows, rows_path)
