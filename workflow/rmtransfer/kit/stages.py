"""One number per stage, raised when its code changes what comes out.

Snakemake does not see edits in an imported library, so every rule passes its stage's number as a param. Raising it reruns
that stage and what depends on it, and leaves the rest cached. Kept apart from the stages so that reading them imports
nothing.
"""

CORPUS = 1
TRANSLATION = 2
BASE_MODEL = 1
SELECTION = 1
TRAINING = 1
SCORING = 1
CONTAMINATION = 1
TRANSFER = 2
PAPER_TABLES = 1
REPRESENTATION = 1
SAMPLING = 1
BEST_OF_N = 1
FIGURES = 2
