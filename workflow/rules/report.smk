"""Figures with captions, one rule each, made from the catalogue. The HTML report is made from them by snakemake --report.

In:  the tables.
Out: figures/<name>.png and .pdf, figures/<benchmark>/<name>.png and .pdf; figures/sample_answers.html.
"""

from rmtransfer.report.catalogue import SAMPLE_ANSWERS, figures_of


rule write_sample_answers:
    input:
        comparisons=rules.evaluate_alignment.input.comparisons,
    output:
        page=report(
            AT.figure.fill(figure="sample_answers", format="html"),
            caption="../report/figure.rst",
            category="3. Alignment",
            labels={"figure": "sample answers"},
        ),
    log:
        "<logs>/write_sample_answers.log",
    conda:
        "../../envs/analyse.yaml"
    resources:
        **LIGHT,
    params:
        caption=SAMPLE_ANSWERS,
        source=STUDY.source,
        version=stages.FIGURES.version,
    script:
        "../scripts/write_sample_answers.py"


for figure in figures_of(STUDY):
    job = "{benchmark}" if figure.of_benchmark else "study"

    rule:
        name:
            f"draw_{figure.name}"
        input:
            **figure.table_paths(AT),
        output:
            png=report(
                figure.path(AT, "png"),
                caption="../report/figure.rst",
                category=figure.category,
                labels={"figure": ("{benchmark} " if figure.of_benchmark else "") + figure.name.replace("_", " ")},
            ),
            pdf=figure.path(AT, "pdf"),
        log:
            f"<logs>/draw_{figure.name}/{job}.log",
        conda:
            "../../envs/analyse.yaml"
        resources:
            **LIGHT,
        params:
            figure=figure.name,
            caption=figure.caption,
            names={name: getattr(STUDY, name) for name in figure.names},
            style=config["figures"],
            version=stages.FIGURES.version,
        script:
            "../scripts/draw_figure.py"
