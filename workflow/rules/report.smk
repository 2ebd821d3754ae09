"""Figures with captions, one rule each, made from the catalogue. The HTML report is made from them by snakemake --report.

In:  the tables.
Out: figures/<name>.png and .pdf, figures/<benchmark>/<name>.png and .pdf.
"""

from rmtransfer.report.catalogue import figures_of

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
