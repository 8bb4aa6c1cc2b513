"""vLLM on models whose every token and draft is known: counters of drafts, the answer's reasoning part."""

import itertools
import json
import math
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from megatron_mimo.config import ModelConfig
from megatron_mimo.convert.huggingface import check_tokenizer, write_hugging_face
from megatron_mimo.data.tokenizer import save_tokenizer, train_tokenizer
from megatron_mimo.model.reference import ReferenceMiMo
from megatron_mimo.serve.openai_server import complete, running_server
from megatron_mimo.serve.speculative import vllm_environment
from megatron_mimo.serve.vllm_engine import PromptGroup, generate
from support.launch import ROOT

pytest.importorskip("vllm")
pytestmark = pytest.mark.slow
ANSWER, OTHER = 65, 66
MODEL = ModelConfig(
    num_layers=1, hidden_size=64, ffn_hidden_size=64, num_attention_heads=2, num_query_groups=1, kv_channels=32,
    vocab_size=384,
)  # fmt: skip


def constant_model(folder: Path, draft_agrees: bool) -> Path:
    """A model that says ANSWER after anything, and whose MTP layer agrees, or always proposes OTHER.

    Every embedding carries a 1 in its first place and all layers pass it on unchanged; the head reads ANSWER off a
    positive first place and OTHER off a negative one.
    """
    tensors = transparent_weights()
    tensors["model.embed_tokens.weight"][:, 0] = 1.0
    tensors["lm_head.weight"][ANSWER, 0], tensors["lm_head.weight"][OTHER, 0] = 1.0, -1.0
    tensors["model.mtp_layers.0.input_proj.weight"][0, 0] = 1.0 if draft_agrees else -1.0
    return write_model(folder, tensors, train_tokenizer(["some words"], vocab_size=268))


def undecided_model(folder: Path) -> Path:
    """A model that says ANSWER with probability 0.6 and OTHER with 0.4 at temperature 0.6; its drafts say ANSWER."""
    tensors = transparent_weights()
    tensors["model.embed_tokens.weight"][:, 0] = 1.0
    head = tensors["lm_head.weight"]
    # The norm makes 8 of the 1 among 64 places.
    head[ANSWER, 0] = 2.0
    head[OTHER, 0] = 2.0 - 0.6 * math.log(0.6 / 0.4) / 8
    tensors["model.mtp_layers.0.input_proj.weight"][0, 0] = 1.0
    return write_model(folder, tensors, train_tokenizer(["some words"], vocab_size=268))


def reciting_model(folder: Path, pieces: list[str]) -> Path:
    """A model that says the tokens `pieces` one after another behind a line break: each token calls for the next."""
    tokenizer = train_tokenizer(["some words"], vocab_size=268)
    tokenizer.add_tokens(["<think>", "</think>"])
    ids = [tokenizer.token_to_id(piece) for piece in ("\u010a", *pieces, "<|im_end|>", "<|endoftext|>")]
    tensors = transparent_weights()
    for place, (now, following) in enumerate(itertools.pairwise(ids)):
        tensors["model.embed_tokens.weight"][now, place] = 1.0
        tensors["lm_head.weight"][following, place] = 1.0
    return write_model(folder, tensors, tokenizer)


def transparent_weights() -> dict[str, torch.Tensor]:
    """Layers that add nothing and norms that only scale; embeddings, head and MTP projection are left to fill in."""
    tensors = {name: torch.zeros_like(t) for name, t in ReferenceMiMo(MODEL, rotary_base=10_000).state_dict().items()}
    for name, tensor in tensors.items():
        if "norm" in name:
            tensor.fill_(1.0)
    return tensors


def write_model(folder: Path, tensors: dict[str, torch.Tensor], tokenizer: Tokenizer) -> Path:
    """The Hugging Face folder of these weights."""
    path = folder.parent / "tokenizer"
    save_tokenizer(tokenizer, path)
    write_hugging_face(
        folder, MODEL, tensors.items(), rotary_base=10_000, seq_length=128, tokenizer=check_tokenizer(path, MODEL)
    )  # fmt: skip
    return folder


def test_a_draft_that_is_always_right_is_always_accepted(tmp_path: Path) -> None:
    folder = constant_model(tmp_path / "model", draft_agrees=True)
    groups = [PromptGroup("text", ["a", "some words"], max_tokens=21), PromptGroup("ids", [[5, 6, 7]], max_tokens=11)]
    generations = generate(folder, groups)
    text, ids = generations["text"], generations["ids"]
    assert len(set(text.texts)) == 1
    assert len(ids.texts) == 1
    assert (text.generated_tokens, ids.generated_tokens) == (42, 11)
    assert 0 < ids.draft_tokens < text.draft_tokens  # the counters are those of the group, not of the engine
    assert text.accepted_tokens == text.draft_tokens
    assert ids.accepted_tokens == ids.draft_tokens


def test_sampling_with_drafts_keeps_the_distribution(tmp_path: Path) -> None:
    """Requests of different temperatures in one batch, 600 tokens each, a draft for every second one."""
    folder = undecided_model(tmp_path / "model")
    program = Path(__file__).parent / "programs" / "sample_with_drafts.py"
    command = [sys.executable, str(program), str(folder), str(tmp_path / "out.json")]
    environment = vllm_environment() | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    shares = json.loads((tmp_path / "out.json").read_text())
    warm, cold, greedy = ({int(token): share for token, share in found.items()} for found in shares)
    # Four standard deviations of 600 draws are 0.08.
    assert warm[ANSWER] == pytest.approx(0.6, abs=0.08)
    assert warm[OTHER] == pytest.approx(0.4, abs=0.08)
    odds = 1.5 ** (0.6 / 0.2)
    assert cold[ANSWER] == pytest.approx(odds / (1 + odds), abs=0.08)
    assert greedy == {ANSWER: 1.0}


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_server_answers_and_rejects_drafts_that_are_always_wrong(tmp_path: Path, free_port: int) -> None:
    folder = constant_model(tmp_path / "model", draft_agrees=False)
    with running_server(folder, "127.0.0.1", free_port, [], tmp_path / "log") as url:
        answer = complete(url, "mimo", "some words", max_tokens=8)
        metrics = urllib.request.urlopen(f"{url}/metrics").read().decode()
    assert answer["usage"]["completion_tokens"] == 8
    assert len(set(answer["choices"][0]["text"])) == 1
    assert counter(metrics, "vllm:spec_decode_num_draft_tokens_total") >= 6
    assert counter(metrics, "vllm:spec_decode_num_accepted_tokens_total") == 0


def test_the_reasoning_is_told_apart_from_the_answer(tmp_path: Path, free_port: int) -> None:
    folder = reciting_model(tmp_path / "model", ["<think>", "m", "o", "</think>", "w", "d"])
    body = {"model": "mimo", "messages": [{"role": "user", "content": "some"}], "max_tokens": 16, "temperature": 0}
    with running_server(folder, "127.0.0.1", free_port, [], tmp_path / "log", reasoning_parser="mimo") as url:
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        message = json.load(urllib.request.urlopen(request))["choices"][0]["message"]
    assert (message["reasoning"], message["content"]) == ("mo", "wd")


def counter(metrics: str, name: str) -> float:
    """Value of a Prometheus counter in the text form."""
    return next(float(line.rsplit(" ", 1)[1]) for line in metrics.splitlines() if line.startswith(name))
