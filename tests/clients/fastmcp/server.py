"""An MCP server of FastMCP, with what the MCP conformance suite expects a server to have.

`server.py stdio` speaks on standard input and output; `server.py http` listens on a free port of the loopback interface,
and says which on standard output. `RECORD` is a file to which it appends the path and the header fields of every HTTP
request, one line of JSON each. The names and the texts in this file are those of the suite, unless a comment says
otherwise.
"""

import asyncio
import base64
import collections
import json
import os
import socket
import sys
from typing import Annotated

import mcp_types as types
import uvicorn
from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.prompts import Message, PromptResult
from fastmcp.server.event_store import EventStore
from fastmcp.tools import Tool, ToolResult
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    InputRequiredResult,
    ListRootsRequest,
)
from pydantic import Field

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WAV = base64.b64encode(b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data\0\0\0\0").decode()

# What takes part of a call's time, so that its messages do not arrive as one.
MOMENT_SECONDS = 0.05

mcp = FastMCP("fastmcp-tests", version="1.0.0", instructions="A server for tests.")


def is_modern(ctx):
    return ctx.request_context.protocol_version == "2026-07-28"


def form(message, schema):
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def object_of(**properties):
    return {"type": "object", "properties": properties, "required": list(properties)}


def question(text, tokens=100):
    messages = [types.SamplingMessage(role="user", content=types.TextContent(text=text))]
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=messages, max_tokens=tokens))


def answer_of(ctx, key):
    """What the client has answered to a request that a result asked, if it has."""
    answered = (ctx.input_responses or {}).get(key)
    return answered if answered is None or isinstance(answered, dict) else answered.model_dump(by_alias=True)


def ask(requests, state=None):
    return InputRequiredResult(input_requests=requests, request_state=state)


# Tools.


@mcp.tool
def test_simple_text() -> str:
    """Says something."""
    return "This is a simple text response for testing."


@mcp.tool
def test_image_content() -> list[types.ImageContent]:
    """Shows something."""
    return [types.ImageContent(data=PNG, mime_type="image/png")]


@mcp.tool
def test_audio_content() -> list[types.AudioContent]:
    """Plays something."""
    return [types.AudioContent(data=WAV, mime_type="audio/wav")]


@mcp.tool
def test_embedded_resource() -> list[types.EmbeddedResource]:
    """Has a resource in it."""
    resource = types.TextResourceContents(
        uri="test://embedded-resource", mime_type="text/plain", text="This is an embedded resource content."
    )
    return [types.EmbeddedResource(resource=resource)]


@mcp.tool
def test_multiple_content_types() -> list[types.TextContent | types.ImageContent | types.EmbeddedResource]:
    """Has everything in it."""
    resource = types.TextResourceContents(
        uri="test://mixed-content-resource", mime_type="application/json", text='{"test":"data","value":123}'
    )
    return [
        types.TextContent(text="Multiple content types test:"),
        types.ImageContent(data=PNG, mime_type="image/png"),
        types.EmbeddedResource(resource=resource),
    ]


@mcp.tool
async def test_tool_with_logging(ctx: Context) -> str:
    """Logs while it works."""
    for text in ["Tool execution started", "Tool processing data", "Tool execution completed"]:
        await ctx.info(text)
        await asyncio.sleep(MOMENT_SECONDS)
    return "Tool with logging executed successfully"


@mcp.tool
async def test_logging_tool(ctx: Context) -> str:
    """Logs once."""
    await ctx.info("a message")
    return "logged"


@mcp.tool
def test_error_handling() -> str:
    """Fails."""
    raise ToolError("This tool intentionally returns an error for testing")


@mcp.tool
async def test_tool_with_progress(ctx: Context) -> str:
    """Reports its progress."""
    for progress in [0, 50, 100]:
        await ctx.report_progress(progress, 100, f"Completed step {progress} of 100")
        await asyncio.sleep(MOMENT_SECONDS)
    return "done"


@mcp.tool
async def test_sampling(prompt: str, ctx: Context) -> str | InputRequiredResult:
    """Asks the client's model, in either revision."""
    if not is_modern(ctx):
        asked = [types.SamplingMessage(role="user", content=types.TextContent(text=prompt))]
        result = await ctx.session.create_message(messages=asked, max_tokens=100, related_request_id=ctx.request_id)
        return f"LLM response: {result.content.text}"
    if (answered := answer_of(ctx, "sampling")) is None:
        return ask({"sampling": question(prompt)})
    return f"LLM response: {answered['content']['text']}"


ANSWER = object_of(username={"type": "string", "description": "User's response"}, email={"type": "string"})


async def elicited(ctx, message, schema):
    """What a person enters in a form, in either revision; or what to answer to ask for it."""
    if not is_modern(ctx):
        result = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
        return result.action, result.content
    if (answered := answer_of(ctx, "form")) is None:
        return ask({"form": form(message, schema)})
    return answered["action"], answered["content"]


