"""The two MCP servers of the task, `intelligence-router` and `cost-tracker`: fourteen tools over the results of one home.

`tools` says what can be asked, `answers` answers from the store, `computing` computes what is not there, `untrusted` makes what
logs say harmless, `text` says it to people, `server` speaks the protocol. Only `computing` and what it imports take long
to load: a stored answer needs none of it.
"""
