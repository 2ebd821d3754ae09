"""What reading, translating from the store, selecting and looking for contamination take, by the number of rows.

python -m benchmarks.rows_at_scale --record

Pairs are made up, of answers of 1,000 to 2,000 characters; "translated" is what the store says at once. Every stage runs in a process
of its own, as in a study, on the files of the one before: a corpus in the source language and in ``--languages`` others.
"""

import json
import random
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from benchmarks.common import Finished, Gain, Table, in_new_process, machine, parser_of, peak_memory, publish, say
from benchmarks.dry_run import growth

SIZES = (10_000, 43_000, 86_000)
STAGES = ("read_rows", "fill_store", "translate_rows", "select_rows", "select_rows by length", "find_contamination")
_WORDS = 5_000
_BENCHMARK = 3_000  # rows


def sentences(draw: random.Random, words: Sequence[str], characters: int) -> str:
    """Prose of about this many characters, in lines of a few sentences."""
    text: list[str] = []
    length = 0
    while length < characters:
        text.append(" ".join(draw.choices(words, k=12)).capitalize() + (".\n" if draw.random() < 0.1 else "."))
        length += len(text[-1]) + 1
    return " ".join(text)


def make_rows(path: Path, count: int, seed: int) -> None:
    """Write pairs as JSONL: prompts of 50 to 500 characters, answers of 1,000 to 2,000."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(_WORDS)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            row = {"id": f"row{number:06d}", "subset": "chat", "prompt": sentences(draw, words, draw.randint(50, 500))}
            row |= {side: sentences(draw, words, draw.randint(1_000, 2_000)) for side in ("chosen", "rejected")}
            file.write(json.dumps(row) + "\n")


class Asked:
    """An engine that has been asked for everything: what it said is in the store."""

    lock = "asked"

    def __init__(self, target: str) -> None:
        from rmtransfer.translation.store import Scope
        from rmtransfer.translation.structure import Splitting

        self.source, self.target = "en", target
        self.scope = Scope("asked", {}, "en", target)
        self.splitting = Splitting("text", spans_inside=True, limit=0)


def run_stage(stage: str, folder: Path, languages: Sequence[str], tokenizer: Path | None) -> None:
    """Do what a stage's job does, and say how much memory it took."""
    entry = {"invalid_rows": "stop"}
    if stage == "read_rows":
        from rmtransfer.texts.corpus import import_rows

        for part in ("preferences", "benchmark"):
            given = {**entry, "path": f"{part}.jsonl"}
            import_rows(given, part, "en", folder, folder / f"en.{part}.parquet", folder / "rejected.csv")
    elif stage == "fill_store":
        from rmtransfer.texts.corpus import PAIR_FIELDS, iter_rows, texts_of
        from rmtransfer.translation.pipeline import adopt
        from rmtransfer.translation.store import SegmentStore, Translation

        store = SegmentStore(folder / "store.sqlite")
        for language in languages:
            rows = iter_rows(folder / "en.preferences.parquet")
            while these := list(islice(rows, 1_000)):
                texts = [text for row in these for text in texts_of(row, PAIR_FIELDS)]
                adopt({text: Translation(text.swapcase()) for text in texts}, Asked(language), store)  # type: ignore[arg-type]
    elif stage == "translate_rows":
        from rmtransfer.translation.rows import translate_rows

        for language in languages:
            output = folder / f"{language}.preferences.parquet"
            translate_rows(
                folder / "en.preferences.parquet",
                "preferences",
                language,
                Asked(language),  # type: ignore[arg-type]
                folder / "store.sqlite",
                output,
                output.with_suffix(".dropped.csv"),
                output.with_suffix(".measures.csv"),
            )
    elif stage.startswith("select_rows"):
        from rmtransfer.models.chat import load_tokenizer, row_reader
        from rmtransfer.texts.selection import select_parts

        files = {language: folder / f"{language}.preferences.parquet" for language in ("en", *languages)}
        by_length = stage != "select_rows" and tokenizer is not None
        select_parts(
            {"preferences": files},
            {"preferences": folder / "ids.jsonl"},
            {"preferences": folder / "dropped.csv"},
            folder / "selected.json",
            folder / "benchmarks.csv",
            read=row_reader({"base_models.base": load_tokenizer(tokenizer)}) if by_length and tokenizer else None,
            max_length={"preferences": 100_000} if by_length else {},
            several_rows=(),
            origins={},
        )
    else:
        from rmtransfer.texts.contamination import write_contamination

        write_contamination(folder / "en.benchmark.parquet", folder / "en.preferences.parquet", folder / "flagged.csv")
    say(gigabytes=peak_memory())


def main() -> None:
    parser = parser_of(__doc__, "rows_at_scale")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of rows")
    parser.add_argument("--languages", nargs="+", default=["es", "it"], help="to translate into")
    parser.add_argument("--tokenizer", type=Path, help="folder of a base model: rows are selected by length, too")
    parser.add_argument("--stage", choices=STAGES, help="of this script's own processes")
    parser.add_argument("--folder", type=Path, help="of this script's own processes")
    arguments = parser.parse_args()
    if arguments.stage:
        run_stage(arguments.stage, arguments.folder, arguments.languages, arguments.tokenizer)
        return
    stages = [stage for stage in STAGES if arguments.tokenizer is not None or "length" not in stage]
    measured: dict[str, list[Finished]] = {stage: [] for stage in stages}
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as name:
            for part, count in (("preferences", size), ("benchmark", _BENCHMARK)):
                make_rows(Path(name) / f"{part}.jsonl", count, count)
            for stage in stages:
                options = ["--stage", stage, "--folder", name, "--languages", *arguments.languages]
                options += ["--tokenizer", arguments.tokenizer] if arguments.tokenizer is not None else []
                measured[stage].append(in_new_process("rows_at_scale", options, arguments.threads))
                print(size, stage, measured[stage][-1], flush=True)
    rows = []
    for stage, runs in measured.items():
        row = {"stage": stage}
        for size, run in zip(arguments.sizes, runs, strict=True):
            row |= {
                f"{size:,} rows: s": f"{run.seconds:.1f}",
                f"{size:,}: CPU s": f"{run.cpu:.1f}",
                f"{size:,}: GB": f"{run.said['gigabytes']:.2f}",
            }
        if len(runs) > 1:
            memory = [run.said["gigabytes"] for run in runs]
            row["memory grows with rows to the power of"] = f"{growth(arguments.sizes, memory):.2f}"
        rows.append(row)
    publish(
        "rows_at_scale",
        machine(arguments.threads),
        "python -m benchmarks.rows_at_scale" + (" --tokenizer BASE" if arguments.tokenizer else ""),
        [
            Gain(
                f"{stage} of {arguments.sizes[-1]:,} pairs", "", f"{run.cpu:.0f} CPU s, {run.said['gigabytes']:.2f} GB"
            )
            for stage, runs in measured.items()
            for run in runs[-1:]
        ],
        [Table(rows, [f"Source and {len(arguments.languages)} other languages; a benchmark of {_BENCHMARK:,} pairs."])],
        record=arguments.record,
    )


if __name__ == "__main__":
    main()