@mcp.tool
async def test_elicitation(message: str, ctx: Context) -> str | InputRequiredResult:
    """Asks the person, in either revision."""
    answered = await elicited(ctx, message, ANSWER)
    if isinstance(answered, InputRequiredResult):
        return answered
    return f"User response: action={answered[0]}, content={json.dumps(answered[1])}"


@mcp.tool
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Asks the person with a form that is filled in."""
    schema = object_of(
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "default": True},
    )
    action, content = await elicited(ctx, "Please review and update the form fields with defaults", schema)
    return f"Elicitation completed: action={action}, content={json.dumps(content)}"


@mcp.tool
async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Asks the person to choose."""
    plain = ["option1", "option2", "option3"]
    titled = [{"const": f"value{n}", "title": f"Option {n}"} for n in (1, 2, 3)]
    schema = object_of(
        untitledSingle={"type": "string", "enum": plain},
        titledSingle={"type": "string", "oneOf": titled},
        legacyEnum={"type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": ["One", "Two", "Three"]},
        untitledMulti={"type": "array", "items": {"type": "string", "enum": plain}},
        titledMulti={"type": "array", "items": {"anyOf": titled}},
    )
    action, content = await elicited(ctx, "Please select options from the enum fields", schema)
    return f"Elicitation completed: action={action}, content={json.dumps(content)}"


@mcp.tool
async def test_reconnection(ctx: Context) -> str:
    """Closes its stream while it works."""
    await ctx.close_sse_stream()
    await asyncio.sleep(MOMENT_SECONDS)
    return "Reconnection test completed successfully"


@mcp.tool
async def test_missing_capability(ctx: Context) -> str:
    """Needs a client that can sample."""
    capabilities = (ctx.request_context.meta or {}).get("io.modelcontextprotocol/clientCapabilities") or {}
    if "sampling" not in capabilities:
        raise MCPError(-32021, "Missing required client capability", {"requiredCapabilities": {"sampling": {}}})
    return "sampled"


@mcp.tool
async def test_streaming_elicitation(ctx: Context) -> str | InputRequiredResult:
    """Asks the person, and says so by progress."""
    await ctx.report_progress(0, 1)
    return await test_elicitation("Go on?", ctx)


NAME = object_of(name={"type": "string"})
CONFIRMATION = object_of(ok={"type": "boolean"})


@mcp.tool
def test_input_required_result_elicitation(ctx: Context) -> str | InputRequiredResult:
    """Asks the person by its result."""
    name = ((answer_of(ctx, "user_name") or {}).get("content") or {}).get("name")
    if not isinstance(name, str):
        return ask({"user_name": form("What is your name?", NAME)})
    return f"Hello, {name}!"


@mcp.tool
def test_input_required_result_sampling(ctx: Context) -> str | InputRequiredResult:
    """Asks the client's model by its result."""
    if (answered := answer_of(ctx, "capital_question")) is None:
        return ask({"capital_question": question("What is the capital of France?")})
    return answered["content"]["text"]


@mcp.tool
def test_input_required_result_list_roots(ctx: Context) -> str | InputRequiredResult:
    """Asks for the client's folders by its result."""
    if (answered := answer_of(ctx, "client_roots")) is None:
        return ask({"client_roots": ListRootsRequest()})
    return ", ".join(str(root["uri"]) for root in answered["roots"])


@mcp.tool
def test_input_required_result_request_state(ctx: Context) -> str | InputRequiredResult:
    """Has the client keep something between two requests."""
    if answer_of(ctx, "confirm") is None or ctx.request_state != "asked":
        return ask({"confirm": form("Please confirm", CONFIRMATION)}, "asked")
    return "state-ok"


@mcp.tool
def test_input_required_result_tampered_state(ctx: Context) -> str | InputRequiredResult:
    """The same."""
    return test_input_required_result_request_state(ctx)


@mcp.tool
def test_input_required_result_multiple_inputs(ctx: Context) -> str | InputRequiredResult:
    """Asks for everything at once."""
    if ctx.input_responses is None:
        requests = {
            "user_name": form("What is your name?", NAME),
            "greeting": question("Generate a greeting", 50),
            "client_roots": ListRootsRequest(),
        }
        return ask(requests, "asked")
    return "everything is there"


@mcp.tool
def test_input_required_result_multi_round(ctx: Context) -> str | InputRequiredResult:
    """Asks twice."""
    if ctx.request_state is None:
        return ask({"step1": form("Step 1: What is your name?", NAME)}, "1")
    if ctx.request_state == "1":
        color = object_of(color={"type": "string"})
        return ask({"step2": form("Step 2: What is your favorite color?", color)}, "2")
    return "two rounds"


