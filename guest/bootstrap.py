"""The stock bootstrap: the first process of an agent's sandbox.

It asks the daemon to generate, runs the commands it is told to run, hands back their results, and writes the final
answer to standard output. Its one connection is the control socket; HTTP/1.1, one POST a message, strictly
alternating. Standard library only, Python 3.8 or newer, started with `-I -S`.

Every iteration starts one of these, and most of its time would go to imports. So it stands on the small modules that
`ctypes`, `socket`, `json`, `signal` and `subprocess` stand on themselves, and takes the public ones where an
interpreter has those in another form.

Exit codes: 0 after a final answer; 1 if the daemon refused or ended the conversation; 2 if it could not begin.
"""
PR_SET_DUMPABLE = 4


def c_call(name, *arguments):
    """Calls a function of the C library that takes and returns integers."""
    try:
        import _ctypes

        return _ctypes.call_function(_ctypes.dlsym(_ctypes.dlopen(None, 0), name), arguments)
    except (ImportError, AttributeError):
        import ctypes

        return getattr(ctypes.CDLL(None), name)(*arguments)


# First of all: from here on no process of the same user can read this one's memory, descriptors or environment.
if c_call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
    raise SystemExit("bootstrap: cannot make itself unreadable for other processes")

import _socket as socket  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402

HEADER_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 64 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
OUTPUT_BYTES_DEFAULT = 1024 * 1024
TIMEOUT_SECONDS_DEFAULT = 300
# The longest single wait; it is begun anew as often as needed.
WAIT_MILLISECONDS_MAX = 3600 * 1000
# How long a killed process group may take to be reaped.
KILL_GRACE_SECONDS = 5
# What shells answer for a command that timed out, cannot be run, is not there, or was killed by a signal.
EXIT_TIMED_OUT = 124
EXIT_NOT_RUNNABLE = 126
EXIT_NOT_FOUND = 127
EXIT_SIGNAL_BASE = 128


class Fatal(Exception):
    """Ends the bootstrap with a message and an exit code."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def encode(value):
    """JSON of texts, integers, truth values, and lists and objects of them."""
    if isinstance(value, str):
        return quote(value)
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, list):
        return "[%s]" % ",".join(encode(item) for item in value)
    return "{%s}" % ",".join("%s:%s" % (quote(key), encode(item)) for key, item in value.items())


class Plain:
    """How JSON is read: numbers as `int` and `float`, objects as `dict`."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo = {}


def decode(text):
    """The value of a JSON text, which has no space around it; ValueError if it is none."""
    try:
        value, end = scan(text, 0)
    except StopIteration:
        raise ValueError("no value at its start")
    if end != len(text):
        raise ValueError("more text after its value")
    return value


try:
    from _json import encode_basestring_ascii as quote, make_scanner

    scan = make_scanner(Plain)
except (ImportError, AttributeError, TypeError):
    from json import dumps as encode, loads as decode  # noqa: F811


class Gateway:
    """The connection to the daemon."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.connect(path)
        except OSError as error:
            raise Fatal(2, "control socket %s: %s" % (path, error.strerror))
        self.buffer = b""

    def send(self, message):
        """Posts one message and returns the daemon's."""
        body = encode(message).encode()
        head = (
            "POST /v1/dispatch-gateway HTTP/1.1\r\nHost: aegis\r\nContent-Type: application/json\r\n"
            "Content-Length: %d\r\n\r\n" % len(body)
        )
        try:
            self.socket.sendall(head.encode() + body)
            status, answer = self._receive()
        except OSError as error:
            raise Fatal(1, "control connection: %s" % (error.strerror or error))
        text = answer.decode("utf-8", "replace")
        if status != 200:
            raise Fatal(1, "the daemon refused with status %d: %s" % (status, text[:2000]))
        try:
            return decode(text)
        except ValueError as error:
            raise Fatal(1, "the daemon's answer is not JSON: %s" % error)

    def _receive(self):
        while b"\r\n\r\n" not in self.buffer:
            if len(self.buffer) > HEADER_BYTES_MAX:
                raise Fatal(1, "the daemon's header is too long")
            self._more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        try:
            status = int(lines[0].split(" ", 2)[1])
            headers = dict(line.lower().split(":", 1) for line in lines[1:])
            length = int(headers["content-length"])
        except (IndexError, KeyError, ValueError):
            raise Fatal(1, "the daemon's answer has no status or no length: %r" % lines[0][:200])
        if not 0 <= length <= BODY_BYTES_MAX:
            raise Fatal(1, "the daemon's answer is too long: %d bytes" % length)
        while len(self.buffer) < length:
            self._more()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return status, body

    def _more(self):
        chunk = self.socket.recv(CHUNK_BYTES)
        if not chunk:
            raise Fatal(1, "the daemon closed the control connection")
        self.buffer += chunk


