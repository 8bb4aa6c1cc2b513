"""Checks of whole runs: `megatron-mimo pretrain` and its neighbours in processes of their own, here and on the CPU."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from megatron_mimo.gpu_checks.device_finding import NARROW, Finding
from megatron_mimo.training.metrics import read_metrics
from megatron_mimo.training.probe import library_rows

BAR = 0.01


def checkpoints(on_gpu: bool) -> Finding:
    """A run saved on the CPU (torch layers) continues here, and the reverse: the same losses."""
    with _small_run_folder() as (folder, settings):
        crossed = {}
        for start, rest in (("cpu", "device"), ("device", "cpu")):
            stayed, moved = folder / f"from_{start}", folder / f"from_{start}_on_{rest}"
            expected = _pretrain(settings, stayed, start, resumes=False)
            shutil.copytree(stayed, moved)
            shutil.rmtree(moved / "checkpoints" / "step_00000008")
            found = _pretrain(settings, moved, rest, resumes=True)
            crossed[f"{start} -> {rest}"] = max(abs(a / b - 1) for a, b in zip(found, expected, strict=True))
    summary = ", ".join(f"{way} {value:.1e}" for way, value in crossed.items())
    return Finding(max(crossed.values()) < BAR, f"largest relative difference of 4 losses: {summary}", crossed)


@contextmanager
def _small_run_folder() -> Iterator[tuple[Path, list[str]]]:
    """A temporary folder with a small run's data, and the run's settings."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name), _write_small_run(Path(name))


def _write_small_run(folder: Path) -> list[str]:
    """Tokenized library sources, and the settings of a small run on them."""
    from megatron_mimo.data.tokens.preprocess import PreprocessConfig, SourceConfig, TokenizerConfig, preprocess

    lines = [bytes(row.tolist()).decode("utf-8", "replace") for row in library_rows(200, 500)]
    (folder / "text.jsonl").write_text(
        "".join(json.dumps({"id": str(n), "text": t}) + "\n" for n, t in enumerate(lines))
    )
    source = SourceConfig(name="library", domain="code", jsonl=str(folder / "text.jsonl"), valid_share=0.1)
    data = folder / "data"
    tokenizer = TokenizerConfig(vocab_size=400)
    preprocess(PreprocessConfig(output_dir=str(data), tokenizer=tokenizer, sources=[source]), report=lambda line: None)
    (folder / "mixture.yaml").write_text("sources: {library: 1.0}\n")
    (folder / "run.yaml").write_text(json.dumps(_small_run(data)))
    return [str(folder / "run.yaml")]


def _small_run(data: Path) -> dict[str, Any]:
    """A configuration, which as JSON is YAML too. fp32 arithmetic would hide nothing, but the GPU's layers are bf16."""
    tokens = 8 * 4 * 128
    rate = {"kind": "constant", "tokens": tokens, "start": 1e-3, "end": 1e-3}
    sizes = ("num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads", "num_query_groups", "kv_channels")
    stage = {"name": "only", "tokens": tokens, "seq_length": 128, "rotary_base": 10000, "mixture": "mixture.yaml"}
    return {
        "name": "check",
        "output_dir": "overridden",
        "num_threads": 1,
        "model": {name: getattr(NARROW, name) for name in sizes} | {"vocab_size": 512},
        "stages": [stage | {"micro_batch_size": 4, "global_batch_size": 4, "learning_rate": [rate]}],
        "data": {"path": str(data), "tokenizer": str(data / "tokenizer"), "num_workers": 0},
        "evaluation": {"sequences": 0},
        "checkpoint": {"every_steps": 4, "asynchronous": False},
    }


def _pretrain(settings: list[str], output_dir: Path, where: str, resumes: bool) -> list[float]:
    """Train eight steps, or what is left of them, on the CPU or on this machine's device; losses of the last four."""
    said = _run_command("pretrain", *settings, f"output_dir={output_dir}", on_cpu=where == "cpu")
    if resumes and "resumed from" not in said:
        raise RuntimeError(f"the run on {where} began anew instead of resuming:\n{said[-1500:]}")
    rows = [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row][-4:]


def _run_command(name: str, *arguments: str, on_cpu: bool = True) -> str:
    """What a command of this program says, the GPUs hidden from it with `on_cpu`; raises RuntimeError where it
    fails."""
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if on_cpu else {}
    command = [sys.executable, "-m", "megatron_mimo", name, *arguments]
    finished = subprocess.run(command, env=os.environ | hidden, capture_output=True, text=True, timeout=300)
    if finished.returncode:
        raise RuntimeError(f"{name} failed:\n{finished.stdout[-1500:]}{finished.stderr[-1500:]}")
    return finished.stdout


def imported(on_gpu: bool) -> Finding:
    """A Hugging Face folder, imported, as the start of a run here and on the CPU: the same losses."""
    with _small_run_folder() as (folder, settings):
        _pretrain(settings, folder / "origin", "cpu", resumes=False)
        _run_command("export", str(folder / "origin"), str(folder / "hf"))
        _run_command("import", str(folder / "hf"), str(folder / "start"))
        start = [*settings, f"start.checkpoint={folder / 'start' / 'checkpoints'}", "max_steps=4"]
        expected = _pretrain(start, folder / "here", "cpu", resumes=False)
        found = _pretrain(start, folder / "there", "device" if on_gpu else "cpu", resumes=False)
    worst = max(abs(a / b - 1) for a, b in zip(found, expected, strict=True))
    return Finding(worst < BAR, f"largest relative difference of {len(found)} losses: {worst:.1e}", {"worst": worst})


def background_save(on_gpu: bool) -> Finding:
    """A run that saves in the background and evaluates, continued from what it saved: the same losses and held-out
    loss."""
    where = "device" if on_gpu else "cpu"
    with _small_run_folder() as (folder, settings):
        settings = [*settings, "checkpoint.asynchronous=true", "evaluation.sequences=4"]
        stayed, moved = folder / "stayed", folder / "moved"
        expected = _pretrain(settings, stayed, where, resumes=False)
        shutil.copytree(stayed, moved)
        shutil.rmtree(moved / "checkpoints" / "step_00000008")
        found = _pretrain(settings, moved, where, resumes=True)
        held_out = [_held_out(path) for path in (stayed, moved)]
    pairs = [*zip(found, expected, strict=True), (held_out[1], held_out[0])]
    worst = max(abs(a / b - 1) for a, b in pairs)
    return Finding(worst < BAR, f"largest relative difference, held-out loss included: {worst:.1e}", {"pairs": pairs})


def _held_out(output_dir: Path) -> float:
    """Loss of the last evaluation."""
    return read_metrics(output_dir / "metrics.jsonl").evaluations[-1].losses["library"]
