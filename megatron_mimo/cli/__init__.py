"""The `megatron-mimo` command: every program of the project under one name."""

import difflib
import importlib
import sys
import traceback

from megatron_mimo import __version__
from megatron_mimo.missing import is_installed, way_out

PROGRAMS = {
    "preprocess": (
        "megatron_mimo.cli.preprocess",
        "crawls, PDFs, JSON lines, own corpus -> documents -> .bin/.idx",
    ),
    "import-tokens": (
        "megatron_mimo.cli.import_tokens",
        "existing Megatron .bin/.idx pairs -> a data folder to train on",
    ),
    "extract": ("megatron_mimo.data.extract.command", "the main text of one page, and why each part stayed or went"),
    "annotate": ("megatron_mimo.cli.annotate", "quality tags of documents from a large model, over an endpoint"),
    "train-tagger": ("megatron_mimo.cli.train_tagger", "a small quality tagger from annotated or constructed pages"),
    "synthesize": ("megatron_mimo.cli.synthesize", "synthetic reasoning data through an endpoint, verified"),
    "decontaminate": ("megatron_mimo.data.decontaminate.__main__", "index benchmarks; report what the step found"),
    "measure-sources": ("megatron_mimo.data.balance.buckets", "tokens of each domain and quality in tagged shards"),
    "solve-mixture": ("megatron_mimo.cli.solve_mixture", "tag counts, targets and token budgets -> mixture files"),
    "check-mixture": ("megatron_mimo.cli.check_mixture", "compare what a run consumed with its mixture files"),
    "plan": ("megatron_mimo.cli.plan", "parameters, memory, FLOPs, days and layouts of a run, on paper"),
    "gpu-check": ("megatron_mimo.cli.gpu_check", "what of the GPU parts works on this machine"),
    "pretrain": ("megatron_mimo.pretrain", "train the stages of a configuration (start it with torchrun)"),
    "sft": ("megatron_mimo.sft", "fine-tune on conversations, every weight or LoRA (start it with torchrun)"),
    "rl": ("megatron_mimo.rl.__main__", "RL on problems with verifiable answers: trainer, engines, rewards under Ray"),
    "checkpoints": ("megatron_mimo.cli.checkpoints", "a run's checkpoints: list, verify, prune, branch from a step"),
    "report": ("megatron_mimo.cli.report", "write the HTML report of a run again"),
    "convert": ("megatron_mimo.cli.convert", "torch_dist checkpoint <-> Hugging Face folder: import, export, adapter"),
    "push-to-hub": ("megatron_mimo.cli.push_to_hub", "upload an exported folder to Hugging Face or ModelScope"),
    "serve": ("megatron_mimo.serve.command", "OpenAI-compatible vLLM server with MTP speculative decoding"),
    "chat": ("megatron_mimo.serve.chat", "chat in the terminal with a model or a running server"),
    "evaluate": (
        "megatron_mimo.cli.evaluate",
        "benchmarks, repeated sampling: accuracy, pass@k; compare two models",
    ),
    "evaluate-pretraining": (
        "megatron_mimo.cli.evaluate_pretraining",
        "bits per byte against baselines, arithmetic, MTP acceptance",
    ),
    "chat-check": ("megatron_mimo.eval.chat_check", "ask a chat model of MiMo-nano held-out sums in several wordings"),
    "judge-server": ("megatron_mimo.cli.judge_server", "HTTP server that runs model-written programs in sandboxes"),
    "nano-chat": ("megatron_mimo.data.chat.nano", "generated conversations for MiMo-nano"),
    "curate-problems": ("megatron_mimo.cli.curate_problems", "raw problems -> problems for RL, by the report's steps"),
    "nano-problems": ("megatron_mimo.rl.problems.nano", "generated problems of graded difficulty for MiMo-nano"),
    "verl-problems": ("megatron_mimo.rl.verl_plugin.problem_rows", "problem files as verl's Parquet rows"),
    "examples": ("megatron_mimo.cli.examples", "copy the recipes and launch scripts that come with the package"),
}
"""Name -> (module whose `main()` reads sys.argv and returns the exit code, what it does)."""


def usage() -> str:
    """All commands with a line each."""
    lines = [f"  {name:<22}{text}" for name, (_, text) in PROGRAMS.items()]
    return "\n".join(["usage: megatron-mimo COMMAND [arguments]", "", *lines, "", "Each has a --help."])


def main(arguments: list[str] | None = None) -> int:
    """Run a command, or print the list; returns the exit code."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    if name == "--version":
        print(__version__)
        return 0
    if name not in PROGRAMS:
        near = difflib.get_close_matches(name, PROGRAMS, n=1)
        hint = f": perhaps you meant {near[0]}" if near else ""
        print(f"unknown command {name!r}{hint}\n\n{usage()}", file=sys.stderr)
        return 2
    # Every program reads its arguments from here, as it does when it is started by itself.
    sys.argv = [f"megatron-mimo {name}", *rest]
    try:
        return importlib.import_module(PROGRAMS[name][0]).main() or 0
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or is_installed(package):
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        print(f"{way_out(package)}\n({place.filename}:{place.lineno} imports it)", file=sys.stderr)
        return 2
