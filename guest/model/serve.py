"""Serves one GGUF model on 127.0.0.1 with an OpenAI-compatible HTTP interface.

Started and watched by the AEGIS daemon as the `process:` of a provider; `GET /health` answers 200 once the model
is loaded. Runs in the virtual environment that `guest/model/setup` makes, because it needs the package `xllamacpp`.
"""

import argparse
import os
import sys
import time

PARENT_CHECK_SECONDS = 1.0


def arguments():
    parser = argparse.ArgumentParser(description="Serve a GGUF model on 127.0.0.1, OpenAI-compatible.")
    parser.add_argument("--model", required=True, help="the .gguf file")
    parser.add_argument("--port", type=int, required=True, help="TCP port on 127.0.0.1")
    parser.add_argument("--context", type=int, default=4096, help="context window in tokens (default: 4096)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads (default: all)")
    return parser.parse_args()


def start(options):
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = options.model
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = options.port
    parameters.n_ctx = options.context
    # One request at a time: the whole context window belongs to it, and two slow cores gain nothing from sharing.
    parameters.n_parallel = 1
    parameters.use_jinja = True
    parameters.ui = False
    parameters.cpuparams.n_threads = options.threads
    return xllamacpp.Server(parameters)


def main():
    # A daemon that was killed cannot stop its children: whoever adopts this process must not keep it. Asked before
    # the model is loaded, which takes long enough to lose a parent.
    parent = os.getppid()
    options = arguments()
    if not os.path.isfile(options.model):
        sys.exit(f"model file `{options.model}` is missing: run guest/model/setup first")
    try:
        server = start(options)
    except ImportError as error:
        sys.exit(f"{error}: run guest/model/setup first")
    except RuntimeError as error:
        sys.exit(f"the model server did not start on 127.0.0.1:{options.port}: {error}")
    print(f"listening on {server.listening_address}", flush=True)
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)


if __name__ == "__main__":
    main()
