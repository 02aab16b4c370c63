"""Asset checks, mirroring assets/ file for file; what they claim and how it is evaluated is the library's.

Belongs here: which asset a claim is about, and how Dagster is told what came out. Modules here do without postponed
evaluation of annotations, because Dagster reads them at run time.

Put a check here when a claim about logged data decides whether anything may be published (blocking), or whether a reader should
be warned. Code that is wrong is found by a test, and a change of traffic by an alert: neither is a check.
https://docs.dagster.io/guides/test/asset-checks
"""
