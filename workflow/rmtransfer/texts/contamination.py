"""Benchmark prompts that a reward model may have seen in training.

Looked for in the source language, before translation: a prompt that is in both is in both in every language. A benchmark
that was written in one language is compared with the training data in that language.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.progress import report
from rmtransfer.study.names import HELD_OUT
from rmtransfer.texts.corpus import Row, iter_rows, texts_of, write_ledger

COLUMNS = ("id", "kind", "overlap")
N_GRAM = 13  # words (Brown et al., arXiv 2005.14165, appendix C)
_ENOUGH = 0.5
_SHOWN = 5
# Vowel signs of Indic scripts and of Thai are marks, which \w leaves out.
_MARKS = "".join(c for c in map(chr, range(0x10000)) if unicodedata.category(c) in ("Mn", "Mc"))
_WORD = re.compile(rf"\w[\w{_MARKS}]*")
_UNSPACED = re.compile(  # each character, with its marks, a unit
    rf"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff][{_MARKS}]*"
)


def find_contaminated(prompts: Mapping[str, str], training: Iterable[str], n: int = N_GRAM) -> list[dict]:
    """Prompts that occur in training prompts: entries of ``id``, ``kind`` and ``overlap``.

    ``exact``: the same words in the same order, whatever their case, punctuation and spacing. ``ngram``: at least half of
    the prompt's n-grams occur in training prompts. A prompt of fewer than n words is only looked for as a whole.

    Args:
        prompts: id to benchmark prompt.
        training: the training prompts; read once.
        n: words to an n-gram; a character counts as a word in scripts that put no spaces between words.
    """
    words = {identity: _words(prompt) for identity, prompt in prompts.items()}
    wholes = {tuple(these) for these in words.values() if these}
    wanted = {gram for these in words.values() for gram in _grams(these, n)}
    seen_wholes: set[tuple[str, ...]] = set()
    seen: set[tuple[str, ...]] = set()
    for prompt in training:
        these = _words(prompt)
        if tuple(these) in wholes:
            seen_wholes.add(tuple(these))
        seen.update(gram for gram in _grams(these, n) if gram in wanted)
    found = []
    for identity, these in words.items():
        grams = list(_grams(these, n))
        overlap = sum(gram in seen for gram in grams) / len(grams) if grams else 0.0
        if tuple(these) in seen_wholes:
            found.append({"id": identity, "kind": "exact", "overlap": 1.0})
        elif overlap >= _ENOUGH:
            found.append({"id": identity, "kind": "ngram", "overlap": round(overlap, 3)})
    return found


def write_contamination(benchmark: Path, training: Path | None, output: Path) -> int:
    """List a benchmark's contaminated rows as CSV; return their number.

    Args:
        benchmark, training: Parquet files of rows in one language; training is None where nothing is trained.
    """
    prompts = {row["id"]: _prompt(row) for row in iter_rows(benchmark, ("id", "prompt"))}
    found = find_contaminated(prompts, map(_prompt, iter_rows(training, ("prompt",))) if training else [])
    write_ledger(output, found, COLUMNS)
    report(f"{len(found):,} benchmark rows have prompts of the training data")
    return len(found)


def check_held_out(instructions: Path, held_out: Path) -> None:
    """Refuse held-out instructions that a policy is aligned on.

    Args:
        instructions, held_out: Parquet files of rows in the source language.

    Raises:
        StudyError: an instruction is in both, by its id, or as :func:`find_contaminated` finds it.
    """
    ours = {row["id"]: _prompt(row) for row in iter_rows(instructions, ("id", "prompt"))}
    theirs = {row["id"]: _prompt(row) for row in iter_rows(held_out, ("id", "prompt"))}
    both = dict.fromkeys(
        [*(i for i in theirs if i in ours), *(f["id"] for f in find_contaminated(theirs, ours.values()))]
    )
    if both:
        shown = ", ".join(map(repr, list(both)[:_SHOWN])) + (", ..." if len(both) > _SHOWN else "")
        raise StudyError(
            f"{HELD_OUT}: {len(both):,} of {len(theirs):,} rows are among the instructions that policies are aligned on, by id or by "
            f"text ({shown}); remove them from one of the two"
        )


def _prompt(row: Row) -> str:
    return "\n".join(texts_of(row, ["prompt"]))


def _words(text: str) -> list[str]:
    normal = unicodedata.normalize("NFKC", text).casefold()
    return _WORD.findall(_UNSPACED.sub(lambda character: f" {character.group()} ", normal))


def _grams(words: list[str], n: int) -> Iterator[tuple[str, ...]]:
    return (tuple(words[i : i + n]) for i in range(len(words) - n + 1))