@mcp.tool
def test_input_required_result_capabilities(ctx: Context) -> str | InputRequiredResult:
    """Asks for what the client can do."""
    capabilities = (ctx.request_context.meta or {}).get("io.modelcontextprotocol/clientCapabilities") or {}
    possible = {"elicitation": form("Go on?", CONFIRMATION), "sampling": question("Go on?")}
    asked = {name: request for name, request in possible.items() if name in capabilities}
    return "done" if ctx.input_responses is not None or not asked else ask(asked)


class ForSchemas(Tool):
    """Has a schema as it was written."""

    async def run(self, arguments):
        return ToolResult(content="called")


ADDRESS = {
    "$anchor": "addressDef",
    "type": "object",
    "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": ADDRESS},
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
mcp.add_tool(ForSchemas(name="json_schema_2020_12_tool", description="Has a schema.", parameters=SCHEMA))


@mcp.tool
def test_custom_headers(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    """Has a parameter that clients repeat in a header field."""
    return region


# Not of the suite: what clients look at besides.


@mcp.tool
def large(kib: int) -> str:
    """Answers with that much text."""
    return "0123456789abcdef" * (64 * kib)


# Calls that were given up, by name.
given_up = collections.defaultdict(asyncio.Event)


@mcp.tool
async def wait(name: str, ctx: Context) -> str:
    """Reports progress until it is cancelled."""
    try:
        for step in range(1_000_000):
            await ctx.report_progress(step)
            await asyncio.sleep(MOMENT_SECONDS)
    except asyncio.CancelledError:
        given_up[name].set()
        raise
    return "not cancelled"


@mcp.tool
async def was_given_up(name: str) -> bool:
    """Says whether a call was cancelled, as soon as it was."""
    await given_up[name].wait()
    return True


@mcp.tool
async def roots(ctx: Context) -> str | InputRequiredResult:
    """Asks for the client's folders, in either revision."""
    if is_modern(ctx):
        return test_input_required_result_list_roots(ctx)
    return ", ".join(str(root.uri) for root in (await ctx.session.list_roots()).roots)


@mcp.tool
def delete_record() -> str:
    """Is for those alone whom a rule in front of this server lets in."""
    return "deleted"


# Resources.


@mcp.resource("test://static-text", mime_type="text/plain")
def static_text() -> str:
    return "This is the content of the static text resource."


@mcp.resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    return base64.b64decode(PNG)


@mcp.resource("test://watched-resource", mime_type="text/plain")
def watched_resource() -> str:
    return "Watched resource content"


@mcp.resource("test://template/{id}/data", mime_type="application/json")
def template(id: str) -> str:
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


# Prompts.


@mcp.prompt
def test_simple_prompt() -> str:
    """Says something."""
    return "This is a simple prompt for testing."


@mcp.prompt
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """Repeats what it is told."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@mcp.prompt
def test_prompt_with_embedded_resource(resourceUri: str) -> PromptResult:
    """Has a resource in it."""
    resource = types.TextResourceContents(
        uri=resourceUri, mime_type="text/plain", text="Embedded resource content for testing."
    )
    text = "Please process the embedded resource above."
    return PromptResult([Message(types.EmbeddedResource(resource=resource)), Message(text)])


@mcp.prompt
def test_prompt_with_image() -> PromptResult:
    """Has an image in it."""
    image = types.ImageContent(data=PNG, mime_type="image/png")
    return PromptResult([Message(image), Message("Please analyze the image above.")])


@mcp.prompt
def test_input_required_result_prompt(ctx: Context) -> str | InputRequiredResult:
    """Asks the person first."""
    if (answered := answer_of(ctx, "user_context")) is None:
        schema = object_of(context={"type": "string"})
        return ask({"user_context": form("What context should the prompt use?", schema)})
    return answered["content"]["context"]


@mcp.completion
def complete(reference, argument, context):
    """Completes what begins so. The suite says nothing of what there is."""
    return [value for value in ("alpha", "alphabet", "beta") if value.startswith(argument.value)]


class Recorded:
    """Writes down the path and the header fields of every request."""

    def __init__(self, app, path):
        self.app = app
        self.path = path

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            path = scope["path"] + "?" + scope["query_string"].decode("latin-1")
            fields = [[":path", path]] + [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
            with open(self.path, "a", encoding="utf-8") as record:
                record.write(json.dumps(fields) + "\n")
        await self.app(scope, receive, send)


def serve_http():
    app = mcp.http_app(path="/mcp", event_store=EventStore(), retry_interval=100)
    if record := os.environ.get("RECORD"):
        app = Recorded(app, record)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    config = uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=0)
    uvicorn.Server(config).run(sockets=[listener])


if sys.argv[1] == "http":
    serve_http()
else:
    mcp.run(show_banner=False)
