"""The RL trainer: an update is that of a naive program, in every layout; runs resume; weights equal the export."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from megatron_mimo.config.rl import RLConfig
from megatron_mimo.convert.export import export_checkpoint
from megatron_mimo.model.reference import ReferenceMiMo
from megatron_mimo.rl.sample import SampleGroup
from support.launch import ranks
from support.rl_tiny import MODEL, ROTARY_BASE, load_weights, make_groups, make_start, rl_config, rl_tree

pytestmark = pytest.mark.slow

PROGRAM = str(Path(__file__).parent / "programs" / "rl_updates.py")
TP, PP = "tensor_model_parallel_size", "pipeline_model_parallel_size"


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    return make_start(tmp_path_factory.mktemp("start"), tiny_data / "tokenizer")


def run_jobs(folder: Path, processes: int, jobs: list[dict[str, Any]]) -> None:
    path = folder / f"jobs{processes}.json"
    path.write_text(json.dumps(jobs))
    done = ranks(processes, PROGRAM, str(path), timeout_seconds=180)
    assert done.returncode == 0, done.stderr[-4000:]


def naive_training(start: Path, config: RLConfig, seeds: list[int]) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Eq. 1 sample by sample on the plain model in float64, plain AdamW; final weights, loss of every update."""
    torch.manual_seed(0)
    model = ReferenceMiMo(MODEL, ROTARY_BASE)
    model.load_state_dict(load_weights(start.parents[1] / "hf"))
    model.double()
    at_start = copy.deepcopy(model)
    trained = {name: p for name, p in model.named_parameters() if "mtp_layers" not in name}
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in trained.values() if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in trained.values() if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=(0.9, 0.95),
        eps=config.optimizer.adam_eps,
    )
    losses = []
    for seed in seeds:
        groups = make_groups(seed)
        size = len(groups) if config.on_policy else config.mini_batch_groups
        with torch.no_grad():
            old = {id(s): logprobs(model, group, s) for group in groups for s in group.finished}
            reference = {id(s): logprobs(at_start, group, s) for group in groups for s in group.finished}
        for first in range(0, len(groups), size):
            loss = naive_loss(model, groups[first : first + size], old, reference, config)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained.values(), config.optimizer.clip_grad)
            optimizer.step()
            losses.append(float(loss))
    return {name: tensor.float() for name, tensor in model.state_dict().items()}, losses


def logprobs(model: ReferenceMiMo, group: SampleGroup, sample: Any) -> torch.Tensor:
    tokens = torch.tensor([[*group.prompt.tokens, *sample.tokens]])
    scores = model(tokens)[0, 0, len(group.prompt.tokens) - 1 : -1].log_softmax(-1)
    return scores.gather(-1, tokens[0, len(group.prompt.tokens) :, None]).squeeze(-1)


def naive_loss(
    model: ReferenceMiMo,
    groups: list[SampleGroup],
    old: dict[int, Any],
    reference: dict[int, Any],
    config: RLConfig,
) -> torch.Tensor:
    total, tokens = torch.zeros((), dtype=torch.float64), 0
    for group in groups:
        rewards = torch.tensor(group.rewards, dtype=torch.float64)
        for sample, advantage in zip(group.finished, (rewards - rewards.mean()) / rewards.std(), strict=True):
            if config.overlong_masking and sample.finish_reason == "length":
                continue
            present = logprobs(model, group, sample)
            ratio = (present - old[id(sample)]).exp()
            total = total + torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.28) * advantage).sum()
            distance = reference[id(sample)] - present
            total = total - config.loss.kl_coefficient * (distance.exp() - distance - 1).sum()
            tokens += len(sample.tokens)
    return -total / tokens


def naive_entropy(start: Path, groups: list[SampleGroup], config: RLConfig) -> float:
    """Of the starting policy, mean over the tokens that are trained on."""
    model = ReferenceMiMo(MODEL, ROTARY_BASE)
    model.load_state_dict(load_weights(start.parents[1] / "hf"))
    found = []
    for group in groups:
        for sample in group.finished:
            if not (config.overlong_masking and sample.finish_reason == "length"):
                tokens = torch.tensor([[*group.prompt.tokens, *sample.tokens]])
                scores = model(tokens)[0, 0, len(group.prompt.tokens) - 1 : -1]
                found.append(torch.distributions.Categorical(logits=scores).entropy())
    return float(torch.cat(found).mean())


