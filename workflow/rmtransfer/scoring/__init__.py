"""Items and any reward model, ours included, become rewards, and hidden states where a model has them.

In:  rows as items: a prompt and its k answers. Out: ``scores/``, ``hidden_states/``, ``alignment/rewards/``.
A kind of reward model is a module. Imported by the rooms below.
"""
