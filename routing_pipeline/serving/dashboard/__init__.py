"""The live page: what the gateway does now against what is usual, while logs arrive.

`data` keeps up with the lake, `model` says what is shown, `app` shows it.
"""
