"""Replies of judges and files of kinds that the field has: kind and outcome. Part of tests/field.py."""

import bz2
import gzip
import json
import lzma
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save

from rmtransfer.kit.errors import StudyError
from rmtransfer.models.options import check_model
from rmtransfer.scoring.judge import JudgeOptions
from rmtransfer.scoring.verdicts import Reasoning, find_verdict, verdict_form
from rmtransfer.study.catalogue import JUDGE_PROTOCOLS, load
from rmtransfer.texts.corpus import import_rows, load_rows

# Mode, how the reply ended (None: nobody knows), the reply, the tags that the study names.
REPLIES = (
    ("pairwise", False, "<think>I have to end with [[A]] if A is better, or [[B]] if B is. Answer A says that", ()),
    ("pairwise", False, "So far [[A]] looks better, but there is one more point, namely", ()),
    ("rating", False, "<think>The form is [[5]]. Now the answer: it is", ()),
    ("pairwise", True, "<think>Is it [[B]]?</think>No, the first one. [[A]]", ()),
    ("pairwise", None, "<think>Is it [[B]], or", ()),
    ("pairwise", None, "[[B]]", ()),
    ("pairwise", True, "<|channel|>analysis<|message|>I have to end with [[B]]", ()),
    ("pairwise", True, "<plan>Is it [[B]], or", ("<plan>", "</plan>")),
    ("rating", True, "[[7.5]]", ()),
    ("rating", True, "[[7,5]]", ()),
    ("rating", True, "[[10.5]]", ()),
    ("rating", True, "[[-5]]", ()),
)
ROWS = [{"id": f"a{i}", "prompt": "Name a metal.", "chosen": "Iron.", "rejected": "Wood."} for i in range(2)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
MODEL = {"config.json": b"{}", "model.safetensors": save({}), "tokenizer.json": b"{}"}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def cases() -> Iterator[tuple[str, str]]:
    """Kind of input, and its outcome."""
    for mode, finished, reply, tags in REPLIES:
        ended = {True: "finished", False: "cut off", None: "end unknown"}[finished]
        yield f"judge, {mode}, {ended}: {reply}", _judged(mode, finished, reply, tags)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in _files(Path(folder)).items():
            yield f"rows, {name}", _read(Path(folder) / "rows.jsonl", content)
        for number, (name, files) in enumerate(_folders().items()):
            yield f"model, {name}", _named(Path(folder) / f"model{number}", files)


def _judged(mode: str, finished: bool | None, reply: str, tags: tuple[str, ...]) -> str:
    reasoning, form = Reasoning(tags), verdict_form("brackets", mode)
    if finished is False or reasoning.unfinished(reply):
        return "no verdict, counted as cut off"
    protocol = load(JUDGE_PROTOCOLS, mode)(JudgeOptions(kind="judge", mode=mode, path="x"), form)
    found = find_verdict(reply, form, reasoning)
    verdict = None if found is None else protocol.verdict(found)
    return "no verdict, counted as off the form" if verdict is None else f"verdict {verdict}"


def _files(folder: Path) -> dict[str, bytes]:
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "table")
    parquet = (folder / "table").read_bytes()
    return {
        "JSON Lines": LINES.encode(),
        "a JSON array": json.dumps(ROWS, indent=2).encode(),
        "UTF-16": LINES.encode("utf-16"),
        "UTF-8 with a byte order mark": LINES.encode("utf-8-sig"),
        "gzip": gzip.compress(LINES.encode()),
        "bzip2": bz2.compress(LINES.encode()),
        "xz": lzma.compress(LINES.encode()),
        "Parquet called .jsonl": parquet,
        "Parquet cut off": parquet[:-9],
        "gzip cut off": gzip.compress(LINES.encode())[:-9],
        "zstd": b"\x28\xb5\x2f\xfd",
        "CSV": b"id,prompt,chosen,rejected\na,b,c,d\n",
        "JSON over several lines": json.dumps(ROWS[0], indent=2).encode(),
        "a web page": b"<!DOCTYPE html>\n",
        "a Git LFS pointer": POINTER,
        "nothing": b"",
        "no row that is valid": LINES.replace("chosen", "preferred").encode(),
    }


def _folders() -> dict[str, dict[str, bytes]]:
    less = {left: {name: content for name, content in MODEL.items() if name != left} for left in MODEL}
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
    shard = {"model.safetensors.index.json": index, "model-1.safetensors": save({})}
    return {
        "whole": MODEL,
        "empty": {},
        "an adapter": {
            "adapter_config.json": b'{"base_model_name_or_path": "org/base"}',
            "adapter_model.safetensors": b"",
        },
        "GGUF": {"model.Q4_K_M.gguf": b"GGUF"},
        "quantised": {**MODEL, "config.json": b'{"quantization_config": {"quant_method": "gptq"}}'},
        "a shard that is missing": less["model.safetensors"] | shard,
        "a Git LFS pointer": {**MODEL, "model.safetensors": POINTER},
        "cut off": {**MODEL, "model.safetensors": b"\x99\0\0\0\0\0\0\0{"},
        "no tokenizer": less["tokenizer.json"],
        "no weights": less["model.safetensors"],
        "no configuration": less["config.json"],
    }


def _read(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    entry = {"path": path.name, "invalid_rows": "drop"}
    try:
        import_rows(entry, "preferences", "en", path.parent, path.with_suffix(".out"), path.with_suffix(".csv"))
    except StudyError as problem:
        return "refused: " + " ".join(str(problem).replace(f"{path.parent}/", "").split())
    return f"read, {len(load_rows(path.with_suffix('.out')))} rows"


def _named(folder: Path, files: dict[str, bytes]) -> str:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    problems = list(check_model(folder.name, None, "reward_models.x.path", "revision", (), folder.parent))
    return f"refused: {problems[0]}" if problems else "left to the loader"
