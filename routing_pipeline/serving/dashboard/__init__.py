"""The live page: what the gateway does now against what is usual, while logs arrive.

`data` keeps up with the lake, `model` says what is shown, `rows` what stands behind it, `reports` lists reports, `app` shows it.
"""
