"""What training consumed against the mixture files: exact turns pass, other shares and foreign sources do not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from megatron_mimo.cli import check_mixture
from megatron_mimo.config import PretrainConfig, load
from megatron_mimo.config.load import to_yaml
from megatron_mimo.data.loading.mixture import Turns, read_mixture
from megatron_mimo.training.metrics import MetricsLog, StepMetrics

ROOT = Path(__file__).parents[3]
NUM_STEPS, BATCH = 130, 8


def step(number: int, stage: str, seq_length: int, source_tokens: dict[str, int]) -> StepMetrics:
    return StepMetrics(
        step=number, consumed_tokens=number * BATCH * seq_length, stage=stage, loss=1.0, mtp_losses=[], grad_norm=1.0,
        learning_rate=1e-3, global_batch_size=BATCH, seq_length=seq_length, rotary_base=10_000,
        mtp_loss_scaling_factor=0.3, step_seconds=1.0, tokens_per_second=1.0, tflops_per_gpu=1.0, mfu=None,
        memory_bytes=1, skipped=False, source_losses={}, source_tokens=source_tokens,
    )  # fmt: skip


@pytest.fixture
def run_dir(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """A run folder whose first stages read `read_as[stage]`'s mixture (their own by default), in exact turns."""

    def make(read_as: dict[str, str]) -> Path:
        config = load(PretrainConfig, [str(ROOT / "examples" / "nano" / "pretrain.yaml")])
        (tmp_path / "mixtures").mkdir()
        log = MetricsLog(tmp_path / "metrics.jsonl")
        for stage in config.stages:
            source = ROOT / "examples" / "nano" / stage.mixture
            (tmp_path / "mixtures" / f"{stage.name}.yaml").write_text(source.read_text())
        for stage in config.stages[:2]:
            turns = Turns(read_mixture(tmp_path / "mixtures" / f"{read_as.get(stage.name, stage.name)}.yaml"))
            for number in range(NUM_STEPS):
                counts = turns.counts((number + 1) * BATCH) - turns.counts(number * BATCH)
                tokens = {s: int(n) * stage.seq_length for s, n in zip(turns.sources, counts, strict=True) if n}
                log.append(step(number + 1, stage.name, stage.seq_length, tokens))
        (tmp_path / "config.yaml").write_text(to_yaml(config))
        return tmp_path

    return make


def read(stage: str) -> str:
    return (ROOT / "examples" / "nano" / "mixtures" / f"{stage}.yaml").read_text()


def examples_share(stage: str, source: str) -> float:
    return yaml.safe_load(read(stage))["sources"][source]


def test_exact_turns_pass(run_dir: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_mixture.main([str(run_dir({}))]) == 0
    text = capsys.readouterr().out
    assert "every source has its share" in text
    assert "stage1" in text and "stage2" in text and "stage3" not in text
    row = next(line for line in text.splitlines() if line.startswith("stage1") and " text " in line)
    tokens, target, consumed = row.split()[2:5]
    # A source's turns are never a whole sequence away from its share of the sequences so far.
    share, sequences = examples_share("stage1", "text"), NUM_STEPS * BATCH
    number, rest = divmod(int(tokens.replace(",", "")), 256)
    assert rest == 0 and abs(number - share * sequences) < 1
    assert (target, consumed) == (f"{100 * share:.3f}", f"{100 * number / sequences:.3f}")


def test_other_mixture_is_found(run_dir: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_dir({"stage2": "stage3"})
    assert check_mixture.main([str(folder)]) == 1
    marked = [line.split()[:2] for line in capsys.readouterr().out.splitlines() if line.endswith(" !")]
    stage2, stage3 = (yaml.safe_load(read(name))["sources"] for name in ("stage2", "stage3"))
    others = [source for source in stage3 if abs(stage2.get(source, 0) - stage3[source]) > 0.01]
    assert ["stage2", "synthetic"] in marked
    assert marked == [["stage2", source] for source in others]
    assert check_mixture.main([str(folder), "--tolerance", "0.2"]) == 0


def test_folder_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_mixture.main([str(tmp_path)]) == 2
    assert "config.yaml" in capsys.readouterr().err
