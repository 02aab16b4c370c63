"""Commands that serve what the home holds until they are stopped.

Belongs here: mcp, dashboard, metrics. Does not belong here: what is served (`serving`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from routing_pipeline.cli import completion
from routing_pipeline.cli.help import SERVE
from routing_pipeline.cli.inputs import open_record, read_asked
from routing_pipeline.cli.options import PARAMETERS, EngineName, PublishingConfig, Root, command
from routing_pipeline.errors import UnusableInputError, did_you_mean
from routing_pipeline.extras import check_installed
from routing_pipeline.stopping import saying

STOPPED = "it served until now"


def _ready(line: str) -> None:
    typer.echo(line, err=True)


@command("mcp cost-tracker --http 127.0.0.1:8001", parameters=PARAMETERS, group=SERVE)
def mcp(
    asked: dict[str, Any],
    server: Annotated[
        str, typer.Argument(help="intelligence-router or cost-tracker", show_default=False, autocompletion=completion.SERVERS)
    ],
    http: Annotated[str | None, typer.Option("--http", help="HOST:PORT for streamable HTTP [default: standard input and output]")] = None,
    home: Root = None,
    engine: EngineName = "duckdb",
) -> None:
    """Serve agents the task's tools over what the home holds. Options say what is assumed where a call says nothing."""
    from routing_pipeline.serving.mcp.tools import SERVERS

    if server not in SERVERS:
        raise UnusableInputError(f"{server}: the servers are {' and '.join(SERVERS)}{did_you_mean(server, SERVERS)}")
    check_installed("mcp", "mcp")
    if http is not None:
        from routing_pipeline.serving.auth import address_of

        address_of(http)
    request = read_asked(asked, engine)
    # A place that makes no sense is refused now, not when the first agent asks.
    opened, record = open_record(home, request.config)
    from routing_pipeline.serving.mcp.answers import Answers
    from routing_pipeline.serving.mcp.server import TOKEN_VARIABLE, serve_http, serve_stdio

    name = next(each for each in SERVERS if each == server)
    answers = Answers(opened, request.parameters, request.engine, lambda: record)
    with saying(STOPPED):
        if http is None:
            serve_stdio(name, answers)
        else:
            serve_http(name, answers, http, token=os.environ.get(TOKEN_VARIABLE) or None, ready=_ready)


@command("dashboard --port 8501 --budget 20000", parameters=("budget", "config"), group=SERVE)
def dashboard(
    asked: dict[str, Any],
    host: Annotated[str, typer.Option("--host", help="Address to listen on; any but this machine's own demands a token")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Port to listen on; 0 takes a free one")] = 8501,
    home: Root = None,
) -> None:
    """Serve the live page, and an index of all reports. It shows what the gateway does now against what is usual, while logs arrive."""
    check_installed("dashboard", "dashboard")
    request = read_asked(asked)
    opened, record = open_record(home, request.config)
    from routing_pipeline.alerts.notifications import read_notifications
    from routing_pipeline.gateways.rollout import Rollout
    from routing_pipeline.gateways.rollout_settings import read_rollout
    from routing_pipeline.serving.dashboard.app import TOKEN_VARIABLE, serve
    from routing_pipeline.serving.dashboard.data import Follower

    rollout = Rollout(opened, record, read_rollout(request.config), request.config)
    follower = Follower(opened, request.parameters, record, rollout)
    with saying(STOPPED):
        serve(
            follower,
            host,
            port,
            token=os.environ.get(TOKEN_VARIABLE) or None,
            ready=lambda url: _ready(f"live page at {url}"),
            dagster_url=read_notifications(request.config).dagster_url,
        )


@command("metrics --http 127.0.0.1:9464", group=SERVE)
def metrics(
    http: Annotated[str | None, typer.Option("--http", help="HOST:PORT to serve them at, under /metrics")] = None,
    textfile: Annotated[Path | None, typer.Option("--textfile", help="File to write, *.prom, for the node exporter's collector")] = None,
    home: Root = None,
    config: PublishingConfig = None,
) -> None:
    """Print Prometheus metrics of the home, write or serve them. No rows are read."""
    if http is not None and textfile is not None:
        raise UnusableInputError("give --http or --textfile, not both")
    check_installed("metrics", "metrics")
    opened, record = open_record(home, config)
    if http is not None:
        from routing_pipeline.serving.metrics_endpoint import TOKEN_VARIABLE, serve

        with saying(STOPPED):
            serve(opened, http, token=os.environ.get(TOKEN_VARIABLE) or None, ready=_ready, record=record)
        return
    from routing_pipeline.serving.metrics import exposition, write_textfile

    if textfile is not None:
        write_textfile(opened, textfile, record)
    else:
        typer.echo(exposition(opened, record).decode(), nl=False)