class Children:
    """Reaps every child: as process 1 this one inherits all orphans of the sandbox."""

    def __init__(self):
        import _signal as signal

        self.ended = {}
        self.wake_read, wake_write = os.pipe()
        os.set_blocking(self.wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, self._reap)
        # What has no handler does not reach process 1 from inside: a command could interrupt this one otherwise.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def _reap(self, *_):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.ended[pid] = status


class Tail:
    """The last bytes of a stream."""

    def __init__(self, limit):
        self.limit = limit
        self.kept = bytearray()
        self.truncated = False

    def add(self, chunk):
        self.kept += chunk
        if len(self.kept) > self.limit:
            self.truncated = True
            if len(self.kept) > 2 * self.limit + CHUNK_BYTES:
                self.trim()

    def trim(self):
        del self.kept[: max(0, len(self.kept) - self.limit)]

    def text(self):
        self.trim()
        return self.kept.decode("utf-8", "replace")


def prompt():
    """The prompt: the first argument, else the file named by AEGIS_PROMPT_FILE."""
    if len(sys.argv) > 1:
        return os.fsencode(sys.argv[1]).decode("utf-8", "replace")
    path = os.environ.get("AEGIS_PROMPT_FILE")
    if not path:
        raise Fatal(2, "no prompt: neither an argument nor AEGIS_PROMPT_FILE is given")
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            return file.read()
    except OSError as error:
        raise Fatal(2, "prompt file %s: %s" % (path, error.strerror))


def setting(name):
    """A required environment variable."""
    try:
        return os.environ[name]
    except KeyError:
        raise Fatal(2, "the environment variable %s is not set" % name)


def spawn(argv, cwd, environment, outputs):
    """Starts a command in a session of its own, so that its whole group can be killed; its process id.

    No descriptor but 0 to 2 is passed on: every other one of this process closes when a program is started.
    """
    import _signal as signal

    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
        (os.POSIX_SPAWN_DUP2, outputs[0], 1),
        (os.POSIX_SPAWN_DUP2, outputs[1], 2),
    ]
    if "/" in argv[0]:
        programs = [argv[0]]
    else:
        programs = [os.path.join(folder, argv[0]) for folder in os.get_exec_path(environment)]
    refused = None
    # This process has no other thread: nobody else sees the folder change, and relative programs are found in it.
    os.chdir(cwd)
    try:
        for program in programs:
            try:
                return os.posix_spawn(
                    program,
                    argv,
                    environment,
                    file_actions=actions,
                    setsid=True,
                    # Python ignores these; a command must not.
                    setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
                )
            except (FileNotFoundError, NotADirectoryError) as error:
                refused = refused or error
            except OSError as error:
                refused = error
    finally:
        os.chdir("/")
    if isinstance(refused, (FileNotFoundError, NotADirectoryError)):
        raise FileNotFoundError(refused.errno, refused.strerror, argv[0])
    raise refused


def run(children, order):
    """Runs one command to its end or its timeout: (exit code, stdout, stderr, truncated)."""
    limit = max(0, int(order.get("max_output_bytes", OUTPUT_BYTES_DEFAULT)))
    outputs = [Tail(limit), Tail(limit)]
    environment = dict(os.environ)
    environment.update(order.get("env_additions") or {})
    argv = [order["command"]] + list(order.get("args") or [])
    children.ended.clear()
    pipes = [os.pipe(), os.pipe()]
    try:
        ends = [write for _, write in pipes]
        pid = spawn(argv, order.get("cwd") or "/workspace", environment, ends)
    except (OSError, ValueError) as error:
        for read, _ in pipes:
            os.close(read)
        if isinstance(error, FileNotFoundError):
            return EXIT_NOT_FOUND, "", "%s: %s" % (error.filename or argv[0], error.strerror), False
        return EXIT_NOT_RUNNABLE, "", "%s: %s" % (argv[0], error), False
    finally:
        for _, write in pipes:
            os.close(write)
    timeout = float(order.get("timeout_secs", TIMEOUT_SECONDS_DEFAULT))
    timed_out = follow(children, pid, [read for read, _ in pipes], outputs, timeout)
    status = children.ended.get(pid)
    if status is None:
        code = -1
    elif os.WIFSIGNALED(status):
        code = EXIT_SIGNAL_BASE + os.WTERMSIG(status)
    else:
        code = os.WEXITSTATUS(status)
    stderr = outputs[1].text()
    if timed_out:
        code = EXIT_TIMED_OUT
        stderr += "%stimed out after %s s" % ("\n" if stderr else "", order.get("timeout_secs"))
    return code, outputs[0].text(), stderr, outputs[0].truncated or outputs[1].truncated


