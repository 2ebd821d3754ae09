"""What a reward model buys a policy: the best of n of its answers, and policies aligned with it, judged by others.

In:  policies, instructions to align on and held-out ones, instructions whose answers code checks; rewards of answers, verdicts.
Out: ``alignment/answers/``, ``alignment/policies/``, ``alignment/comparisons/``; ``tables/best_of_n.csv``, ``agreement.csv``,
     ``constraints.csv``, ``alignment.csv``.
Imported by ``report``.
"""
