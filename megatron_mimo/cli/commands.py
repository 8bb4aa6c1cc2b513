"""The commands of `megatron-mimo`: which module each one runs, which configuration it reads, what it is for.

Nothing else is imported here: listing and completing commands must take no longer than starting Python.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command. Its module's `main()` reads sys.argv and returns the exit code."""

    module: str
    text: str
    config: str = ""
    """`module:Class` of the configuration that its CONFIG.yaml holds; empty where it reads none."""
    flags: tuple[str, ...] = ()
    """Options to complete where the module has no `parser()` to ask."""


_TRAINING = ("--nproc", "--forecast", "--print-config", "--nnodes", "--node-rank", "--master-addr")
PRETRAIN = "megatron_mimo.config.pretrain:PretrainConfig"

GROUPS: dict[str, dict[str, Command]] = {
    "Start here": {
        "quickstart": Command(
            "megatron_mimo.cli.quickstart", "the whole chain at nano size on this machine, in minutes"
        ),
        "init": Command(
            "megatron_mimo.cli.init", "write the recipes of a size (nano, 150m, 400m, 1b, 7b) into a folder"
        ),
        "doctor": Command("megatron_mimo.cli.doctor", "what this machine has of what the commands need"),
    },
    "Data": {
        "data": Command(
            "megatron_mimo.cli.preprocess",
            "crawls, PDFs, JSON Lines, own corpus -> documents -> .bin/.idx",
            "megatron_mimo.data.job:JobConfig",
        ),
        "tokenize": Command(
            "megatron_mimo.cli.tokenize_data",
            "documents -> tokenizer and .bin/.idx: the second half of data",
            "megatron_mimo.data.tokens.preprocess:PreprocessConfig",
        ),
        "import-tokens": Command(
            "megatron_mimo.cli.import_tokens", "existing Megatron .bin/.idx pairs -> a data folder to train on"
        ),
        "extract": Command(
            "megatron_mimo.data.extract.command", "the main text of one page, and why each part stayed or went"
        ),
        "decontaminate": Command(
            "megatron_mimo.data.decontaminate.__main__",
            "index benchmarks; report what the step found",
            "megatron_mimo.data.decontaminate.benchmarks:DecontaminateConfig",
            ("--report",),
        ),
        "annotate": Command(
            "megatron_mimo.cli.annotate",
            "quality tags of documents from a large model, through an endpoint",
            "megatron_mimo.data.tag.annotate:AnnotationConfig",
        ),
        "train-tagger": Command(
            "megatron_mimo.cli.train_tagger", "a small quality tagger from annotated or constructed pages"
        ),
        "synthesize": Command(
            "megatron_mimo.cli.synthesize",
            "synthetic reasoning data through an endpoint, verified",
            "megatron_mimo.data.synthesize.pipeline:SynthesisConfig",
        ),
        "mixture": Command(
            "megatron_mimo.cli.mixture",
            "measure sources, solve for the stages' mixtures, check what a run consumed",
            "megatron_mimo.data.balance.spec:BalanceSpec",
            ("solve", "check", "measure"),
        ),
    },
    "Train": {
        "plan": Command(
            "megatron_mimo.cli.plan", "parameters, memory, FLOPs, days and layouts of a run, on paper", PRETRAIN
        ),
        "pretrain": Command("megatron_mimo.pretrain", "train the stages of a configuration", PRETRAIN, _TRAINING),
        "sft": Command(
            "megatron_mimo.sft",
            "fine-tune on conversations, every weight or LoRA",
            "megatron_mimo.config.sft:SFTConfig",
            (*_TRAINING, "--preview"),
        ),
        "rl": Command(
            "megatron_mimo.rl.__main__",
            "RL on problems with verifiable answers: trainer, engines, rewards under Ray",
            "megatron_mimo.config.rl:RLConfig",
            ("--print-config",),
        ),
        "draft": Command(
            "megatron_mimo.cli.draft", "train only MTP layers, for speculative decoding", PRETRAIN, _TRAINING
        ),
        "checkpoints": Command(
            "megatron_mimo.cli.checkpoints", "a run's checkpoints: list, verify, prune, branch from a step"
        ),
        "report": Command("megatron_mimo.cli.report", "write the HTML report of a run again"),
    },
    "After training": {
        "export": Command("megatron_mimo.cli.export", "a checkpoint of a run -> Hugging Face folder"),
        "import": Command("megatron_mimo.cli.import_model", "Hugging Face folder -> a checkpoint to train on"),
        "convert": Command(
            "megatron_mimo.cli.convert",
            "both directions, adapters and a round trip, with every option",
            flags=("import", "export", "adapter", "roundtrip"),
        ),
        "push": Command("megatron_mimo.cli.push_to_hub", "upload an exported folder to Hugging Face or ModelScope"),
        "self-distill": Command("megatron_mimo.cli.self_distill", "a model's own answers, to train its MTP layers on"),
        "draft-vocabulary": Command(
            "megatron_mimo.cli.draft_vocabulary", "the tokens that MTP layers may draft, by counting text"
        ),
        "compare-drafts": Command(
            "megatron_mimo.serve.compare_drafts", "models with different MTP layers: accepted drafts and speed"
        ),
        "serve": Command("megatron_mimo.serve.command", "OpenAI-compatible vLLM server with MTP speculative decoding"),
        "chat": Command("megatron_mimo.serve.chat", "chat in the terminal with a model or a running server"),
        "evaluate": Command(
            "megatron_mimo.cli.evaluate",
            "benchmarks, repeated sampling: accuracy, pass@k",
            "megatron_mimo.config.eval:EvaluateConfig",
            ("tasks", "--preset", "--model", "--data", "--output"),
        ),
        "compare": Command("megatron_mimo.cli.compare", "two evaluations, question by question, with intervals"),
        "evaluate-pretraining": Command(
            "megatron_mimo.cli.evaluate_pretraining", "bits per byte against baselines, arithmetic, MTP acceptance"
        ),
        "claims": Command("megatron_mimo.cli.claims", "what the report claims, and the studies that re-test it"),
    },
    "RL problems, judge and nano data": {
        "judge": Command("megatron_mimo.cli.judge_server", "HTTP server that runs model-written programs in sandboxes"),
        "curate-problems": Command(
            "megatron_mimo.cli.curate_problems", "raw problems -> problems for RL, by the report's steps"
        ),
        "verl-problems": Command("megatron_mimo.rl.verl_plugin.problem_rows", "problem files as verl's Parquet rows"),
        "nano-chat": Command("megatron_mimo.data.chat.nano", "generated conversations for MiMo-nano"),
        "nano-problems": Command(
            "megatron_mimo.rl.problems.nano", "generated problems of graded difficulty for MiMo-nano"
        ),
        "chat-check": Command(
            "megatron_mimo.eval.chat_check", "ask a chat model of MiMo-nano held-out sums in several wordings"
        ),
    },
    "This machine and this program": {
        "gpu-check": Command("megatron_mimo.cli.gpu_check", "what of the GPU parts works on this machine"),
        "examples": Command("megatron_mimo.cli.examples", "copy every recipe and script that comes with the package"),
        "schema": Command("megatron_mimo.cli.schema", "JSON schema of the configurations, for editors"),
        "completion": Command("megatron_mimo.cli.completion", "completion of commands and keys for bash, zsh and fish"),
    },
}
COMMANDS: dict[str, Command] = {name: command for group in GROUPS.values() for name, command in group.items()}
OLD_NAMES: dict[str, tuple[str, ...]] = {
    "preprocess": ("data",),
    "measure-sources": ("mixture", "measure"),
    "solve-mixture": ("mixture", "solve"),
    "check-mixture": ("mixture", "check"),
    "push-to-hub": ("push",),
    "judge-server": ("judge",),
}
"""Names of earlier versions; they still work, and say the new one."""
