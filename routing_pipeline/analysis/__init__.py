"""What the logs show: one module per analysis, nine of them, each a function from conformed rows to a typed result."""
