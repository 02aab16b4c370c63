"""The command that hands a rule set to a gateway.

Belongs here: `export`, and what it prints. Does not belong here: how a gateway is told (`gateways`), deciding about rules (`decide`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from routing_pipeline.cli.help import DECIDE
from routing_pipeline.cli.inputs import home_path, open_record
from routing_pipeline.cli.options import CONFIG, AsJson, Root, command
from routing_pipeline.cli.output import show
from routing_pipeline.errors import UnusableInputError

if TYPE_CHECKING:
    from routing_pipeline.rules.model import RuleSet

_SECRET = re.compile(
    r"(?i)((?:api_?key|secret|token|password|virtual_key|authorization)\w*[\"']?\s*:\s*)(?![\"']?os\.environ/|[\"']?env\.)[^\s,}]+"
)


@command("export --rules rules.json --gateway litellm --out gateway", group=DECIDE)
def export(
    rules: Annotated[str, typer.Option("--rules", help="rules.json, ours or by hand; or a rule_set_id; or latest")],
    gateway: Annotated[str, typer.Option("--gateway", help="litellm, portkey, vllm-sr, envoy, bifrost or json-logic")],
    out: Annotated[Path, typer.Option("--out", help="File or folder that receives the gateway's configuration")],
    current: Annotated[
        Path | None, typer.Option("--current", help="What runs today: shows what changes, and keeps what is not ours")
    ] = None,
    share: Annotated[float, typer.Option("--share", help="Part of the sessions that follows the rules, e.g. 0.05")] = 1.0,
    default_model: Annotated[
        str | None,
        typer.Option("--default-model", help="What serves requests that no rule decides [default: as today, where that is known]"),
    ] = None,
    home: Root = None,
    config: Annotated[Path | None, typer.Option("--config", envvar=CONFIG, help="TOML: models and their tiers, [publishing]")] = None,
    as_json: AsJson = False,
) -> None:
    """Write rules as a gateway's own configuration, or say why the gateway cannot follow them."""
    from routing_pipeline.gateways.planned import plan_of
    from routing_pipeline.gateways.table import gateway_of
    from routing_pipeline.gateways.tiers import tiers_for

    asked = gateway_of(gateway)
    rule_set = _rule_set(rules, home, config)
    text = _read(current) if current is not None else None
    plan = plan_of(rule_set, share, tiers_for(rule_set, text, config))
    exported = asked.write(plan, text, default_model)
    changes = "" if current is None or text is None else exported.changes(current, text)
    paths = [str(path) for path in exported.written(out)]
    for note in exported.notes:
        typer.echo(note, err=True)
    content = {"rule_set_id": plan.rule_set_id, "gateway": gateway, "share": share, "files": paths, "notes": list(exported.notes)}
    import json

    from routing_pipeline.text import visible

    shown = _SECRET.sub(r"\1***", visible(changes)).splitlines()
    show(json.dumps({**content, "changes": "\n".join(shown)}, indent=1), [*shown, *paths], as_json=as_json)


def _rule_set(rules: str, home: Path | None, config: Path | None) -> RuleSet:
    """A file needs no home; an id and `latest` are looked up in one."""
    from routing_pipeline.parameters import read_parameters
    from routing_pipeline.rules.delivery import is_file, named_or_read
    from routing_pipeline.rules.reading import read_rules_file

    parameters = read_parameters(config)
    path = Path(rules)
    if is_file(path) and not (home_path(home) / "lake").exists():
        return read_rules_file(path, parameters)

    opened, record = open_record(home, config)
    rule_set, notice = named_or_read(opened, record, rules, parameters)
    if notice:
        typer.echo(notice, err=True)
        return rule_set
    # A proposal is kept as it was made; what was decided about it since lies in the record.
    standing = record.standing()
    state = "published" if standing.live == rule_set.rule_set_id else standing.states.get(rule_set.rule_set_id)
    return rule_set.model_copy(update={"status": state}) if state in {"approved", "published"} else rule_set


def _read(current: Path) -> str:
    try:
        return current.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is no text"
        raise UnusableInputError(f"--current {current}: {why}; give the configuration that the gateway runs with") from error
