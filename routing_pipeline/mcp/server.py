"""The two servers over the official SDK, on standard input and output or on streamable HTTP.

Belongs here: tools, resources and the prompt in the protocol's words, errors that say what is allowed, progress, who may
connect. Does not belong here: what is answered (`answers`, `tools`).

No tool takes a path or a statement, reads anything outside the home, or changes anything: what is computed is kept in the
home's results store, which is a cache.
"""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial, wraps
from importlib import metadata
from inspect import Parameter as SignatureParameter, Signature
from typing import Annotated, Any

import anyio.from_thread
import anyio.to_thread
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from mcp.server.mcpserver.tools import Tool as ProtocolTool
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, CallToolResult, TextContent, ToolAnnotations
from pydantic import AnyHttpUrl, WithJsonSchema

from routing_pipeline import listening
from routing_pipeline.errors import PipelineError, UnusableInputError
from routing_pipeline.listening import address_of, is_loopback
from routing_pipeline.mcp.answers import Answers
from routing_pipeline.mcp.inert import CLOSE, NAMES, NOTE, OPEN
from routing_pipeline.mcp.prompt import FIVE_STEPS, five_steps
from routing_pipeline.mcp.tools import TOOLS, ServerName, Tool

TOKEN_VARIABLE = "ROUTING_PIPELINE_MCP_TOKEN"  # noqa: S105 - its name, not the token
DESCRIPTION: dict[ServerName, str] = {
    "intelligence-router": "How an LLM gateway's routing performs, what other rules would have done, and how to roll them out.",
    "cost-tracker": "What an LLM gateway's traffic costs, where money goes that need not, and how to spend less.",
}
INSTRUCTIONS = (
    "Answers are computed from request logs alone. Every estimate has a 95 % interval, or `unidentifiable` with the reason: report "
    "both, and never put a number where the logs cannot tell. Evidence of grade B or C is worth an A/B test, not a promise. "
    f"{NOTE} Numbers agree with the report of the same window."
)


class Server(MCPServer):
    """The SDK's server, which also refuses arguments that a tool does not have."""

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None) -> Any:
        """As the SDK, except that a misspelt argument is an error and not ignored."""
        tool = next((tool for tool in self._tool_manager.list_tools() if tool.name == name), None)
        known = () if tool is None else tuple(tool.parameters["properties"])
        unknown = [each for each in arguments if each not in known]
        if tool is not None and unknown:
            raise ToolError(f"{name} takes {', '.join(known)}; not {', '.join(each[:40] for each in unknown[:5])!r}")
        return await super().call_tool(name, arguments, context)


def server_of(name: ServerName, answers: Answers, *, token: str | None = None) -> Server:
    """A server with its tools, resources and prompt; with a token, HTTP demands it."""
    # It tells of its temporary folders, whatever level was set; standard error belongs to whoever started the server.
    logging.getLogger("great_expectations").propagate = False
    tools = tuple(tool for tool in TOOLS if tool.server == name)
    schemas = answers.schema_of(tools)
    made = Server(
        name,
        title=name.replace("-", " ").capitalize(),
        description=DESCRIPTION[name],
        instructions=INSTRUCTIONS,
        version=metadata.version("routing-pipeline"),
        tools=[_protocol_tool(tool, answers, schemas[tool.name]) for tool in tools],
        log_level="WARNING",
        **({} if token is None else _demanding(token)),
    )
    _add_resources(made, answers)
    if name == "intelligence-router":
        made.prompt(name="optimize_llm_routing", title="Optimise LLM routing in five steps", description=FIVE_STEPS)(_prompt)
    return made


@wraps(five_steps)
def _prompt(*asked: str, **named: str) -> str:
    try:
        return five_steps(*asked, **named)
    except UnusableInputError as error:
        raise MCPError(code=INVALID_PARAMS, message=str(error)) from error


def _protocol_tool(tool: Tool, answers: Answers, schema: Mapping[str, Any]) -> ProtocolTool:
    made = ProtocolTool.from_function(
        _function(tool, answers),
        name=tool.name,
        title=tool.title,
        description=tool.description,
        annotations=ToolAnnotations(
            title=tool.title, read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
        ),
        structured_output=False,
        meta={"routing-pipeline/fromLogs": sorted(NAMES)},
    )
    made.parameters["additionalProperties"] = False
    made.fn_metadata.output_schema = dict(schema)
    return made


