"""A rule set as a gateway's own configuration, and a gateway's configuration as a rule set.

`planned` says what every gateway is to do, `reachability` which rules can decide at all, `exported` what is written; then one module a
gateway, and `table`, which names them. `litellm_classifier` is a file that LiteLLM loads. Nothing here knows a home, a report or an estimate.
"""
