"""The two servers over the official SDK, on standard input and output or on streamable HTTP.

Belongs here: tools, resources and the prompt in the protocol's words, errors that say what is allowed, progress. Does not
belong here: what is answered (`answers`, `tools`), who may connect (`auth`).

No tool takes a path or a statement, reads anything outside the home, or changes anything: what is computed is kept in the
home's results store, which is a cache.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial, wraps
from importlib import metadata
from inspect import Parameter as SignatureParameter, Signature
from typing import Annotated, Any

import anyio.from_thread
import anyio.to_thread
from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from mcp.server.mcpserver.tools import Tool as ProtocolTool
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, CallToolResult, Completion, CompletionArgument, TextContent, ToolAnnotations
from pydantic import WithJsonSchema

from routing_pipeline.errors import PipelineError, UnusableInputError, did_you_mean
from routing_pipeline.serving import http
from routing_pipeline.serving.auth import door_of_option
from routing_pipeline.serving.mcp.answers import REPORT, Answers
from routing_pipeline.serving.mcp.brief import BRIEF, DETAILS, PAGE_ITEMS, loose_schema
from routing_pipeline.serving.mcp.prompt import FIVE_STEPS, five_steps
from routing_pipeline.serving.mcp.tools import TOOLS, Parameter, ServerName, Tool
from routing_pipeline.serving.mcp.untrusted import CLOSE, NOTE, OPEN, fields_from_logs
from routing_pipeline.serving.mcp.views import FRONTIER, SHOWS_THE_FRONTIER, apps, completed, icon

CACHE_HINTS: dict[CacheableMethod, CacheHint] = {
    # What there is changes with the version alone; what is read, with every run.
    **dict.fromkeys(("server/discover", "tools/list", "prompts/list", "resources/templates/list"), CacheHint(3_600_000, "public")),
    **dict.fromkeys(("resources/list", "resources/read"), CacheHint(10_000, "private")),
}
TOKEN_VARIABLE = "ROUTING_PIPELINE_MCP_TOKEN"  # noqa: S105 - its name, not the token
DESCRIPTION: dict[ServerName, str] = {
    "intelligence-router": "How an LLM gateway's routing performs, what other rules would have done, and how to roll them out.",
    "cost-tracker": "What an LLM gateway's traffic costs, which spend is avoidable, and how to spend less.",
}
INSTRUCTIONS = (
    "Answers are computed from request logs alone. Every estimate has a 95 % interval, or `unidentifiable` with the reason: report "
    "both, and never put a number where the logs cannot tell. Evidence of grade B or C is worth an A/B test, not a promise. "
    f"{NOTE} Numbers agree with the report of the same window. Answers are brief: `left_out` counts what is not there; ask for it with "
    'detail="full", in pages where lists are long.'
)


DETAIL = (
    Parameter(
        "detail",
        {
            "type": "string",
            "enum": list(DETAILS),
            "description": "brief: numbers and first items, under 4,000 characters; full: everything",
        },
        lambda *_: None,
        lambda _: BRIEF,
    ),
    Parameter(
        "page",
        {"type": ["integer", "null"], "description": f"Of a full answer: {PAGE_ITEMS} items of each list at a time, from 1; null: all"},
        lambda *_: None,
        lambda _: None,
    ),
)
"""What every tool takes beside its own; read by `brief`."""


class Server(MCPServer):
    """The SDK's server, which also refuses arguments that a tool does not have."""

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None) -> Any:
        """As the SDK, except that a misspelt argument is an error and not ignored, and that the tool is named that is meant."""
        tool = next((tool for tool in self._tool_manager.list_tools() if tool.name == name), None)
        if tool is None:
            raise ToolError(_no_such_tool(name))
        known = tuple(tool.parameters["properties"])
        unknown = [each for each in arguments if each not in known]
        if unknown:
            raise ToolError(f"{name} takes {', '.join(known)}; not {', '.join(each[:40] for each in unknown[:5])!r}")
        return await super().call_tool(name, arguments, context)


def _no_such_tool(name: str) -> str:
    elsewhere = next((tool.server for tool in TOOLS if tool.name == name), None)
    if elsewhere is not None:
        return f"{name} is a tool of the server {elsewhere}; ask it there"
    return f"there is no tool {json.dumps(name[:60], ensure_ascii=False)}{did_you_mean(name, (tool.name for tool in TOOLS))}"


def server_of(name: ServerName, answers: Answers) -> Server:
    """A server with its tools, resources and prompt."""
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
        icons=[icon()],
        extensions=[apps()] if any(tool.name == SHOWS_THE_FRONTIER for tool in tools) else None,
        cache_hints=CACHE_HINTS,
        log_level="WARNING",
    )
    _add_resources(made, answers)

    @made.completion()  # type: ignore[no-untyped-call,untyped-decorator]
    async def complete(_: Any, argument: CompletionArgument, __: Any) -> Completion:
        return await anyio.to_thread.run_sync(completed, answers, argument.name, argument.value)

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
    from_logs = sorted(fields_from_logs(schema))
    made = ProtocolTool.from_function(
        _function(tool, answers, from_logs),
        name=tool.name,
        title=tool.title,
        description=tool.description,
        annotations=ToolAnnotations(
            title=tool.title, read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
        ),
        structured_output=False,
        meta={
            "routing-pipeline/fromLogs": from_logs,
            **({"ui": {"resourceUri": FRONTIER}} if tool.name == SHOWS_THE_FRONTIER else {}),
        },
    )
    made.parameters["additionalProperties"] = False
    made.fn_metadata.output_schema = loose_schema(schema)
    return made


def _function(tool: Tool, answers: Answers, from_logs: list[str]) -> Callable[..., Awaitable[CallToolResult]]:
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
                "routing-pipeline/fromLogs": {"fields": from_logs, "marks": [OPEN, CLOSE], "note": NOTE},
            },
        )

    parameters = (*tool.parameters, *DETAIL)
    kinds = {parameter.name: Annotated[Any, WithJsonSchema(dict(parameter.schema))] for parameter in parameters}
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
                for parameter in parameters
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

    @server.resource(REPORT, title="The latest report", mime_type="text/markdown")
    async def latest_report() -> str:
        """The newest report as people read it."""
        return str(await found(answers.latest_markdown))

    @server.resource("routing-pipeline://reports/latest.json", title="The latest report as data", mime_type="application/json")
    async def latest_report_json() -> dict[str, Any]:
        """Everything that the newest analysis found, about a megabyte (docs/schemas/report.schema.json); a tool gives one section in a few lines. Names from logs are marked."""
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


# Serving


def serve_http(name: ServerName, answers: Answers, address: str, *, token: str | None, ready: Callable[[str], None]) -> None:
    """Serve on streamable HTTP at /mcp until interrupted.

    Raises:
        UnusableInputError: the address cannot be listened on, or a token is needed and missing.
    """
    door = door_of_option(address, token, variable=TOKEN_VARIABLE)
    # The SDK's own checks of names, origins and tokens stand behind the guard's, and would only say it in other words.
    app = server_of(name, answers).streamable_http_app(transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False))
    http.serve(app, door, lambda url: ready(f"{name} listens on {url}/mcp"))


def serve_stdio(name: ServerName, answers: Answers) -> None:
    """Serve whoever started this process, until they hang up."""
    server_of(name, answers).run("stdio")
