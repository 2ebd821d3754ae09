"""Cross-lingual transfer of reward models: the library behind the Snakemake workflow.

A room a stage, in the order in which data flows; a room imports only from those before it (import-linter holds that):

kit, study, texts, models, translation, scoring, transfer, representation, alignment, report
"""
