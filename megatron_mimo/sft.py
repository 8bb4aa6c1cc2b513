"""Fine-tune MiMo on conversations: `megatron-mimo sft CONFIG.yaml [key=value ...] --nproc N`.

The first start tokenizes and packs the conversations into `data.prepared`; the run resumes by itself as pre-training
does, with the same exit codes.
"""

import sys
from pathlib import Path
from typing import Any

from megatron_mimo.config import SFTConfig, TrainingConfig, UserError, load, load_with_origins, to_yaml
from megatron_mimo.config.explain import explained_yaml
from megatron_mimo.platform.files import write_text
from megatron_mimo.training.checkpoint_model import model_of
from megatron_mimo.training.elastic import with_ranks
from megatron_mimo.training.launch import launch, resume_command, run_program
from megatron_mimo.training.launch_options import LAUNCH_USAGE

USAGE = (
    """usage: megatron-mimo sft CONFIG.yaml [key=value ...] [--nproc N] [--forecast | --print-config | --preview]
  CONFIG.yaml     a fine-tuning configuration, for example examples/nano/sft.yaml
  key=value       overrides: data.sources.0.path=my.jsonl#1000 lora.rank=16
  --forecast      measure a few steps, say how long the run will take here, and stop
  --print-config  print the resolved configuration, with the place of each value, and stop
  --preview       prepare the data, print some samples with every token coloured by loss or no loss, write more of them
                  to PREPARED/preview.html, and stop"""
    + LAUNCH_USAGE
)
FLAGS = ("--forecast", "--print-config", "--preview")
PREVIEWED_SAMPLES = 4
SAMPLES_OF_PAGE = 50
SHOWN_AT_START = 1


def main(arguments: list[str] | None = None) -> int:
    """Run one configuration; returns the exit code."""
    program = with_ranks("megatron_mimo.sft", run, settings)
    return run_program(USAGE, program, sys.argv[1:] if arguments is None else arguments)


def settings(arguments: list[str]) -> SFTConfig | None:
    """What the ranks will run, as far as it is known; None where none are needed."""
    config = load(SFTConfig, [word for word in arguments if word not in FLAGS], model_of)
    return None if "--print-config" in arguments or "--preview" in arguments else config


def run(arguments: list[str]) -> int:
    """Load the configuration and train, print it, or show what it learns from."""
    words = [word for word in arguments if word not in FLAGS]
    given, layers = load_with_origins(SFTConfig, words, model_of)
    # Imported late: torch takes seconds, in which a configuration can be refused and Ctrl-C heard.
    from megatron_mimo.training.number_format import with_number_format

    config = with_number_format(given)
    if "--print-config" in arguments:
        print(explained_yaml(given, config, layers), end="")
        return 0
    if "--preview" in arguments:
        prepare_data(config)
        show_samples(config, PREVIEWED_SAMPLES, colour=sys.stdout.isatty())
        print(f"every token with its label: {write_preview(config)}")
        return 0

    def prepare() -> tuple[TrainingConfig, Any]:
        from megatron_mimo.data.chat.dataset import ChatData

        num_rows = prepare_on_rank_0(config)
        return config.training_run(num_rows), ChatData(config.data.prepared, config.seq_length)

    def write(output_dir: Path, run: TrainingConfig, command: str) -> None:
        write_run_files(output_dir, config, run, command)

    from megatron_mimo.eval.task_scores import task_scores

    command = resume_command("megatron_mimo.sft", arguments)
    return launch(config, prepare, write, command, task_scores, forecast_only="--forecast" in arguments)


def prepare_on_rank_0(config: SFTConfig) -> int:
    """Rank 0 makes the folder, every rank gets the number of rows; an error on rank 0 is raised on all."""
    import torch.distributed as dist

    answer: list[int | str] = [""]
    if dist.get_rank() == 0:
        try:
            answer = [prepare_data(config)]
            show_samples(config, SHOWN_AT_START, colour=sys.stdout.isatty())
        except UserError as error:
            answer = [str(error)]
    dist.broadcast_object_list(answer, src=0)
    if isinstance(answer[0], str):
        raise UserError(answer[0])
    return answer[0]


def prepare_data(config: SFTConfig) -> int:
    """Tokenize and pack, unless that is done; prints what became of the records and returns the number of rows."""
    from megatron_mimo.data.chat.prepare import prepare_chat_data

    manifest = prepare_chat_data(config.data, config.seq_length, config.epochs, config.seed)
    for name, source in manifest.sources.items():
        refused = ", ".join(f"{reason} {number:,}" for reason, number in source.refused.items()) or "none"
        print(f"{name}: {source.records:,} records, {source.train_samples:,} to train on")
        print(f"  held out {source.valid_samples:,}; refused {refused} ({config.data.prepared}/refused.jsonl)")
        if source.ignored:
            print(f"  fields that are not used: {', '.join(f'{key} {n:,}' for key, n in source.ignored.items())}")
        if source.template_system:
            print(
                f"  {source.template_system:,} have no system message: the chat template writes its own,"
                f" {manifest.template_system!r}; data.system sets another, '' an empty one"
            )
    print(
        f"{manifest.num_rows:,} rows of {config.seq_length:,} tokens, {manifest.fill:.1%} filled;"
        f" {manifest.learned_tokens / manifest.train_tokens:.1%} of {manifest.train_tokens:,} tokens are learned",
        flush=True,
    )
    return manifest.num_rows


def show_samples(config: SFTConfig, count: int, colour: bool) -> None:
    """Print the first samples, learned tokens marked."""
    from megatron_mimo.data.chat.preview import LEGEND, coloured
    from megatron_mimo.data.chat.samples import SampleReader
    from megatron_mimo.data.tokens.tokenizer import load_tokenizer

    samples = SampleReader(Path(config.data.prepared) / "train")
    tokenizer = load_tokenizer(config.data.tokenizer)
    print(LEGEND if colour else "[[learned]] not learned")
    for index in range(min(count, len(samples))):
        print(f"-- sample {index}, {len(samples[index].tokens)} tokens")
        print(coloured(samples[index], tokenizer, colour), flush=True)


def write_preview(config: SFTConfig) -> Path:
    """Write the page of the first samples beside the prepared data; returns its path."""
    from megatron_mimo.data.chat.preview import preview_page
    from megatron_mimo.data.chat.samples import SampleReader
    from megatron_mimo.data.tokens.tokenizer import load_tokenizer

    samples = SampleReader(Path(config.data.prepared) / "train")
    shown = [samples[index] for index in range(min(SAMPLES_OF_PAGE, len(samples)))]
    path = Path(config.data.prepared) / "preview.html"
    write_text(path, preview_page(f"{config.name}: what is learned", shown, load_tokenizer(config.data.tokenizer)))
    return path


def write_run_files(output_dir: Path, config: SFTConfig, run: TrainingConfig, command: str) -> None:
    """sft.yaml, the configuration as given; config.yaml, the run as the trainer took it; command.txt."""
    output_dir.mkdir(parents=True, exist_ok=True)
    write_text(output_dir / "sft.yaml", to_yaml(config))
    write_text(output_dir / "config.yaml", to_yaml(run))
    write_text(output_dir / "command.txt", command + "\n")


if __name__ == "__main__":
    sys.exit(main())
