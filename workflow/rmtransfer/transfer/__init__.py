"""Scores become outcomes, measures with intervals, and the study's answer.

In:  ``scores/``. Out: ``tables/<benchmark>/``.
``measures`` lists the tables. Imported by the rooms below.
"""

from rmtransfer.transfer import controls  # noqa: F401  # a measure of its own module, listed with the others
