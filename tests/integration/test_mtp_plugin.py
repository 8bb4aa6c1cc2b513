"""vLLM drafting with three parallel MTP layers, against the plain-PyTorch reference, stock vLLM and no speculation.

Each vLLM runs in a process of its own, where every proposal is written down; one program (programs/record_drafts.py)
imports vLLM and forks them one after another.
"""

import json
import subprocess
import urllib.request
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import torch

from megatron_mimo.config import ModelConfig
from megatron_mimo.convert import huggingface, mimo
from megatron_mimo.data.tokens.tokenizer import save_tokenizer, train_tokenizer
from megatron_mimo.model.reference import ReferenceMiMo
from megatron_mimo.platform.network import free_port
from megatron_mimo.serve.openai_server import complete, running_server
from megatron_mimo.serve.speculative import PLUGIN, vllm_environment
from support.needs import needs

needs("vllm")
pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parent / "programs" / "record_drafts.py"
SHAPE: dict[str, Any] = dict(
    num_layers=3, hidden_size=128, ffn_hidden_size=256, num_attention_heads=4, num_query_groups=2, kv_channels=32,
    vocab_size=384,
)  # fmt: skip
ROTARY_BASE = 10_000
NEW_TOKENS = 60
LENGTHS = (1, 2, 3, 5, 17, 40, 64, 90)
GENERATOR = torch.Generator().manual_seed(2)
PROMPTS = [torch.randint(3, 300, (length,), generator=GENERATOR).tolist() for length in LENGTHS]


def random_model(folder: Path, mtp_num_layers: int) -> ReferenceMiMo:
    """A model that mostly permutes tokens, with enough noise that each of its MTP layers is right now and then."""
    model = ModelConfig(**SHAPE, mtp_num_layers=mtp_num_layers)
    generator = torch.Generator().manual_seed(0)
    noise = {name: torch.randn(shape, generator=generator) for name, shape in mimo.hugging_face_shapes(model).items()}
    weights = {n: 1 + 0.1 * t if "norm" in n else t * (0.3 if "bias" in n else 0.11) for n, t in noise.items()}
    embedding = weights["model.embed_tokens.weight"] = noise["model.embed_tokens.weight"]
    weights["lm_head.weight"] = embedding[torch.randperm(model.vocab_size, generator=generator)] * 0.1
    for i in range(mtp_num_layers):
        weights[f"model.mtp_layers.{i}.input_proj.weight"][:, model.hidden_size :] += torch.eye(model.hidden_size)
    return export(folder, model, weights)


def export(folder: Path, model: ModelConfig, weights: dict[str, torch.Tensor]) -> ReferenceMiMo:
    reference = ReferenceMiMo(model, ROTARY_BASE)
    reference.load_state_dict(weights)
    save_tokenizer(train_tokenizer(["some words"], vocab_size=268), folder.parent / "tokenizer")
    tokenizer = huggingface.check_tokenizer(folder.parent / "tokenizer", model)
    settings = {"rotary_base": ROTARY_BASE, "seq_length": 256, "tokenizer": tokenizer}
    huggingface.write_hugging_face(folder, model, weights.items(), **settings)
    return reference.eval().requires_grad_(False)


def request(folder: Path, num_drafts: int, plugin: bool = True, times: int = 1, **engine: Any) -> dict[str, Any]:
    """What record_drafts.py is asked."""
    engine = {"dtype": "float32", "max_model_len": 256, "max_num_seqs": 8, "enable_prefix_caching": False} | engine
    if num_drafts:
        engine["speculative_config"] = {"method": "mtp", "num_speculative_tokens": num_drafts}
    asked = {"model": str(folder), "prompts": PROMPTS, "max_tokens": NEW_TOKENS, "plugin": plugin, "times": times}
    return asked | {"engine": engine}


CHUNKED: dict[str, Any] = {
    "enable_prefix_caching": True, "max_num_batched_tokens": 32, "long_prefill_token_threshold": 16, "block_size": 32,
}  # fmt: skip
REQUESTS: dict[str, dict[str, Any]] = {
    "no drafts": {"num_drafts": 0},
    "2 drafts": {"num_drafts": 2},
    "3 drafts": {"num_drafts": 3},
    "chunked": {"num_drafts": 3, "times": 2, **CHUNKED},
    "stock": {"num_drafts": 3, "plugin": False},
    "one layer": {"num_drafts": 1},
    "one layer, stock": {"num_drafts": 1, "plugin": False},
}


@pytest.fixture(scope="module")
def answers(
    three_layers, one_layer, tmp_path_factory: pytest.TempPathFactory, vllm_python: str
) -> dict[str, dict[str, Any]]:
    """To every request, each from an engine of its own."""
    folder = tmp_path_factory.mktemp("answers")
    requests_path, answers_path = folder / "requests.json", folder / "answers.json"
    models = {name: (one_layer if name.startswith("one layer") else three_layers)[0] for name in REQUESTS}
    asked = {name: request(models[name], **settings) for name, settings in REQUESTS.items()}
    requests_path.write_text(json.dumps(asked))
    environment = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"} | vllm_environment()
    command = [vllm_python, str(PROGRAM), str(requests_path), str(answers_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(answers_path.read_text())


def agreement(reference: ReferenceMiMo, answer: dict[str, Any], num_drafts: int) -> list[tuple[int, int]]:
    """(drafts that are the reference's argmax, drafts) by draft position.

    After the token at position m + 1, layer d reads token m + d at position m, where tokens beyond m + 1 are the drafts
    before it. Proposals while a prompt still goes on are thrown away by vLLM and are not looked at.
    """
    counts = [[0, 0] for _ in range(num_drafts)]
    for prompt, output, proposals in zip(PROMPTS, answer["outputs"], answer["drafts"], strict=True):
        tokens = prompt + output
        for position, drafts in proposals:
            if len(prompt) - 1 <= position < len(tokens) - 2:
                logits = reference(torch.tensor([tokens[: position + 2] + drafts[:-1]]))[1:, 0, position]
                for depth, (draft, expected) in enumerate(zip(drafts, logits.argmax(-1).tolist(), strict=False)):
                    counts[depth][0] += draft == expected
                    counts[depth][1] += 1
    return [(right, total) for right, total in counts]


@pytest.fixture(scope="module")
def three_layers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ReferenceMiMo]:
    folder = tmp_path_factory.mktemp("three") / "model"
    return folder, random_model(folder, mtp_num_layers=3)


@pytest.fixture(scope="module")
def one_layer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ReferenceMiMo]:
    folder = tmp_path_factory.mktemp("one") / "model"
    return folder, random_model(folder, mtp_num_layers=1)


