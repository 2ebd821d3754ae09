"""Files as the field publishes them become rows of one schema.

In:  JSONL, Parquet, data sets of the hub. Out: rows, one id list, ledgers, digests.
Imported by the rooms below.
"""
