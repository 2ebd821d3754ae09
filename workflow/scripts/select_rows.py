"""Decide which rows of a role the study keeps."""

from rmtransfer.progress import report, start_job

start_job(f"select_rows {snakemake.wildcards.role}", snakemake.log[0])

from pathlib import Path

from rmtransfer.corpus import load_rows, save_ids, write_ledger
from rmtransfer.selection import select_rows

count = None
if snakemake.params.max_length is not None:
    from rmtransfer.chat import longest_conversation

    count = longest_conversation([Path(base) for base in snakemake.input.bases])

rows = {
    language: load_rows(Path(path))
    for language, path in zip(snakemake.params.languages, snakemake.input.rows, strict=True)
}
kept, dropped = select_rows(rows, count, snakemake.params.max_length)
write_ledger(Path(snakemake.output.dropped), dropped)
save_ids(kept, Path(snakemake.output.ids))
report(f"{len(kept):,} rows kept, {len({entry['id'] for entry in dropped}):,} dropped in all languages")