def _function(tool: Tool, answers: Answers) -> Callable[..., Awaitable[CallToolResult]]:
    """A function with the tool's parameters as its signature: the SDK reads names, schemas and defaults from there."""

    async def call(ctx: Context[Any, Any], **arguments: Any) -> CallToolResult:
        begun = 0

        def progress(what: str) -> None:
            nonlocal begun
            anyio.from_thread.run(ctx.report_progress, float(begun), None, what)
            begun += 1

        try:
            answer = await anyio.to_thread.run_sync(partial(answers.answer, tool, arguments, progress), abandon_on_cancel=True)
        except PipelineError as error:
            # One line, made for users: says what is allowed or what to do.
            raise ToolError(" ".join(str(error).split())) from error
        return CallToolResult(
            content=[TextContent(type="text", text=answer.text)],
            structured_content=dict(answer.structured),
            _meta={
                "routing-pipeline/answer": {**answer.about, "source": answer.source},
                "routing-pipeline/fromLogs": {"fields": sorted(NAMES), "marks": [OPEN, CLOSE], "note": NOTE},
            },
        )

    kinds = {parameter.name: Annotated[Any, WithJsonSchema(dict(parameter.schema))] for parameter in tool.parameters}
    call.__annotations__ = {"ctx": Context[Any, Any], **kinds, "return": CallToolResult}
    call.__signature__ = Signature(  # type: ignore[attr-defined]
        [
            SignatureParameter("ctx", SignatureParameter.KEYWORD_ONLY, annotation=Context[Any, Any]),
            *(
                SignatureParameter(
                    parameter.name,
                    SignatureParameter.KEYWORD_ONLY,
                    annotation=kinds[parameter.name],
                    default=parameter.default(answers.base),
                )
                for parameter in tool.parameters
            ),
        ],
        return_annotation=CallToolResult,
    )
    return call


def _add_resources(server: Server, answers: Answers) -> None:
    async def found(read: Callable[[], Any]) -> Any:
        try:
            return await anyio.to_thread.run_sync(read)
        except UnusableInputError as error:
            raise ResourceNotFoundError(" ".join(str(error).split())) from error
        except PipelineError as error:
            raise ResourceError(" ".join(str(error).split())) from error

    @server.resource("routing-pipeline://reports/latest", title="The latest report", mime_type="text/markdown")
    async def latest_report() -> str:
        """The newest report as people read it."""
        return str(await found(answers.latest_markdown))

    @server.resource("routing-pipeline://reports/latest.json", title="The latest report as data", mime_type="application/json")
    async def latest_report_json() -> dict[str, Any]:
        """Everything that the newest analysis found (docs/schemas/report.schema.json); names from logs are marked."""
        return dict(await found(answers.latest_report))

    @server.resource("routing-pipeline://rule-sets/latest", title="The latest rule set", mime_type="application/json")
    async def latest_rule_set() -> dict[str, Any]:
        """The rules of the newest report (docs/schemas/rules.schema.json); names from logs are marked."""
        return dict(await found(answers.latest_rule_set))

    @server.resource("routing-pipeline://rule-sets/{rule_set_id}", title="A rule set", mime_type="application/json")
    async def rule_set(rule_set_id: str) -> dict[str, Any]:
        """The rules of an id that optimize_routing_rules gave."""
        return dict(await found(partial(answers.rule_set, rule_set_id)))

    @server.resource("routing-pipeline://rule-sets/{rule_set_id}/status", title="Where a rule set stands", mime_type="application/json")
    async def rule_set_status(rule_set_id: str) -> dict[str, Any]:
        """Proposed, approved, published or rolled back, by whom and when; `latest` for the newest report's. Deciding is for people."""
        return dict(await found(partial(answers.rule_set_status, rule_set_id)))


# Who may connect


class _Bearer:
    """Knows one token."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    async def verify_token(self, token: str) -> AccessToken | None:
        """Who sends the token is let in; compared in constant time."""
        if not secrets.compare_digest(token.encode(), self._token):
            return None
        return AccessToken(token=token, client_id="token", scopes=[])


def _demanding(token: str) -> dict[str, Any]:
    # Nobody issues tokens here: the issuer's address is demanded by the SDK and never told to anyone.
    settings = AuthSettings(issuer_url=AnyHttpUrl("http://127.0.0.1"), resource_server_url=None)
    return {"token_verifier": _Bearer(token), "auth": settings}


def checked_token(host: str, token: str | None) -> str | None:
    """`listening.checked_token` for these servers."""
    return listening.checked_token(host, token, TOKEN_VARIABLE)


def serve_http(name: ServerName, answers: Answers, address: str, *, token: str | None, ready: Callable[[str], None]) -> None:
    """Serve on streamable HTTP at /mcp until interrupted.

    Raises:
        UnusableInputError: the address cannot be listened on, or a token is needed and missing.
    """
    host, port = address_of(address)
    demanded = checked_token(host, token)
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise UnusableInputError(f"--http {address}: {error.strerror or error}; give another address") from error
    server = server_of(name, answers, token=demanded)
    shown = listening.shown(host)
    # Against web pages that make a browser on this machine ask for them; elsewhere the token keeps them out.
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=is_loopback(host),
        allowed_hosts=[f"{each}:*" for each in ("127.0.0.1", "localhost", "[::1]", shown)],
        allowed_origins=[f"http://{each}:*" for each in ("127.0.0.1", "localhost", "[::1]", shown)],
    )
    ready(f"{name} listens on http://{shown}:{port}/mcp")
    server.run("streamable-http", host=host, port=port, transport_security=security)


def serve_stdio(name: ServerName, answers: Answers) -> None:
    """Serve whoever started this process, until they hang up."""
    server_of(name, answers).run("stdio")
