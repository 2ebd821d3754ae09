"""Instructions whose fulfilment code can check, in the row format of IFEval (Zhou et al., arXiv 2311.07911)."""
