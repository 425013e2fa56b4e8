import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import outgoing_handler
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.tool_types import Content_Text, Hints, Tool, ToolError_Failed
from wit_world.imports.wasi_http_types import Fields, OutgoingRequest, Scheme_Https


def ask(path):
    request = OutgoingRequest(Fields())
    request.set_scheme(Scheme_Https())
    request.set_authority("graph.microsoft.com")
    request.set_path_with_query(path)
    future = outgoing_handler.handle(request, None)
    future.subscribe().block()
    response = future.get().value
    if isinstance(response, Err):
        raise Err(ToolError_Failed(f"Graph does not answer: {type(response.value).__name__}"))
    body = response.value.consume()
    stream, answer = body.stream(), b""
    try:
        while True:
            answer += stream.blocking_read(64 * 1024)
    except Err as end:
        if not isinstance(end.value, StreamError_Closed):
            raise
    return json.loads(answer)


class ToolProvider(exports.ToolProvider):
    def list_tools(self):
        what = "Lists the subjects of the five newest messages in your mailbox."
        return [Tool("list_mail", "Newest mail", what, '{"type":"object"}', None, Hints.READ_ONLY | Hints.OPEN_WORLD)]

    def call(self, name, arguments, caller):
        answer = ask("/v1.0/me/messages?$top=5")
        if "error" in answer:
            raise Err(ToolError_Failed(answer["error"]["message"]))
        return Content_Text("\n".join(message["subject"] for message in answer["value"]))
