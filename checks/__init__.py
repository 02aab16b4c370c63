"""Asset checks, mirroring assets/ file for file; what they claim and how it is evaluated is the library's.

Belongs here: which asset a claim is about, and how Dagster is told what came out. Modules here do without postponed
evaluation of annotations, because Dagster reads them at run time.
"""
