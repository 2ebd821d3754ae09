"""Judge what each reward model picks by the others."""

from rmtransfer.kit.progress import report, start_job

start_job("evaluate_best_of_n", snakemake.log[0])

from pathlib import Path

from rmtransfer.alignment.best_of_n import evaluate_best_of_n

paths = iter(map(Path, snakemake.input.rewards))
evaluate_best_of_n(
    {
        (base, train, int(seed)): {language: next(paths) for language in snakemake.params.languages}
        for base, train, seed in snakemake.params.models
    },
    snakemake.params.best_of,
    Path(snakemake.output.table),
)
report("ready")
