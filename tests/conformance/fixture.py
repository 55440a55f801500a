"""The tool server that stands behind the node when the MCP conformance suite looks at its server side.

It speaks revision 2025-11-25 on standard input and output, and has the tools that the suite calls.
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
        return {"result": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": about}}
    if method == "tools/list":
        tools = [{"name": name, "description": about, "inputSchema": EMPTY} for name, (about, _) in TOOLS.items()]
        return {"result": {"tools": tools}}
    if method == "tools/call":
        return called(params)
    if method == "ping":
        return {"result": {}}
    return {"error": {"code": -32601, "message": f"Method not found: {method}"}}


for line in sys.stdin:
    message = json.loads(line)
    if "id" in message and "method" in message:
        write({"jsonrpc": "2.0", "id": message["id"], **answer(message["method"], message.get("params") or {})})
