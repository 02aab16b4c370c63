"""Read an LLM gateway's request logs; say what other routing rules would have cost and delivered.

What `__all__` names is public; everything else may change without notice, except what docs/library.md lists. Nothing is loaded
before it is used.

The map, read from the bottom up: a folder imports only what stands under it.

At the edge
    __main__        where the command begins
    cli             the `routing-pipeline` command, its progress, and what works on this machine
    library         `open_home`: the questions of `ask` from Python
    demo            a made-up week whose truth is known

Delivery
    serving         faces that are only read: metrics, two MCP servers, the live page
    report          results to Markdown, HTML and JSON; computes nothing
    operations      every question on one home, from the store where the same was asked before
    beside          a second process or thread, for what a command need not wait for

Evidence, analyses, recommendations
    gateways        a rule set as a gateway's own configuration, and back
    recommendation  steps 4 and 5: rules, mix, frontier, simulation, plans, risks, monitoring, promises held against outcomes
    analysis        steps 1 to 3: nine analyses
    alerts          what stands out this hour, and whom to tell
    policy          evidence, off-policy evaluation, search, proof, replay, exploration
    feasibility     which model may serve which request: needs, capabilities, lessons of the logs, the user's policy
    data_quality    may these rows be relied on

Object storage -> lake -> window
    window          the rows of one analysis, and their sums by hour
    ingest          listing, reading, typing, quarantine; one module per log format
    rules           a rule set: its model, its states, the record of decisions
    lake            the Iceberg tables
    storage         where bytes lie, and who may write them
    stats           numbers in, numbers out

What things are called; everything may import it
    parameters      what the user asks for: timeframe, task types, thresholds, goal, configuration file
    schema          the data contracts: columns, types, units, grain
    catalog         models: provider, tier, context window, dated prices
    estimates       an estimate with its interval, or why there is none
    frames          tables of a result as pandas frames
    clock           how long hours, days, weeks and months are, and which time zones there are
    local_hours     the same hour days or weeks before, by a zone's clock
    text            numbers, moments and names in plain words
    suggested       commands that messages suggest, as they can be pasted
    stopping        how a command ends when it is interrupted
    extras          parts that are installed when asked for, and what is said without
    errors          how a request can end badly, with the exit codes
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself takes longer to load than all else here

if TYPE_CHECKING:
    from routing_pipeline.errors import DataQualityError, PipelineError, ServiceUnavailableError, UnusableInputError
    from routing_pipeline.estimates import Estimate, Unidentifiable
    from routing_pipeline.library import OpenedHome, open_home
    from routing_pipeline.parameters import Parameters

    __version__: str

__all__ = [
    "DataQualityError",
    "Estimate",
    "OpenedHome",
    "Parameters",
    "PipelineError",
    "ServiceUnavailableError",
    "Unidentifiable",
    "UnusableInputError",
    "__version__",
    "open_home",
]
_MODULES = {
    **dict.fromkeys(("open_home", "OpenedHome"), "library"),
    "Parameters": "parameters",
    **dict.fromkeys(("Estimate", "Unidentifiable"), "estimates"),
    **dict.fromkeys(("DataQualityError", "PipelineError", "ServiceUnavailableError", "UnusableInputError"), "errors"),
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib import metadata

            return metadata.version("routing-pipeline")
        if name in _MODULES:
            from importlib import import_module

            return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
