"""The first page of the help: what there is, by what it is for.

Belongs here: groups of commands, what is said of words that every command uses. Does not belong here: the help of one command
(its docstring and its options).
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

WHAT_IT_IS = "What other routing rules would have cost and delivered, estimated from your LLM gateway's own logs."
WORDS = """\b
Words:
  home  the folder that holds everything the commands know (--home; default
        .routing-pipeline): the lake, the results, the runs. `run`, `ingest`
        and `demo` make it. It may be moved, copied and restored as a whole.
  lake  the requests read from your logs so far, in the home. No prompts and
        no answers are kept. The logs themselves are only read.
"""
START, DECIDE, OPERATE, SERVE = "Start here", "Decide", "Operate", "Serve"
GROUPS = (START, DECIDE, OPERATE, SERVE)
_EXAMPLES = {
    START: "routing-pipeline run --logs s3://bucket/logs --out report",
    DECIDE: 'routing-pipeline approve latest --by "Ada Lovelace"',
    OPERATE: "routing-pipeline ingest --logs s3://bucket/logs",
    SERVE: "routing-pipeline dashboard --port 8501",
}


class GroupedHelp(TyperGroup):
    """Commands by what they are for, their first sentences whole."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """One section for each group, with an example."""
        shown = [(name, command) for name in self.list_commands(ctx) if (command := self.get_command(ctx, name)) and not command.hidden]
        width = max(len(name) for name, _ in shown)
        for group in GROUPS:
            rows = [
                (name.ljust(width), _first_sentence(command.help or ""))
                for name, command in shown
                if getattr(command, "rich_help_panel", None) == group
            ]
            with formatter.section(group):
                formatter.write_dl(rows)
                formatter.write(f"\n{'':{formatter.current_indent}}$ {_EXAMPLES[group]}\n")


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0].rstrip(".")
