# How far does a reward model trained in one language carry to another, why, and what does that buy a policy?
#
#   snakemake --cores all                                  the embedded default study, config.yaml
#   snakemake --cores all --configfile studies/yours.yaml  another study
#   snakemake -n                                           what would run, and why
#   snakemake plan --cores 1                               what it would cost
#   snakemake why --cores 1                                what would run, and what changed since it ran last
#   snakemake gpu_check --cores 1                          whether the GPUs are there, and how fast
#   snakemake --report results/sample/report.html          the report, after a run

from snakemake.utils import min_version

min_version("9.20")


# A study is one file: --configfile replaces the default study instead of mixing with it.
if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/run.smk"


report: "workflow/report/workflow.rst"


# The study, in run order.
include: "workflow/rules/corpus.smk"
include: "workflow/rules/translate.smk"
include: "workflow/rules/base_model.smk"
include: "workflow/rules/select.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/transfer.smk"
include: "workflow/rules/scale.smk"
include: "workflow/rules/represent.smk"
include: "workflow/rules/align.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/why.smk"
include: "workflow/rules/check.smk"


rule all:
    default_target: True
    input:
        AT.table.fill(table="translation") if STUDY.translations else [],
        expand(AT.benchmark_table, benchmark=STUDY.benchmarks, table="transfer"),
        expand(AT.paper_table, benchmark=STUDY.benchmarks, format="md"),
        AT.figure.fill(figure="sample_answers", format="html") if ALIGNING.evaluates else [],
        expand(AT.table, table=["variance", "representation", "best_of_n", "agreement", "alignment"])
        if STUDY.bases
        else [],
        [expand(f.path(AT, "{format}"), benchmark=STUDY.benchmarks, format=["png", "pdf"]) for f in figures_of(STUDY)],


onsuccess:
    answer = Path(AT.answer.fill(benchmark=STUDY.leading))
    if answer.is_file():
        print(f"\n{answer.read_text(encoding='utf-8').strip()}\nResults: {AT.folder}/")


onerror:
    print(
        f"\nThe study stopped. The message above names the job; its log is under {AT.folder}/logs/.\n"
        "Mend the cause and run the same command again: finished jobs are kept."
    )
    if not HERE:
        print(
            "Of TIMEOUT, OUT_OF_MEMORY or a memory limit above: --set-resources <rule>:runtime=<minutes> or <rule>:mem_mb=<MB>. "
            "docs/cluster.md says the rest."
        )
