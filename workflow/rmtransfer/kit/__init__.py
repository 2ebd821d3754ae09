"""What every room uses, and nothing that knows of rewards.

In:  nothing. Out: errors, progress, manifests and identities, one SQLite opener, one HTTP patience, stage versions.
Imported by every room; imports none.
"""
