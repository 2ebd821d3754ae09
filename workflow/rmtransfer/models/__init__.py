"""Base models and their tokenizers become token ids, hidden states, rewards and trained reward models.

In:  rows, and a package, a folder or the hub. Out: ``base_models/``, ``models/``, states and rewards in memory.
``chat`` alone renders conversations, ``packing`` alone decides which tokens are computed together, ``reward`` which token is
pooled, ``decoding`` alone generates; ``fit`` trains, in one process or several.
Imported by the rooms below; translation is one of them, because some engines are language models of the study.
"""
