"""A model's own answers, to train its MTP layers on: megatron-mimo self-distill PROMPTS.jsonl --model MODEL_DIR
--output FOLDER

Asks every prompt (a conversation's last answer is left out) of a vLLM server that runs MODEL_DIR, or of one that runs
already (--url), and writes FOLDER/answers.jsonl, conversations for `megatron-mimo sft`. Stopped or killed, the same
command continues where it was.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from megatron_mimo.cli.command import exit_code, parser_of
from megatron_mimo.platform.formats import format_seconds
from megatron_mimo.platform.network import free_port

SAY_EVERY_SECONDS = 10.0
SERVER_LOG = "server.log"
NO_SERVER = "http://localhost"
"""Where nothing is left to be asked."""


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = parser_of(__doc__)
    parser.add_argument("prompts", nargs="+", metavar="PROMPTS.jsonl")
    parser.add_argument("--model", required=True, help="exported folder; with --url, the server's name of the model")
    parser.add_argument("--output", required=True, metavar="FOLDER")
    parser.add_argument("--url", help="of a running server, http://host:8000/v1; none is started then")
    parser.add_argument("--samples", type=int, default=1, help="answers to each prompt")
    parser.add_argument("--temperature", type=float, default=0.6)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument(
        "--max-new-tokens", "--max-tokens", dest="max_tokens", type=int, default=8192, metavar="TOKENS",
        help="longest answer",
    )  # fmt: skip
    parser.add_argument("--keep-cut", action="store_true", help="keep answers that reached --max-new-tokens")
    parser.add_argument("--concurrent", type=int, default=64, help="requests at a time")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Ask and write; returns the exit code."""
    options = parser().parse_args(arguments)
    return exit_code(lambda: run(options), "interrupted: the same command continues from here")


def run(options: argparse.Namespace) -> int:
    """Exit code 1 where some prompts have no answer yet; raises UserError."""
    # Imported late: the client of the endpoint takes a second, in which a wrong option can be refused.
    from megatron_mimo.clients.endpoint import EndpointConfig, Sampling
    from megatron_mimo.serve.self_distill import ANSWERS, SelfDistillConfig, fingerprint, num_open, self_distill

    with ExitStack() as stack:
        url, model = options.url, options.model
        if url is None and not num_open(options.prompts, options.samples, options.output):
            url = NO_SERVER
        if url is None:
            url, model = stack.enter_context(own_server(Path(options.model), Path(options.output)))
        config = SelfDistillConfig(
            prompts=options.prompts,
            output=options.output,
            endpoint=EndpointConfig(url=url, model=model, max_concurrent_requests=options.concurrent),
            model=options.model,
            weights="" if options.url else fingerprint(Path(options.model)),
            sampling=Sampling(temperature=options.temperature, top_p=options.top_p, max_new_tokens=options.max_tokens),
            samples_per_prompt=options.samples,
            keep_cut=options.keep_cut,
        )
        counts = self_distill(config, progress())
    print(", ".join(f"{number:,} {name}" for name, number in counts.items()))
    print(f"conversations: {Path(options.output) / ANSWERS}")
    return 1 if counts["unanswered"] else 0


@contextmanager
def own_server(folder: Path, output: Path) -> Iterator[tuple[str, str]]:
    """Address and name of the model on a server of this program's own; its log lies in the output folder."""
    from megatron_mimo.serve.openai_server import running_server, served_name

    output.mkdir(parents=True, exist_ok=True)
    print(f"starting vLLM on {folder} (log: {output / SERVER_LOG})", file=sys.stderr, flush=True)
    # Answers come whole: a parser would take the thoughts apart from the text, and its white space with them.
    log = output / SERVER_LOG
    with running_server(folder, "127.0.0.1", free_port(), [], log, reasoning_parser="none") as url:
        yield f"{url}/v1", served_name(folder)


def progress() -> Callable[[int, int], None]:
    """A line now and then: answers so far, and the time left at this start's pace."""
    started = said = time.monotonic()
    first: int | None = None

    def report(done: int, wanted: int) -> None:
        nonlocal said, first
        now = time.monotonic()
        first = done - 1 if first is None else first
        if now - said >= SAY_EVERY_SECONDS or done == wanted:
            said = now
            left = (now - started) / max(done - first, 1) * (wanted - done)
            print(f"{done:,} of {wanted:,} answered, {format_seconds(left)} left", file=sys.stderr, flush=True)

    return report
