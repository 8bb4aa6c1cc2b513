"""Convert checkpoints between Megatron torch_dist and Hugging Face safetensors, one tensor at a time, on the CPU.

megatron-mimo convert import --hf-path MODEL --megatron-path RUN/checkpoints/step_00000000 --verify
megatron-mimo convert export --megatron-path RUN/checkpoints/step_X --hf-path OUT --verify
megatron-mimo convert roundtrip --hf-path MODEL --megatron-path NEW
megatron-mimo convert adapter --megatron-path RUN/checkpoints/step_X --hf-path ADAPTER --base-model NAME
megatron-mimo convert import --hf-path TUNED --megatron-path NEW --mtp-from MODEL    # another tool lost the MTP layers
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from megatron_mimo.cli.command import exit_code, parser_of
from megatron_mimo.config import UserError

if TYPE_CHECKING:
    from megatron_mimo.convert.config_json import Form
    from megatron_mimo.convert.progress import ProgressLine


def main(arguments: list[str] | None = None) -> int:
    """Run one conversion; returns the exit code (2 for a problem the user can mend, 130 when interrupted)."""
    options = parser().parse_args(arguments)
    return exit_code(
        lambda: options.run(options), "interrupted; the same command continues with the files that are finished"
    )


def parser() -> argparse.ArgumentParser:
    """The options of every direction."""
    parser = parser_of(__doc__)
    add_directions(parser)
    return parser


def direction_parser(name: str) -> argparse.ArgumentParser:
    """The options of one direction, for `export` and `import`, which name the two folders by their places."""
    return add_directions(parser_of(__doc__))[name]


def add_directions(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Give the parser a subcommand for each direction; returns their parsers."""
    commands = parser.add_subparsers(required=True)
    for name, run, text in (
        ("import", _import, "Hugging Face folder -> Megatron torch_dist checkpoint of weights"),
        ("export", _export, "Megatron torch_dist checkpoint -> Hugging Face folder"),
        ("adapter", _adapter, "low-rank updates of a fine-tuned checkpoint -> PEFT adapter folder"),
        ("roundtrip", _roundtrip, "convert whichever of the two folders exists into the other, back, and compare"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--megatron-path", type=Path, required=True, help="RUN/checkpoints/step_...")
        command.add_argument("--hf-path", type=Path, required=True, help="Hugging Face model folder")
        command.add_argument("--tokenizer", type=Path, help="tokenizer folder (default: the source's own)")
        if name in ("import", "roundtrip"):
            command.add_argument(
                "--make-vocab-size-divisible-by", type=int, default=1, help="pad the vocabulary with zero rows (import)"
            )
        if name in ("import", "roundtrip"):
            command.add_argument("--mtp-from", type=Path, help="take the MTP layers from this Hugging Face folder")
        if name in ("import", "roundtrip", "adapter"):
            command.add_argument("--without-mtp", action="store_true", help="leave the MTP layers out")
        if name == "export":
            command.add_argument(
                "--form",
                choices=("mimo", "qwen2"),
                default="mimo",
                help="qwen2: only the main model, as a Qwen2 model",
            )
        if name == "adapter":
            command.add_argument("--base-model", default="", help="hub name or folder of the model that it belongs to")
        if name in ("import", "export"):
            command.add_argument("--verify", action="store_true", help="read both folders again and compare every bit")
        command.set_defaults(run=run)
    return commands.choices


def _import(options: argparse.Namespace) -> None:
    from megatron_mimo.convert.hf_import import import_checkpoint
    from megatron_mimo.convert.progress import ProgressLine

    started, progress = time.monotonic(), ProgressLine("import")
    notes: list[str] = []
    import_checkpoint(
        options.hf_path,
        options.megatron_path,
        options.tokenizer,
        make_vocab_size_divisible_by=options.make_vocab_size_divisible_by,
        mtp_from=options.mtp_from,
        without_mtp=options.without_mtp,
        progress=progress,
        say=notes.append,
    )
    _report(progress, options.megatron_path, started, notes)
    if options.verify:
        _compare(options, back="to_hugging_face")


def _export(options: argparse.Namespace) -> None:
    from megatron_mimo.convert.export import export_checkpoint
    from megatron_mimo.convert.progress import ProgressLine

    started, progress = time.monotonic(), ProgressLine("export")
    form: Form = getattr(options, "form", "mimo")
    notes = export_checkpoint(options.megatron_path, options.hf_path, options.tokenizer, form=form, progress=progress)
    _report(progress, options.hf_path, started, notes)
    if options.verify:
        _compare(options, back="to_megatron")


def _adapter(options: argparse.Namespace) -> None:
    from megatron_mimo.convert.lora import export_adapter

    count = export_adapter(options.megatron_path, options.hf_path, options.base_model, without_mtp=options.without_mtp)
    print(f"wrote an adapter of {count} layers to {options.hf_path}")
    if not options.base_model:
        print("note: it names no base model: AutoPeftModelForCausalLM and hubs find theirs with --base-model NAME")
    if not options.without_mtp:
        print("note: vLLM's --enable-lora knows no MTP layers: for it, write the adapter --without-mtp")


def _roundtrip(options: argparse.Namespace) -> None:
    """There by writing the folder that does not exist yet, back by the comparison, which converts it again."""
    existing = (options.hf_path.exists(), options.megatron_path.exists())
    options.verify = not all(existing)
    if existing == (False, False):
        raise UserError(f"neither {options.hf_path} nor {options.megatron_path} exists; one of them is the source")
    if not options.megatron_path.exists():
        _import(options)
    elif not options.hf_path.exists():
        _export(options)
    else:
        _compare(options, back="to_hugging_face")


def _report(progress: "ProgressLine", destination: Path, started: float, notes: list[str]) -> None:
    progress.close()
    print(f"wrote {progress.tensors} tensors to {destination} in {time.monotonic() - started:.1f} s")
    for note in notes:
        print(f"note: {note}")


def _compare(options: argparse.Namespace, back: str) -> None:
    from megatron_mimo.convert import ops
    from megatron_mimo.convert.compare import compare_folders
    from megatron_mimo.convert.progress import ProgressLine

    started, progress = time.monotonic(), ProgressLine("verify")
    mtp = {name: getattr(options, name) for name in ("mtp_from", "without_mtp") if name in options}
    count = compare_folders(options.megatron_path, options.hf_path, getattr(ops, back), progress, **mtp)
    progress.close()
    print(f"{count} tensors are identical to the last bit ({time.monotonic() - started:.1f} s)")
