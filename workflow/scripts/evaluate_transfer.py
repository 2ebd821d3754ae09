"""Turn scores into the transfer table and the answer."""

from rmtransfer.progress import report, start_job

start_job("evaluate_transfer", snakemake.log[0])

from pathlib import Path

from rmtransfer.transfer import evaluate_transfer

paths = iter(map(Path, snakemake.input.scores))
answer = evaluate_transfer(
    {
        (base, train, int(seed)): [next(paths) for _ in snakemake.params.languages]
        for base, train, seed in snakemake.params.models
    },
    snakemake.params.source,
    Path(snakemake.output.transfer),
    Path(snakemake.output.baseline),
    Path(snakemake.output.answer),
)
report(answer)
