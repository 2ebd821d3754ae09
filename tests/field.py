"""What becomes of inputs such as real files and public reports have shown: each kind, and its outcome before and now.

PYTHONPATH=workflow:tests python tests/field.py
"""

import contextlib
import io

import field_files
import field_models
import field_rows

# What became of kinds, by how their names begin, when public reports were first tried; of others it was not written down.
BEFORE = {
    "row: answer": "kept, and the reward was read after the other role's message",
    "row: keys with null": "refused",
    "chat template with today's date": "another text every day, days mixed in one store",
    "pair: a system message, where": "a traceback in select_rows, after the translation",
    "pair: two questions": "a traceback in select_rows, after the translation",
    "pair: sides": "trained on without a gradient, judged as a certain tie",
    "bloom-base": "a crash at training: no layers by that name",
    "policy-with-one-more-token": "refused, though no text holds the token",
    "base of the family gpt2": "called no causal language model",
    "base of the family opt": "a crash at training: no layers by that name",
    **dict.fromkeys(
        [f"base of the family {family}" for family in ("cohere", "granite", "xglm", "gemma3")],
        "a crash at training: no class for sequence classification",
    ),
    "a base of 64 positions": "trained and scored beyond its positions",
    "judge, pairwise, cut off": "a verdict",
    "judge, pairwise, end unknown: <think>": "a verdict",
    "judge, rating, cut off": "a verdict",
    "judge, rating, finished: [[7": "no verdict",
}


def show() -> None:
    """Print every kind with its outcomes, and nothing of what is reported on the way."""
    for module in (field_rows, field_models, field_files):
        print(f"\n{module.__doc__.partition(':')[0]}")
        cases = module.cases()
        while True:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                found = next(cases, None)
            if found is None:
                break
            kind, outcome = found
            before = next((said for begins, said in BEFORE.items() if kind.startswith(begins)), None)
            print(f"  {kind}")
            if before:
                print(f"      before: {before}")
            print(f"      now: {' '.join(outcome.split())}", flush=True)


if __name__ == "__main__":
    show()
