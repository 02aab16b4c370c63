"""Read an LLM gateway's request logs; say what other routing rules would have cost and delivered.

A map, in the order in which data flow. Nothing happens at import.

What is asked, and what things are called
    parameters      what the user asks for: timeframe, task types, thresholds, goal, configuration file
    schema          the data contracts: columns, types, units, grain
    catalog         models: provider, tier, context window, dated prices
    estimates       an estimate with its interval, or why there is none
    comparisons     differences between estimates, clustered means, many tests at once
    errors          how a request can end badly, with the exit codes

Object storage -> lake
    home            one folder that holds everything, and remembers its sources
    storage         where files lie that every worker must reach: a folder, or a prefix of a bucket
    coordination    what workers must agree on: the lock, and a few words; in the folder, or in Postgres
    ingest          listing, reading, typing, quarantine, the Iceberg lake and its ledger; replacing, forgetting, upkeep
    demo_traffic    a made-up week whose truth is known
    demo_logs       the same, written down as a gateway would

Lake -> scope
    engine          DuckDB or Spark, through Ibis
    expectations    what must hold of the data, and what was found; row by row in expectations_gx, compared in expectations_baseline
    data_quality    the gate: all of it for one scope
    cost_reconciliation  logged cost against list prices, and the likely cause where they part
    router          whether the router answers, asked before an analysis
    scope           the window on a snapshot, and its rows as analyses read them
    window_rows     those rows kept by day, and windows put together from them: what has not changed is not made again
    resolving       parameters to such a window, and what it holds
    hourly_sums     sums of each data file by hour, kept: what looks at the whole lake within a second
    request_sums    sums of each day by hour, kept: requests, spend and latency as analyses count them

Scope -> evidence and analyses
    policy          the statistics: evidence, off-policy evaluation, search, proof; the model of a rule set
    analysis        steps 1 to 3 of the task: nine analyses
    results         the store of finished analyses, addressed by what they were computed from
    looks           how often the held-out half of the same rows was asked

Recommendations -> delivery
    recommendation  steps 4 and 5: rules, mix, frontier, simulation, plans, risks, monitoring; rules from elsewhere judged; promises held against outcomes
    rule_sets       from proposal to gateway: the record of who approved, published and rolled back what, and what is live
    report          Markdown, HTML, JSON; charts, one module per picture; a report made again from its run
    alerts          what the sensors see, what of it is news, what it is due to, whom to tell
    metrics         what Prometheus may know of a home
    analyst         every operation on one home, from the store where the same was asked before
    mcp             two servers for agents over it
    dashboard       the live page over it
    listening       who may connect to what is served over HTTP

At the edge
    cli             the `routing-pipeline` command
    doctor          what works on this machine
"""
