"""The tool server that stands behind the node when the MCP conformance suite looks at its server side.

It speaks revision 2025-11-25 on standard input and output, and has the tools, resources and prompts that the suite asks for.
"""

import json
import sys
import time

IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
AUDIO = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA="
EMPTY = {"type": "object", "properties": {}}


def text(words):
    return {"type": "text", "text": words}


def resource(uri, kind, words):
    return {"type": "resource", "resource": {"uri": uri, "mimeType": kind, "text": words}}


def image():
    return {"type": "image", "data": IMAGE, "mimeType": "image/png"}


def progressing(token):
    for done in (0, 50, 100):
        if token is not None:
            told = {"progressToken": token, "progress": done, "total": 100, "message": f"Completed step {done} of 100"}
            write({"jsonrpc": "2.0", "method": "notifications/progress", "params": told})
        time.sleep(0.05)
    return [text("Progress test completed")]


TOOLS = {
    "test_simple_text": ("Tests simple text content", lambda _: [text("This is a simple text response for testing.")]),
    "test_image_content": ("Tests image content", lambda _: [image()]),
    "test_audio_content": (
        "Tests audio content",
        lambda _: [{"type": "audio", "data": AUDIO, "mimeType": "audio/wav"}],
    ),
    "test_embedded_resource": (
        "Tests embedded resources",
        lambda _: [resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")],
    ),
    "test_multiple_content_types": (
        "Tests mixed content",
        lambda _: [
            text("Multiple content types test:"),
            image(),
            resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
        ],
    ),
    "test_tool_with_progress": ("Tests progress", progressing),
    "test_error_handling": ("Tests errors", None),
}


RESOURCES = {
    "test://static-text": ("text/plain", "text", "This is the content of the static text resource."),
    "test://static-binary": ("image/png", "blob", IMAGE),
    "test://watched-resource": ("text/plain", "text", "This is the content of the watched resource."),
}
TEMPLATE = "test://template/{id}/data"
PROMPTS = {
    "test_simple_prompt": ("A prompt without arguments", []),
    "test_prompt_with_arguments": ("A prompt with two arguments", ["arg1", "arg2"]),
    "test_prompt_with_embedded_resource": ("A prompt that embeds a resource", ["resourceUri"]),
    "test_prompt_with_image": ("A prompt with an image", []),
}


def read(uri):
    before, after = TEMPLATE.split("{id}")
    if uri in RESOURCES:
        kind, field, content = RESOURCES[uri]
    elif uri.startswith(before) and uri.endswith(after):
        known = uri[len(before) : -len(after)]
        kind, field = "application/json", "text"
        content = json.dumps({"id": known, "templateTest": True, "data": f"Data for ID: {known}"})
    else:
        return {"error": {"code": -32002, "message": "Resource not found", "data": {"uri": uri}}}
    return {"result": {"contents": [{"uri": uri, "mimeType": kind, field: content}]}}


def prompted(params):
    name, given = params.get("name"), params.get("arguments") or {}
    if name not in PROMPTS:
        return {"error": {"code": -32602, "message": f"Unknown prompt: {name}"}}
    contents = {
        "test_simple_prompt": lambda: [text("This is a simple prompt for testing.")],
        "test_prompt_with_arguments": lambda: [
            text(f"Prompt with arguments: arg1='{given.get('arg1')}', arg2='{given.get('arg2')}'")
        ],
        "test_prompt_with_embedded_resource": lambda: [
            resource(given.get("resourceUri"), "text/plain", "Embedded resource content for testing."),
            text("Please process the embedded resource above."),
        ],
        "test_prompt_with_image": lambda: [image(), text("Please analyze the image above.")],
    }[name]()
    return {"result": {"messages": [{"role": "user", "content": content} for content in contents]}}


def described_prompts():
    def described(name, about, arguments):
        takes = [{"name": argument, "description": "An argument", "required": True} for argument in arguments]
        return {"name": name, "description": about, "arguments": takes}

    return [described(name, about, arguments) for name, (about, arguments) in PROMPTS.items()]


def described_resources():
    return [
        {"uri": uri, "name": uri.removeprefix("test://"), "description": "A resource", "mimeType": kind}
        for uri, (kind, _, _) in RESOURCES.items()
    ]


def described_templates():
    about = {"uriTemplate": TEMPLATE, "name": "template", "description": "A template", "mimeType": "application/json"}
    return [about]


def completed(params):
    given = (params.get("argument") or {}).get("value", "")
    values = [word for word in ("paris", "park", "party", "test") if word.startswith(given)]
    return {"result": {"completion": {"values": values, "total": len(values), "hasMore": False}}}


def write(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def called(params):
    name = params.get("name")
    if name not in TOOLS:
        return {"error": {"code": -32602, "message": f"Unknown tool: {name}"}}
    _, perform = TOOLS[name]
    if perform is None:
        words = "This tool intentionally returns an error for testing"
        return {"result": {"content": [text(words)], "isError": True}}
    return {"result": {"content": perform((params.get("_meta") or {}).get("progressToken"))}}


def answer(method, params):
    if method == "initialize":
        about = {"name": "conformance-fixture", "version": "1.0.0"}
        capabilities = {"tools": {}, "resources": {"subscribe": True}, "prompts": {}, "completions": {}}
        return {"result": {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": about}}
    if method == "tools/list":
        tools = [{"name": name, "description": about, "inputSchema": EMPTY} for name, (about, _) in TOOLS.items()]
        return {"result": {"tools": tools}}
    if method == "tools/call":
        return called(params)
    if method == "resources/list":
        return {"result": {"resources": described_resources()}}
    if method == "resources/templates/list":
        return {"result": {"resourceTemplates": described_templates()}}
    if method == "resources/read":
        return read(params.get("uri"))
    if method == "prompts/list":
        return {"result": {"prompts": described_prompts()}}
    if method == "prompts/get":
        return prompted(params)
    if method == "completion/complete":
        return completed(params)
    if method in ("ping", "resources/subscribe", "resources/unsubscribe"):
        return {"result": {}}
    return {"error": {"code": -32601, "message": f"Method not found: {method}"}}


for line in sys.stdin:
    message = json.loads(line)
    if "id" in message and "method" in message:
        write({"jsonrpc": "2.0", "id": message["id"], **answer(message["method"], message.get("params") or {})})
