"""Hidden states become measures of what training does to them, and of how alike languages are in them.

In:  ``hidden_states/``. Out: ``tables/representation.csv``, ``tables/pca.csv``.
Imported by the rooms below.
"""
