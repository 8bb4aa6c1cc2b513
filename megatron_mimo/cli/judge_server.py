"""Serve the judge over HTTP: POST /judge and /run_code, GET /health and /metrics.

    megatron-mimo judge --port 8080 --slots 16

Needs bubblewrap, and g++ for C++ solutions. An address that others reach (--host 0.0.0.0) needs a secret in the
environment variable MEGATRON_MIMO_JUDGE_TOKEN, for the clients too. docs/judge.md.
"""

import argparse
import os

from megatron_mimo.cli.command import exit_code, parser_of


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    return exit_code(lambda: serve(options))


def serve(options: argparse.Namespace) -> None:
    """Serve until interrupted; raises UserError."""
    from aiohttp import web

    from megatron_mimo.judge import JudgeConfig, JudgePool
    from megatron_mimo.judge.client import TOKEN
    from megatron_mimo.judge.server import JudgeServer, check_address

    token = os.environ.get(TOKEN, "")
    check_address(options.host, token)
    config = JudgeConfig(
        num_slots=options.slots,
        python=options.python,
        python_packages=tuple(options.packages),
        max_queue=options.max_queue,
    )
    with JudgePool(config) as pool:
        web.run_app(JudgeServer(pool, token).application(), host=options.host, port=options.port)


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = parser_of(__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--slots", type=int, default=0, help="programs at a time (default: one per core)")
    parser.add_argument("--max-queue", type=int, default=1024, help="solutions that may wait (default 1024)")
    parser.add_argument("--python", default="", help="interpreter of Python solutions (default: this one)")
    parser.add_argument("--packages", nargs="*", default=[], help="folders with packages that solutions may import")
    return parser
