"""The `megatron-mimo` command: what the project can do, a line each."""

import runpy
import sys

PROGRAMS = {
    "pretrain": ("megatron_mimo.pretrain", "train the stages of a configuration (start it with torchrun)"),
    "serve": ("megatron_mimo.serve.command", "OpenAI-compatible vLLM server with MTP speculative decoding"),
    "chat": ("megatron_mimo.serve.chat", "chat in the terminal with a model or a running server"),
}
TOOLS = {
    "tools/preprocess_data.py": "text or the embedded corpus -> tokenizer and .bin/.idx shards",
    "tools/plan.py": "parameters, memory, FLOPs, days and layouts of a run, on paper",
    "tools/convert_checkpoint.py": "torch_dist checkpoint <-> Hugging Face folder",
    "tools/evaluate_pretraining.py": "bits per byte against baselines, arithmetic, MTP acceptance",
    "tools/report.py": "rebuild the HTML report of a run",
}


def usage() -> str:
    """All commands and tools with a line each."""
    programs = [f"  megatron-mimo {name:<28}{text}" for name, (_, text) in PROGRAMS.items()]
    tools = [f"  python {name:<35}{text}" for name, text in TOOLS.items()]
    return "\n".join(["usage: megatron-mimo COMMAND [arguments]", "", *programs, *tools, "", "Each has a --help."])


def main() -> int:
    """Run a command, or print the list."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if arguments[0] not in PROGRAMS:
        print(f"unknown command {arguments[0]!r}\n\n{usage()}", file=sys.stderr)
        return 2
    sys.argv = [f"megatron-mimo {arguments[0]}", *arguments[1:]]
    runpy.run_module(PROGRAMS[arguments[0]][0], run_name="__main__")
    return 0
