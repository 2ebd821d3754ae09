"""What a reward model buys a policy: its answers, and the best of n of them.

In:  a base model and instructions, ``alignment/rewards/``. Out: ``alignment/answers/``, ``tables/alignment.csv``.
Imported by ``report``.
"""
