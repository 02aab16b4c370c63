"""Commands that a message suggests, as they work when they are pasted: about the home that the message is about.

Belongs here: where `--home` and `--config` go in such a command. Does not belong here: which command is suggested.
"""

from __future__ import annotations

import re
import shlex

COMMANDS = (
    *("run", "ingest", "analyze", "simulate", "approve", "publish", "roll-back", "reprocess", "compact", "forget", "report", "ask", "mcp"),
    *("metrics", "dashboard", "doctor", "recommendation", "status", "export", "rollout"),
)
"""Those that are about a home: all but `audit` and `demo`."""
# A command with its options, placeholders in capitals, and the id of a rule set; what follows is the sentence's.
_SUGGESTED = re.compile(rf"\brouting-pipeline ({'|'.join(COMMANDS)})\b(?: (?:--[a-z-]+|[A-Z]{{2,}}\b|[\w:.-]+(?= --by)))*")


def here(command: str, home: str | None, config: str | None = None) -> str:
    """One command, with the home and the configuration file that it needs behind it; None where it needs none."""
    return f"{command} {shlex.join(options(home, config))}".rstrip()


def options(home: str | None, config: str | None = None) -> list[str]:
    """The words of these options."""
    return [*(["--home", home] if home else []), *(["--config", config] if config else [])]


def about(message: str, home: str) -> str:
    """A sentence whose suggested commands name the home; a sentence that speaks of `--home` by itself stays as it is."""
    if "--home" in message:
        return message
    return _SUGGESTED.sub(lambda found: f"{found[0]} --home {shlex.quote(home)}", message)
