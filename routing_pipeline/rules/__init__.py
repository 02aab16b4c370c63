"""Everything about a rule set, once: what it is, which state may follow which, and the record of who decided what.

`model` says what rules are, `lifecycle` which move may follow which, `record_files` keeps a directory or a bucket in which
nothing is ever half-written, `record` puts them together. How rules are found is `policy`'s and `recommendation`'s.
"""
