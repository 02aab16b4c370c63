"""Where bytes lie, and who may write them: a folder or a bucket, the home, its locks, the store of results.

What the bytes mean (log lines, tables, rule sets) does not belong here.
"""
