"""The words that tables, paths and figures share. Imports nothing."""

# The two answers of a preference pair, in the order in which an item lists them.
SIDES = ("chosen", "rejected")
# A row of the representation tables: the base model itself, before any training.
BASE = "base"
# All languages together, in the representation tables.
ALL = "all"
# The mean over a benchmark's sections.
AVERAGE = "average"
# What stands for the training language of a model that is not ours.
NOT_OURS = "-"
# Who judges what a reward model picks of sampled answers: our models that are trained in none of its languages.
OTHER_LANGUAGES = "other languages"
# The source-language reward model on the benchmark translated back into the source language.
TRANSLATE_TEST = "translate-test"
# A family of comparisons: with the same base's model trained in the evaluation language.
IN_LANGUAGE = "in-language"
# A p-value, adjusted within its family, that is below this makes a difference significant.
ALPHA = 0.05

# Columns that say which model a table's row is about.
MODEL_COLUMNS = ("base_model", "train_language", "seed")


def back_name(language: str, source: str) -> str:
    """What the rows of a language are called once they are translated back into the source language."""
    return f"{language} in {source}"