def follow(children, pid, pipes, outputs, timeout):
    """Collects output until the command has ended; kills its group at the timeout. True if that was needed."""
    import _signal as signal
    import select
    import time

    ready = select.poll()
    ready.register(children.wake_read, select.POLLIN)
    open_pipes = {}
    for pipe, output in zip(pipes, outputs):
        os.set_blocking(pipe, False)
        ready.register(pipe, select.POLLIN)
        open_pipes[pipe] = output
    deadline = time.monotonic() + timeout
    timed_out = False
    while pid not in children.ended:
        left = deadline - time.monotonic()
        if left <= 0:
            if timed_out:
                break
            timed_out = True
            deadline = time.monotonic() + KILL_GRACE_SECONDS
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            continue
        # Rounded up: a wait of no time would be a busy one. No wait is longer than poll(2) can take.
        for descriptor, _ in ready.poll(min(left * 1000 + 1, WAIT_MILLISECONDS_MAX)):
            if descriptor == children.wake_read:
                drain_wake(descriptor)
            elif not read_some(descriptor, open_pipes[descriptor]):
                ready.unregister(descriptor)
    # The rest of what it wrote; what its own background processes still write is not waited for.
    for pipe, output in open_pipes.items():
        for _ in range(1 + (1 << 20) // CHUNK_BYTES):
            if not read_some(pipe, output):
                break
        os.close(pipe)
    return timed_out


def drain_wake(descriptor):
    try:
        os.read(descriptor, CHUNK_BYTES)
    except BlockingIOError:
        pass


def read_some(pipe, output):
    """Reads one chunk; False at the end or if nothing is there."""
    try:
        chunk = os.read(pipe, CHUNK_BYTES)
    except BlockingIOError:
        return False
    output.add(chunk)
    return bool(chunk)


def dispatch(children, execution_id, order):
    """Carries out one order and forms its result."""
    import time

    started = time.monotonic()
    action = order.get("action")
    if action == "exec":
        code, stdout, stderr, truncated = run(children, order)
    else:
        code, stdout, stderr, truncated = -1, "", "unknown_action:%s" % action, False
    return {
        "type": "dispatch_result",
        "execution_id": execution_id,
        "dispatch_id": order.get("dispatch_id"),
        "exit_code": code,
        "stdout": stdout,
        "stderr": stderr,
        "duration_ms": int((time.monotonic() - started) * 1000),
        "truncated": truncated,
    }


def converse():
    execution_id = setting("AEGIS_EXECUTION_ID")
    message = {
        "type": "generate",
        "agent_id": setting("AEGIS_AGENT_ID"),
        "execution_id": execution_id,
        "iteration_number": int(os.environ.get("AEGIS_ITERATION", "1")),
        "model_alias": setting("AEGIS_MODEL_ALIAS"),
        "prompt": prompt(),
        "messages": [],
    }
    gateway = Gateway(setting("AEGIS_CONTROL_SOCKET"))
    children = None
    while True:
        order = gateway.send(message)
        kind = order.get("type") if isinstance(order, dict) else None
        if kind == "final":
            sys.stdout.buffer.write((order.get("content") or "").encode("utf-8", "replace"))
            sys.stdout.buffer.flush()
            return
        if kind != "dispatch":
            raise Fatal(1, "the daemon sent a message of the unknown type %r" % (kind,))
        children = children or Children()
        message = dispatch(children, execution_id, order)


def main():
    try:
        converse()
    except Fatal as error:
        sys.stderr.write("bootstrap: %s\n" % error)
        sys.stderr.flush()
        os._exit(error.code)
    # Nothing is left to clean up, and the sandbox ends with this process.
    os._exit(0)


main()
