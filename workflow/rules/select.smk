"""One id list per part: the rows that are valid in every language.

In:  the rows of every part in every language; the bases' tokenizers and chat templates.
Out: corpus/<part>.ids.jsonl; corpus/<part>.dropped.csv with every dropped row, its language and the reason;
     corpus/selected.json, digests of what the selected rows hold, by part and language; tables/benchmarks.csv, which
     benchmarks are originals, translations, round trips or native, and how many rows they keep.
"""

import functools
import json

from snakemake.exceptions import IncompleteCheckpointException
from snakemake.io import checkpoint_target


# A checkpoint, so that a changed list reruns what depends on it and an unchanged one reruns nothing. One for all parts:
# nothing expensive starts before every text of the study is there in every language.
checkpoint select_rows:
    input:
        **{part: STUDY.rows(part) for part in STUDY.parts},
        back=expand(AT.back_rows, part=STUDY.leading, language=STUDY.translated_back),
        # Only training cuts at max_length; a benchmark is scored whole.
        bases=expand(AT.base_model, base=STUDY.bases),
        templates=ancient(AT.templates) if TEMPLATES else [],
    output:
        ids=expand(AT.ids, part=STUDY.parts),
        dropped=expand(AT.dropped, part=STUDY.parts),
        digests=AT.digests,
        benchmarks=AT.table.fill(table="benchmarks"),
    log:
        "<logs>/select_rows.log",
    conda:
        "../../envs/train.yaml"
    resources:
        **asks(lambda wildcards: NEEDS.selecting()),
    params:
        parts=list(STUDY.parts),
        leading=STUDY.leading,
        max_length={"preferences": STUDY.config.training.max_length},
        # An item of RewardBench 2 is several rows, of use only together.
        several_rows=[benchmark for benchmark in STUDY.benchmarks if STUDY.sections(benchmark) == "rewardbench2"],
        origins=STUDY.origins,
        version=stages.SELECTION.version,
    script:
        "../scripts/select_rows.py"


def selection():
    """What selection wrote. Where one of its files is lost, it has to be asked for: Snakemake would ask for the first of them,
    and give that to the job in place of the one that the job asks for.
    """
    try:
        return checkpoints.select_rows.get().output
    except IncompleteCheckpointException as waiting:
        lost = [path for path in rules.select_rows.output if not Path(path).exists()]
        waiting.targetfile = checkpoint_target(lost[0]) if lost else waiting.targetfile
        raise


def ids_of(part):
    """The id list of a part, once every text of the study is there. Content counts, not age: rules take it and the rows as
    ancient() input and pass content_of() as a param, so that what is made again and comes out the same reruns nothing.
    """

    def ids(wildcards):
        selection()
        return AT.ids.fill(part=part.format(**dict(wildcards.items())))

    return ids


@functools.cache  # once they are there: before, the checkpoint raises
def selected():
    return json.loads(Path(selection().digests).read_text("utf-8"))


def content_of(part, languages):
    return [selected()[part][language] for language in languages]
