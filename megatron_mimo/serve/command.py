"""Serve an exported model with vLLM, drafting with its MTP layers: an OpenAI-compatible server on one port.

megatron-mimo serve MODEL_DIR                 serve until Ctrl-C
megatron-mimo serve MODEL_DIR --check         start, complete one prompt, stop
megatron-mimo serve MODEL_DIR -- --api-key k  hand further options to vLLM
"""

import argparse
import signal
import sys
import tempfile
import threading
from pathlib import Path

from megatron_mimo.config import UserError
from megatron_mimo.serve.openai_server import complete, curl_line, running_server, served_name
from megatron_mimo.serve.speculative import mtp_speculative_config

PROMPT = "Question: 47+38=?\n"


def main() -> int:
    """Run the server; returns the exit code."""
    options, extra = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server must not outlive this process
    try:
        serve(options, extra)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped")
    return 0


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """This command's options, and what follows `--` for vLLM."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of an exported model")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--num-drafts", type=int, help="tokens drafted a step (default: one for each MTP layer; 0: none)"
    )
    parser.add_argument(
        "--reasoning-parser",
        default="auto",
        help="vLLM's parser for <think> blocks, or none (default: mimo where the tokenizer's files know <think>)",
    )
    parser.add_argument("--log", type=Path, help="file for the server's output (default: a temporary file)")
    parser.add_argument("--prompt", default=PROMPT, help="prompt of --check and of the curl line")
    parser.add_argument("--max-tokens", type=int, default=128, help="longest completion of --check")
    parser.add_argument("--check", action="store_true", help="complete one prompt, print the answer and stop")
    return parser.parse_args(arguments[:end]), arguments[end + 1 :]


def serve(options: argparse.Namespace, extra: list[str]) -> None:
    """Hold the server up until it is interrupted, or ask it once; raises UserError where it cannot start."""
    draft = mtp_speculative_config(options.model, options.num_drafts)
    log_path = options.log or Path(tempfile.mkdtemp(prefix="serve_")) / "vllm.log"
    print(f"starting vLLM on {options.model}, speculation: {draft or 'none'} (log: {log_path})", flush=True)
    name = served_name(options.model)
    with running_server(
        options.model, options.host, options.port, extra, log_path, options.num_drafts, options.reasoning_parser
    ) as url:
        print(f"ready: {url}/v1\n{curl_line(url, name, options.prompt)}", flush=True)
        if not options.check:
            threading.Event().wait()
        answer = complete(url, name, options.prompt, options.max_tokens)
        print(f"{options.prompt}{answer['choices'][0]['text']}\nusage: {answer['usage']}")


if __name__ == "__main__":
    sys.exit(main())
