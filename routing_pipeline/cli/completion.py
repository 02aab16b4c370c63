"""What a shell is told may follow an option or a command.

Belongs here: the words themselves, fast, because a shell asks at every press of the key. Does not belong here: refusing others
(whoever reads the option).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

Completion = Callable[[str], list[str]]


def _of(words: Callable[[], Iterable[str]]) -> Completion:
    def complete(incomplete: str) -> list[str]:
        return [word for word in words() if word.startswith(incomplete)]

    return complete


def _goals() -> Iterable[str]:
    from routing_pipeline import parameters

    return parameters.GOALS


def _timeframes() -> Iterable[str]:
    from routing_pipeline import parameters

    return parameters.TIMEFRAMES


def _formats() -> Iterable[str]:
    from routing_pipeline.ingest import formats

    return ("auto", *sorted(each.name for each in formats.FORMATS))


def _tools() -> Iterable[str]:
    from routing_pipeline.serving.mcp.tools import BY_NAME

    return BY_NAME


def _servers() -> Iterable[str]:
    from routing_pipeline.serving.mcp import tools

    return tools.SERVERS


GOALS, TIMEFRAMES, FORMATS, TOOLS, SERVERS = map(_of, (_goals, _timeframes, _formats, _tools, _servers))
ROLLOUT = _of(lambda: ("status", "advance", "hold", "rollback"))
ENGINES = _of(lambda: ("duckdb", "spark://"))


def _rule_sets() -> Iterable[str]:
    """`latest`, and what was proposed in the home that the environment names, or the usual one."""
    from routing_pipeline.cli.inputs import home_path

    proposed = home_path(None) / "rules" / "proposed"
    # A file's name has no colons; ids of rule sets do.
    names = sorted((path.stem for path in proposed.glob("*.json")), reverse=True)
    return ("latest", *(f"{name[:13]}:{name[13:15]}:{name[15:]}" for name in names))


RULE_SETS = _of(_rule_sets)