def close(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    assert actual.keys() == expected.keys()
    worst = {name: float((actual[name].float() - tensor.float()).abs().max()) for name, tensor in expected.items()}
    assert max(worst.values()) <= tolerance, max(worst.items(), key=lambda item: item[1])


@pytest.fixture(scope="module")
def plain(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of two updates in one process; `finished` has the weights, `finished.json` the metrics."""
    folder = tmp_path_factory.mktemp("plain")
    changes = [
        ("plain", {}),
        ("long_rows", {"micro_batch_tokens": 4096}),
        ("one_sample_a_row", {"micro_batch_tokens": 1}),
        ("on_policy", {"on_policy": True, "overlong_masking": True}),
        ("with_kl", {"loss": {"kl_coefficient": 0.5}}),
    ]
    run_jobs(folder, 1, [{"name": name, "seeds": [1, 2], "tree": rl_tree(start, folder, **c)} for name, c in changes])
    return folder


@pytest.mark.parametrize(
    "changes",
    [{}, {"on_policy": True, "overlong_masking": True}, {"loss": {"kl_coefficient": 0.5}}],
    ids=["plain", "on_policy", "with_kl"],
)
def test_updates_are_those_of_a_naive_program(
    changes: dict[str, Any], plain: Path, start: Path, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    config = rl_config(rl_tree(start, plain, **changes))
    expected, losses = naive_training(start, config, [1, 2])
    before, after = load_weights(start.parents[1] / "hf"), load_weights(plain / name)
    assert all((after[n] - before[n]).abs().max() > 1e-3 for n in before if "mtp_layers" not in n), "all is trained"
    close(after, expected, 1e-5)
    close({n: t for n, t in after.items() if "mtp_layers" in n}, {n: t for n, t in before.items() if "mtp" in n}, 0)
    metrics = json.loads((plain / f"{name}.json").read_text())
    each = 1 if config.on_policy else 2
    for step, row in enumerate(metrics):
        assert row["loss"] == pytest.approx(sum(losses[each * step : each * (step + 1)]) / each, abs=1e-5)
        assert row["updates"] == each and row["skipped_updates"] == 0 and row["grad_norm"] > 0
    assert metrics[0]["entropy"] == pytest.approx(naive_entropy(start, make_groups(1), config), abs=1e-4)
    if not changes:
        assert "reference_kl" not in metrics[0]
        assert metrics[0]["clipped_high"] > 0 and metrics[0]["clipped_low"] > 0, "the clip is at work"


@pytest.mark.parametrize("name", ["long_rows", "one_sample_a_row"])
def test_packing_changes_nothing(name: str, plain: Path) -> None:
    close(load_weights(plain / name), load_weights(plain / "plain"), 1e-5)
    for row, expected in zip(metrics_of(plain / f"{name}.json"), metrics_of(plain / "plain.json"), strict=True):
        assert row == pytest.approx(expected, abs=1e-4, rel=1e-4)


DETACHED: dict[str, Any] = {"mtp": "detached", "mtp_learning_rate": 1e-2}


@pytest.fixture(scope="module")
def detached(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain run with MTP layers that learn; once with a gradient clip that both parts of the gradient pass."""
    folder = tmp_path_factory.mktemp("detached")
    clipped = {"optimizer": {"adam_eps": 1e-3, "clip_grad": 1e-3}}
    forms: dict[str, dict[str, Any]] = {
        "plain": DETACHED,
        "one_sample_a_row": DETACHED | {"micro_batch_tokens": 1},
        "recomputed": DETACHED | {"parallel": {"recompute": "full"}},
        "chunked": DETACHED | {"precision": {"dtype": "fp32", "cross_entropy": "chunked"}},
        "clipped": DETACHED | clipped,
        "clipped frozen": clipped,
    }
    jobs = [{"name": n, "seeds": [1, 2], "tree": rl_tree(start, folder, **changes)} for n, changes in forms.items()]
    run_jobs(folder, 1, jobs)
    return folder


def parts(weights: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The policy's and the MTP layers'."""
    mtp = {name: tensor for name, tensor in weights.items() if "mtp_layers" in name}
    return {name: tensor for name, tensor in weights.items() if name not in mtp}, mtp


@pytest.mark.parametrize("names", [("plain", "plain"), ("clipped", "clipped frozen")], ids=["plain", "clipped"])
def test_the_policy_is_the_same_to_the_last_bit_with_and_without_mtp_training(
    names: tuple[str, str], plain: Path, detached: Path, start: Path
) -> None:
    frozen_folder = detached if "frozen" in names[1] else plain
    policy, mtp = parts(load_weights(detached / names[0]))
    frozen_policy, _ = parts(load_weights(frozen_folder / names[1]))
    close(policy, frozen_policy, 0)
    _, before = parts(load_weights(start.parents[1] / "hf"))
    assert all((mtp[name] - before[name]).abs().max() > 1e-4 for name in before), "every MTP weight is trained"
    rows, frozen_rows = metrics_of(detached / f"{names[0]}.json"), metrics_of(frozen_folder / f"{names[1]}.json")
    for row, frozen in zip(rows, frozen_rows, strict=True):
        mtp_metrics = {name: row.pop(name) for name in ("mtp_loss", "mtp_grad_norm", "mtp_skipped_updates")}
        assert row == frozen
        assert mtp_metrics["mtp_loss"] > 1 and mtp_metrics["mtp_grad_norm"] > 0
        assert mtp_metrics["mtp_skipped_updates"] == 0


def naive_mtp_update(start: Path, groups: list[SampleGroup]) -> tuple[float, float]:
    """Loss and gradient norm of the MTP layer, sample by sample in float64 on the starting policy."""
    model = ReferenceMiMo(MODEL, ROTARY_BASE)
    model.load_state_dict(load_weights(start.parents[1] / "hf"))
    model.double()
    total, tokens = torch.zeros((), dtype=torch.float64), 0
    for group in groups:
        for sample in group.finished:
            whole = torch.tensor([*group.prompt.tokens, *sample.tokens])
            scores = model(whole[None])[1, 0, :-2].log_softmax(-1)
            losses = -scores.gather(-1, whole[2:, None]).squeeze(-1)
            total = total + losses[max(len(group.prompt.tokens) - 2, 0) :].sum()
            tokens += len(sample.tokens)
    loss = total / tokens
    loss.backward()
    gradients = [p.grad for name, p in model.named_parameters() if "mtp_layers" in name and p.grad is not None]
    return float(loss), float(torch.cat([gradient.flatten() for gradient in gradients]).norm())


def test_mtp_layers_learn_the_rollouts(start: Path, tmp_path: Path) -> None:
    tree = rl_tree(start, tmp_path, on_policy=True, **DETACHED)
    run_jobs(tmp_path, 1, [{"name": "one", "seeds": [1], "tree": tree}])
    loss, norm = naive_mtp_update(start, make_groups(1))
    (row,) = json.loads((tmp_path / "one.json").read_text())
    assert row["mtp_loss"] == pytest.approx(loss, rel=1e-5)
    assert row["mtp_grad_norm"] == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize("name", ["one_sample_a_row", "recomputed", "chunked"])
def test_packing_recomputation_and_chunked_heads_change_nothing_for_mtp_layers(name: str, detached: Path) -> None:
    close(load_weights(detached / name), load_weights(detached / "plain"), 1e-5)


LAYOUTS: dict[str, dict[str, Any]] = {
    "DP2": {"data_parallel_size": 2},
    "DP2 with an empty rank": {"data_parallel_size": 2, "micro_batch_tokens": 100_000},
    "TP2": {"parallel": {TP: 2}},
    "TP2 + SP": {"parallel": {TP: 2, "sequence_parallel": True}},
    "PP2": {"parallel": {PP: 2}},
}
DETACHED_LAYOUTS = {f"detached {name}": DETACHED | LAYOUTS[name] for name in ("DP2", "TP2 + SP", "PP2")}
TRAINING_ENTRIES = ("chat_trained", "trained_steps")
RESUMED: dict[str, dict[str, Any]] = {
    "DP2": {"data_parallel_size": 2, "precision": {"dtype": "bf16"}},
    "PP2": {"parallel": {PP: 2}},
    "detached PP2": DETACHED | {"parallel": {PP: 2}},
    "with KL, TP2": {"parallel": {TP: 2}, "loss": {"kl_coefficient": 0.5}},
}


@pytest.fixture(scope="module")
def two_ranks(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every layout; and two of them stopped after a step, continued, and not stopped."""
    folder = tmp_path_factory.mktemp("two")
    layouts = LAYOUTS | DETACHED_LAYOUTS
    jobs = [{"name": n, "seeds": [1, 2], "tree": rl_tree(start, folder, **changes)} for n, changes in layouts.items()]
    for name, changes in RESUMED.items():
        tree = rl_tree(start, folder / f"resumed {name}", **changes)
        jobs += [
            {"name": "whole", "seeds": [1, 2, 3], "tree": tree},
            {"name": "first", "seeds": [1], "save": 1, "tree": tree},
            {"name": "second", "seeds": [2, 3], "restore": 1, "tree": tree},
        ]
    run_jobs(folder, 2, jobs)
    return folder


def metrics_of(path: Path) -> list[dict[str, float]]:
    """Without what a clock decides."""
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in json.loads(path.read_text())]


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_change_nothing(name: str, plain: Path, two_ranks: Path) -> None:
    close(load_weights(two_ranks / name), load_weights(plain / "plain"), 1e-5)
    expected = metrics_of(plain / "plain.json")
    for row, other in zip(metrics_of(two_ranks / f"{name}.json"), expected, strict=True):
        assert row == pytest.approx(other, abs=1e-4, rel=1e-4)


@pytest.mark.parametrize("name", DETACHED_LAYOUTS)
def test_layouts_change_nothing_for_mtp_layers_that_learn(name: str, detached: Path, two_ranks: Path) -> None:
    close(load_weights(two_ranks / name), load_weights(detached / "plain"), 1e-5)
    expected = metrics_of(detached / "plain.json")
    for row, other in zip(metrics_of(two_ranks / f"{name}.json"), expected, strict=True):
        assert row == pytest.approx(other, abs=1e-4, rel=1e-4)


def test_a_run_keeps_the_way_it_trains_its_mtp_layers(start: Path, two_ranks: Path) -> None:
    folder = two_ranks / "resumed detached PP2"
    tree = rl_tree(start, folder, parallel={PP: 2})
    jobs = two_ranks / "changed.json"
    jobs.write_text(json.dumps([{"name": "changed", "seeds": [2], "restore": 1, "tree": tree}]))
    done = ranks(2, PROGRAM, str(jobs), timeout_seconds=60)
    assert done.returncode != 0 and "was made with mtp=detached" in done.stderr and "mtp=frozen" in done.stderr


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_goes_on_bit_for_bit(name: str, two_ranks: Path) -> None:
    folder = two_ranks / f"resumed {name}"
    close(load_weights(folder / "second"), load_weights(folder / "whole"), 0)
    parts = [*metrics_of(folder / "first.json"), *metrics_of(folder / "second.json")]
    assert parts == metrics_of(folder / "whole.json")


@pytest.mark.parametrize("name", RESUMED)
def test_written_weights_are_those_of_the_export(name: str, two_ranks: Path, tmp_path: Path) -> None:
    folder = two_ranks / f"resumed {name}"
    export_checkpoint(folder / "checkpoints" / "step_00000001", tmp_path / "export")
    written, exported = (
        {path.name: path.read_bytes() for path in f.iterdir()} for f in (folder / "first", tmp_path / "export")
    )
    for files in (written, exported):
        # Engines need no card, and no word on the training behind the weights.
        del files["README.md"]
        config = json.loads(files.pop("config.json"))
        files["config"] = {key: value for key, value in config.items() if key not in TRAINING_ENTRIES}
    assert written == exported
    assert written["config"]["model_type"] == "mimo"
