"""Numbers in, numbers out: inference on clustered means, what stands out of a series, what a change of cost is due to.

No table, no home, no wording: whatever knows of requests, models or files does not belong here.
"""
