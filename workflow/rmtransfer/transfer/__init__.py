"""Scores become outcomes, measures with intervals, and the study's answer.

In:  ``scores/``. Out: ``tables/<benchmark>/``.
``measures`` lists the tables. Imported by the rooms below.
"""
