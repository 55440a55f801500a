"""The tool server that stands behind the node when the MCP conformance suite looks at its server side.

It speaks revisions 2025-11-25 and 2026-07-28 on standard input and output, and has the tools, resources and prompts that the suite asks for. In the
older revision it asks its caller while a call is under way; in the newer one its answer says what it asks.
"""

import json
import sys
import time

IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
AUDIO = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA="
EMPTY = {"type": "object", "properties": {}}
META = "io.modelcontextprotocol/"
ABOUT = {"name": "conformance-fixture", "version": "1.0.0"}
ELICIT, SAMPLE, ROOTS = "elicitation/create", "sampling/createMessage", "roots/list"


def text(words):
    return {"type": "text", "text": words}


def resource(uri, kind, words):
    return {"type": "resource", "resource": {"uri": uri, "mimeType": kind, "text": words}}


def image():
    return {"type": "image", "data": IMAGE, "mimeType": "image/png"}


class Refused(Exception):
    """A JSON-RPC error."""


class Call:
    """One call of a tool, and what it may say and ask meanwhile."""

    asked = 0

    def __init__(self, params):
        self.arguments = params.get("arguments") or {}
        self.meta = params.get("_meta") or {}
        self.answers = params.get("inputResponses") or {}
        self.state = params.get("requestState")
        self.newer = META + "protocolVersion" in self.meta

    def progress(self, done):
        token = self.meta.get("progressToken")
        if token is not None:
            words = f"Completed step {done} of 100"
            notify("progress", {"progressToken": token, "progress": done, "total": 100, "message": words})

    def log(self, words):
        if not self.newer or META + "logLevel" in self.meta:
            notify("message", {"level": "info", "logger": "fixture", "data": words})

    def ask(self, method, params):
        """Asks during the call, and waits."""
        if self.newer:
            raise Refused(-32603, "this tool asks as revision 2025-11-25 does", None)
        Call.asked += 1
        own = f"asked-{Call.asked}"
        write({"jsonrpc": "2.0", "id": own, "method": method, "params": params})
        for line in sys.stdin:
            message = json.loads(line)
            if message.get("id") == own and "method" not in message:
                if "error" in message:
                    raise Refused(-32603, message["error"]["message"], None)
                return message["result"]
            handle(message)
        raise SystemExit

    def declares(self, capability):
        return capability in (self.meta.get(META + "clientCapabilities") or {})


def form(message, properties, required=()):
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {"message": message, "requestedSchema": schema}


def elicited(answer):
    content = json.dumps(answer.get("content", {}))
    return [text(f"Elicitation completed: action={answer['action']}, content={content}")]


def elicit(key, message, field, kind="string"):
    return {key: {"method": ELICIT, "params": form(message, {field: {"type": kind}}, [field])}}


def sample(key, words, most):
    said = {"role": "user", "content": text(words)}
    return {key: {"method": SAMPLE, "params": {"messages": [said], "maxTokens": most}}}


def rounds(*steps, state=None):
    """A tool that asks before it answers, one step after the other; its state says which step was asked last."""

    def ask(step):
        asked = {"resultType": "input_required", "inputRequests": steps[step]}
        return asked if state is None else {**asked, "requestState": f"{state}-{step}"}

    def perform(call):
        step = 0
        if call.state is not None:
            name, _, number = call.state.rpartition("-")
            if name != state or not number.isdigit() or int(number) >= len(steps):
                raise Refused(-32602, "the state is another", None)
            step = int(number)
        if not set(steps[step]) <= set(call.answers):
            return ask(step)
        if step + 1 < len(steps):
            return ask(step + 1)
        return [text(f"state-ok {json.dumps(call.answers)}")]

    return perform


def progressing(call):
    for done in (0, 50, 100):
        call.progress(done)
        time.sleep(0.05)
    return [text("Progress test completed")]


def logging(call):
    for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        call.log(words)
        time.sleep(0.05)
    return [text("Logging test completed")]


def failing(_):
    return {"content": [text("This tool intentionally returns an error for testing")], "isError": True}


def sampling(call):
    said = {"role": "user", "content": text(call.arguments.get("prompt", ""))}
    answer = call.ask(SAMPLE, {"messages": [said], "maxTokens": 100})
    return [text(f"LLM response: {answer['content'].get('text')}")]


