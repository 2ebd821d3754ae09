"""The words that tables, paths and figures share. Imports nothing."""

# The two answers of a preference pair, in the order in which an item lists them.
SIDES = ("chosen", "rejected")
# A row of the representation tables: the base model itself, before any training.
BASE = "base"
# All languages together, in the representation tables.
ALL = "all"
# The day that chat templates are told it is: what Llama 3.2's says where it knows no clock.
DATE = "2024-07-26"
# Prompts that are no pairs: those that policies are aligned on, those that they are evaluated on, and those whose answers code
# can check.
INSTRUCTIONS, HELD_OUT, CONSTRAINTS = "instructions", "held_out_instructions", "constraints"
# The mean over a benchmark's sections.
AVERAGE = "average"
# What stands for the training language of a model that is not ours.
NOT_OURS = "-"
# Who judges what a reward model picks of sampled answers: our models that are trained in none of its languages.
OTHER_LANGUAGES = "other languages"
# What is in place of the suffix of a file of scores, where a judge gave them: what it said.
JUDGEMENTS = ".judgements.parquet"
# The picking model's own rewards of what it picked.
ITSELF = "itself"
# The source-language reward model on the benchmark translated back into the source language.
TRANSLATE_TEST = "translate-test"
# Families of comparisons, each corrected on its own. The source's model with the same base's model trained in the evaluation
# language; a training set without that language with the same; any other two.
PRIMARY = "primary"
IN_LANGUAGE = "in-language"
OTHER = "other"
# Means of such comparisons: the source's models against the targets' own, and all whole languages' against the in-language one.
SOURCE_AGAINST_TARGETS = "source minus target-language"
FROM_ELSEWHERE = "elsewhere minus in-language"
# A p-value, adjusted within its family, that is below this makes a difference significant.
ALPHA = 0.05

# Where reward models come from that are evaluated in a language: from there, from the source, from any other target.
SOURCE, ELSEWHERE = "source", "elsewhere"
ORIGINS = (IN_LANGUAGE, SOURCE, ELSEWHERE)

# Columns that say which model a table's row is about.
MODEL_COLUMNS = ("base_model", "train_language", "seed")


def back_name(language: str, source: str) -> str:
    """What the rows of a language are called once they are translated back into the source language."""
    return f"{language} in {source}"


def part_name(language: str, pairs: int) -> str:
    """What a training set of so many of a language's pairs is called; no language's code holds a dot."""
    return f"{language}.{pairs}"
