"""Steps 1 to 3 of the task: one module per analysis, nine of them, each a function from conformed rows to a typed result."""
