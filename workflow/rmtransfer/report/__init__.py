"""Tables become figures, paper tables and the plan.

In:  ``tables/``; for the plan, the configuration and the texts. Out: ``figures/``, ``tables/<benchmark>/paper.*``.
``catalogue`` lists the figures and imports nothing heavy. Imported by no room.
"""
