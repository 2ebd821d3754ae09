"""Print what the study will cost."""

from rmtransfer.kit.progress import report, start_job

start_job("plan", snakemake.log[0])

from pathlib import Path

from rmtransfer.report.plan import plan_back, plan_translation, quota_sentence, render_plan
from rmtransfer.study.config import is_given, roles_of, study_languages
from rmtransfer.study.languages import split_variant

config, specs, back = snakemake.params.config, snakemake.params.specs, snakemake.params.back
roles = roles_of(config)
rows = {role: Path(path) for role, path in snakemake.input.items()}
translated = {role: path for role, path in rows.items() if not is_given(roles[role])}
store = Path(snakemake.resources.store)
source = config["languages"]["source"]
expected = {role: entry["expected"] for role, entry in roles.items() if role not in rows and "expected" in entry}
entries = plan_translation(
    specs,
    source,
    translated,
    store,
    Path.cwd(),
    {role: assumed for role, assumed in expected.items() if not is_given(roles[role])},
)
engines = [(spec, source, code) for code, spec in specs.items()]
if back is not None:
    benchmarks = {code: Path(path) for code, path in back["benchmarks"].items()}
    of_benchmark = [{k: v for k, v in known.items() if k == "benchmark"} for known in (rows, expected)]
    untranslated, assumed = of_benchmark
    entries += plan_back(back["spec"], source, benchmarks, untranslated, store, Path.cwd(), assumed)
    engines += [(back["spec"], split_variant(code)[0], source) for code in benchmarks]
report(
    "\n"
    + render_plan(
        config,
        entries,
        rows,
        study_languages(config),
        Path("results") / config["study"],
        Path.cwd(),
        quota_sentence(engines),
    )
)