@pytest.fixture(scope="module")
def greedy_tokens(answers: dict[str, dict[str, Any]]) -> list[list[int]]:
    """Without speculation."""
    return answers["no drafts"]["outputs"]


@pytest.mark.parametrize("num_drafts", [2, 3])
def test_drafts_are_the_references_and_outputs_do_not_change(
    three_layers, answers, greedy_tokens, num_drafts: int
) -> None:
    _, reference = three_layers
    answer = answers[f"{num_drafts} drafts"]
    assert answer["outputs"] == greedy_tokens
    check_agreement(agreement(reference, answer, num_drafts))
    accepted = [count / answer["rounds"] for count in answer["accepted_per_position"]]
    print(f"accepted by draft position: {[round(share, 2) for share in accepted]}")
    assert 0.1 < accepted[num_drafts - 1] < accepted[0] < 0.95, "a test of drafts needs right and wrong ones"


def test_drafts_survive_prompts_computed_in_chunks_and_prefix_caching(three_layers, answers, greedy_tokens) -> None:
    """Chunks of 16 tokens: the later layers read tokens of the next chunk. The second time prompts are cached."""
    _, reference = three_layers
    answer = answers["chunked"]
    assert answer["outputs"] == greedy_tokens
    check_agreement(agreement(reference, answer, num_drafts=3))


def test_stock_vllm_uses_the_first_layer_alone(three_layers, answers) -> None:
    """The reason for the plugin, and a check that this comparison can fail."""
    _, reference = three_layers
    shares = [right / total for right, total in agreement(reference, answers["stock"], 3)]
    print(f"stock vLLM: agreement by draft position {[round(share, 3) for share in shares]}")
    assert shares[0] > 0.99
    assert max(shares[1:]) < 0.9


def test_with_one_layer_the_plugin_and_stock_vllm_agree(one_layer, answers) -> None:
    _, reference = one_layer
    ours, stock = answers["one layer"], answers["one layer, stock"]
    assert ours["drafts"] == stock["drafts"]
    assert ours["outputs"] == stock["outputs"]
    check_agreement(agreement(reference, ours, num_drafts=1))


@pytest.mark.skipif(
    PLUGIN not in {plugin.name for plugin in entry_points(group="vllm.general_plugins")},
    reason="the project is not installed, so vLLM's own processes do not find the plugin",
)
def test_server_asks_a_layer_of_its_own_for_each_draft(tmp_path: Path) -> None:
    """Layers 1 and 2 propose what the model says, layer 3 something else; stock vLLM would ask layer 1 three times."""
    folder = tmp_path / "model"
    constant_model(folder, right_layers=(0, 1))
    with running_server(folder, "127.0.0.1", free_port(), [], tmp_path / "log") as url:
        answer = complete(url, "mimo", "some words", max_tokens=31)
        metrics = urllib.request.urlopen(f"{url}/metrics").read().decode()
    assert len(set(answer["choices"][0]["text"])) == 1
    rounds = counter(metrics, "vllm:spec_decode_num_drafts_total")
    accepted = [counter(metrics, "vllm:spec_decode_num_accepted_tokens_per_pos_total", i) for i in range(3)]
    assert rounds >= 10
    assert accepted == [rounds, rounds, 0]


def constant_model(folder: Path, right_layers: tuple[int, ...]) -> None:
    """A model that says token 65 after anything; the MTP layers in `right_layers` agree, the others propose 66.

    Every embedding carries a 1 in its first place and all layers pass it on unchanged; the head reads 65 off a positive
    first place and 66 off a negative one.
    """
    model = ModelConfig(**SHAPE, mtp_num_layers=3)
    weights = {name: torch.zeros(shape) for name, shape in mimo.hugging_face_shapes(model).items()}
    for name, tensor in weights.items():
        if "norm" in name:
            tensor.fill_(1.0)
    weights["model.embed_tokens.weight"][:, 0] = 1.0
    weights["lm_head.weight"][65, 0], weights["lm_head.weight"][66, 0] = 1.0, -1.0
    for i in range(model.mtp_num_layers):
        weights[f"model.mtp_layers.{i}.input_proj.weight"][0, 0] = 1.0 if i in right_layers else -1.0
    export(folder, model, weights)


def counter(metrics: str, name: str, position: int | None = None) -> float:
    """Value of a Prometheus counter in the text form."""
    label = "" if position is None else f'position="{position}"'
    lines = (line for line in metrics.splitlines() if line.startswith(name + "{") and label in line)
    return float(next(lines).rsplit(" ", 1)[1])


def check_agreement(counts: list[tuple[int, int]]) -> None:
    print("drafts equal to the reference's:", ", ".join(f"{right} of {total}" for right, total in counts))
    assert all(total > 100 for _, total in counts)
    assert all(right / total >= 0.99 for right, total in counts)
