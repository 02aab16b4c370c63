"""May these rows be relied on: what must hold of logs and scores, checked, and the gate in front of the money.

`expectations` says what must hold, `row_checks` asks Great Expectations row by row, `baseline_checks` compares with the window
before (`compared`), `ledger_checks` and `feedback_checks` speak of what was read, `prices` of logged cost against list prices,
`suite` runs all of it.
"""
