"""Dagster's words over the library: what exists, what it depends on, when it runs.

Belongs here: asset bodies of a few lines (load, one domain call, metadata), resources, jobs, schedules, sensors. Does not
belong here: any computation; if a body wants an `if`, the library wants a function. Modules here do without postponed
evaluation of annotations, because Dagster reads them at run time.
"""