def eliciting(call):
    fields = {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    }
    answer = call.ask(ELICIT, form(call.arguments.get("message", ""), fields, fields))
    content = json.dumps(answer.get("content", {}))
    return [text(f"User response: action={answer['action']}, content={content}")]


def defaults(call):
    fields = {
        "name": {"type": "string", "description": "User name", "default": "John Doe"},
        "age": {"type": "integer", "description": "User age", "default": 30},
        "score": {"type": "number", "description": "User score", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "description": "Verified", "default": True},
    }
    return elicited(call.ask(ELICIT, form("Review these", fields)))


def enums(call):
    def titled(*values):
        return [{"const": value, "title": title} for value, title in values]

    options = ["option1", "option2", "option3"]
    values = titled(("value1", "First Option"), ("value2", "Second Option"), ("value3", "Third Option"))
    choices = titled(("value1", "First Choice"), ("value2", "Second Choice"), ("value3", "Third Choice"))
    names = ["Option One", "Option Two", "Option Three"]
    fields = {
        "untitledSingle": {"type": "string", "enum": options},
        "titledSingle": {"type": "string", "oneOf": values},
        "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": names},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
        "titledMulti": {"type": "array", "items": {"anyOf": choices}},
    }
    return elicited(call.ask(ELICIT, form("Choose", fields)))


def missing(call):
    if not call.declares("sampling"):
        needs = {"requiredCapabilities": {"sampling": {}}}
        raise Refused(-32021, "Missing required client capability", needs)
    return [text("sampling is declared")]


def by_capability(call):
    asked = {}
    if call.declares("sampling"):
        asked.update(sample("thought", "Think", 10))
    if call.declares("elicitation"):
        asked.update(elicit("confirm", "Please confirm", "ok", "boolean"))
    return rounds(asked)(call)


def asking_first(key, message, field):
    """Asks before it answers, as the caller's revision has it."""
    asked = form(message, {field: {"type": "string", "default": "the default"}}, [field])
    newer = rounds({key: {"method": ELICIT, "params": asked}}, state=key)
    return lambda call: newer(call) if call.newer else elicited(call.ask(ELICIT, asked))


def prompt_schema(name):
    return {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}


TOOLS = {
    "test_simple_text": lambda _: [text("This is a simple text response for testing.")],
    "test_image_content": lambda _: [image()],
    "test_audio_content": lambda _: [{"type": "audio", "data": AUDIO, "mimeType": "audio/wav"}],
    "test_embedded_resource": lambda _: [
        resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")
    ],
    "test_multiple_content_types": lambda _: [
        text("Multiple content types test:"),
        image(),
        resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ],
    "test_tool_with_progress": progressing,
    "test_error_handling": failing,
    "test_tool_with_logging": logging,
    "test_logging_tool": logging,
    "test_sampling": sampling,
    "test_elicitation": eliciting,
    "test_elicitation_sep1034_defaults": defaults,
    "test_elicitation_sep1330_enums": enums,
    "test_missing_capability": missing,
    "test_streaming_elicitation": rounds(elicit("confirm", "Please confirm", "ok", "boolean")),
    "test_input_required_result_elicitation": rounds(elicit("user_name", "What is your name?", "name")),
    "test_input_required_result_sampling": rounds(
        sample("capital_question", "What is the capital of France?", 100)
    ),
    "test_input_required_result_list_roots": rounds({"client_roots": {"method": ROOTS, "params": {}}}),
    "test_input_required_result_request_state": rounds(
        elicit("confirm", "Please confirm", "ok", "boolean"), state="state"
    ),
    "test_input_required_result_multiple_inputs": rounds(
        {
            **elicit("user_name", "What is your name?", "name"),
            **sample("greeting", "Generate a greeting", 50),
            "client_roots": {"method": ROOTS, "params": {}},
        },
        state="several",
    ),
    "test_input_required_result_multi_round": rounds(
        elicit("step1", "Step 1: What is your name?", "name"),
        elicit("step2", "Step 2: What is your favorite color?", "color"),
        state="round",
    ),
    "test_input_required_result_tampered_state": rounds(
        elicit("confirm", "Please confirm", "ok", "boolean"), state="sealed"
    ),
    "test_input_required_result_capabilities": by_capability,
}
SCHEMAS = {"test_sampling": prompt_schema("prompt"), "test_elicitation": prompt_schema("message")}


