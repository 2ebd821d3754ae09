"""Cross-lingual transfer of reward models: the library behind the Snakemake workflow.

Modules stand in the order in which data flows through them; each imports only from those before it:
``corpus`` -> ``translation`` -> ``chat`` -> ``base_model`` -> ``reward`` -> ``training`` -> ``scoring`` ->
``transfer`` -> ``representation`` -> ``alignment`` -> ``figures``.
"""
