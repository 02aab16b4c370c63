"""The live page: what the gateway does now against what is usual, while logs arrive.

`following` keeps up with the lake, `live` says what is shown, `serving` shows it.
"""
