"""The `megatron-mimo` command: what the project can do, a line each."""

import runpy
import sys

PROGRAMS = {
    "pretrain": ("megatron_mimo.pretrain", "train the stages of a configuration (start it with torchrun)"),
    "sft": ("megatron_mimo.sft", "fine-tune on conversations, every weight or LoRA (start it with torchrun)"),
    "rl": ("megatron_mimo.rl", "RL on problems with verifiable answers: trainer, engines and rewards under Ray"),
    "serve": ("megatron_mimo.serve.command", "OpenAI-compatible vLLM server with MTP speculative decoding"),
    "chat": ("megatron_mimo.serve.chat", "chat in the terminal with a model or a running server"),
}
TOOLS = {
    "tools/preprocess_data.py": "crawls, PDFs, JSON lines or the embedded corpus -> documents -> .bin/.idx",
    "tools/annotate.py": "quality tags of documents from a large model, over an endpoint",
    "tools/train_tagger.py": "a small quality tagger from annotated or constructed pages",
    "tools/synthesize.py": "synthetic reasoning data through an endpoint, verified",
    "tools/solve_mixture.py": "tag counts, targets and token budgets -> mixture files of the stages",
    "tools/check_mixture.py": "what a run consumed beside its mixture files",
    "tools/plan.py": "parameters, memory, FLOPs, days and layouts of a run, on paper",
    "tools/convert_checkpoint.py": "torch_dist checkpoint <-> Hugging Face folder",
    "tools/evaluate.py": "benchmarks with repeated sampling: accuracy, pass@k, intervals; compare two models",
    "tools/evaluate_pretraining.py": "bits per byte against baselines, arithmetic, MTP acceptance",
    "tools/judge_server.py": "HTTP server that runs model-written programs in sandboxes",
    "tools/push_to_hub.py": "upload an exported folder to Hugging Face or ModelScope",
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