RESOURCES = {
    "test://static-text": ("text/plain", "text", "This is the content of the static text resource."),
    "test://static-binary": ("image/png", "blob", IMAGE),
    "test://watched-resource": ("text/plain", "text", "This is the content of the watched resource."),
}
TEMPLATE = "test://template/{id}/data"
ASKING_RESOURCE = "test://asking-resource"
asking_resource = asking_first("reader", "Who reads this?", "reader")
asking_prompt = asking_first("user_context", "What context should the prompt use?", "context")
PROMPTS = {
    "test_simple_prompt": ("A prompt without arguments", []),
    "test_prompt_with_arguments": ("A prompt with two arguments", ["arg1", "arg2"]),
    "test_prompt_with_embedded_resource": ("A prompt that embeds a resource", ["resourceUri"]),
    "test_prompt_with_image": ("A prompt with an image", []),
    "test_input_required_result_prompt": ("A prompt that asks for its context", []),
}


def read(params):
    uri = params.get("uri")
    before, after = TEMPLATE.split("{id}")
    if uri in RESOURCES:
        kind, field, content = RESOURCES[uri]
    elif uri.startswith(before) and uri.endswith(after):
        known = uri[len(before) : -len(after)]
        kind, field = "application/json", "text"
        content = json.dumps({"id": known, "templateTest": True, "data": f"Data for ID: {known}"})
    elif uri == ASKING_RESOURCE:
        given = asking_resource(Call(params))
        if isinstance(given, dict):
            return {"result": given}
        kind, field, content = "text/plain", "text", given[0]["text"]
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
        "test_input_required_result_prompt": lambda: asking_prompt(Call(params)),
    }[name]()
    if isinstance(contents, dict):
        return {"result": contents}
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


def notify(kind, params):
    write({"jsonrpc": "2.0", "method": f"notifications/{kind}", "params": params})


def called(params):
    name = params.get("name")
    if name not in TOOLS:
        return {"error": {"code": -32602, "message": f"Unknown tool: {name}"}}
    result = TOOLS[name](Call(params))
    result = result if isinstance(result, dict) else {"content": result}
    return {"result": result}


def answer(method, params):
    capabilities = {"tools": {}, "logging": {}, "resources": {"subscribe": True}, "prompts": {}, "completions": {}}
    if method == "initialize":
        return {"result": {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": ABOUT}}
    if method == "server/discover" and sys.argv[1:] == ["2026-07-28"]:
        found = {"supportedVersions": ["2026-07-28"], "capabilities": capabilities, "_meta": {META + "serverInfo": ABOUT}}
        return {"result": {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", **found}}
    if method == "tools/list":
        tools = [{"name": name, "description": name, "inputSchema": SCHEMAS.get(name, EMPTY)} for name in TOOLS]
        return {"result": {"tools": tools}}
    if method == "tools/call":
        return called(params)
    if method == "resources/list":
        return {"result": {"resources": described_resources()}}
    if method == "resources/templates/list":
        return {"result": {"resourceTemplates": described_templates()}}
    if method == "resources/read":
        return read(params)
    if method == "prompts/list":
        return {"result": {"prompts": described_prompts()}}
    if method == "prompts/get":
        return prompted(params)
    if method == "completion/complete":
        return completed(params)
    if method in ("ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"):
        return {"result": {}}
    return {"error": {"code": -32601, "message": f"Method not found: {method}"}}


def handle(message):
    if "id" in message and "method" in message:
        method, params = message["method"], message.get("params") or {}
        try:
            answered = answer(method, params)
        except Refused as refused:
            code, words, data = refused.args
            answered = {"error": {"code": code, "message": words, "data": data}}
        if META + "protocolVersion" in (params.get("_meta") or {}) and "result" in answered:
            whole = answered["result"].get("resultType") != "input_required"
            cached = whole and method.endswith(("/list", "/read"))
            kept = {"ttlMs": 0, "cacheScope": "private"} if cached else {}
            answered = {"result": {"resultType": "complete", **kept, **answered["result"]}}
        write({"jsonrpc": "2.0", "id": message["id"], **answered})


if __name__ == "__main__":
    for line in sys.stdin:
        handle(json.loads(line))
