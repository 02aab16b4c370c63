"""From the lake to the rows of one analysis: which time, which snapshot, which attempts make up a request, and their sums by hour.

Whether the rows can be relied on is `data_quality`'s, what they say is `analysis`'s.
"""
