"""The tokens that may be drafted: how they are chosen, and that no text changes for it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from megatron_mimo.cli import draft_vocabulary as command
from megatron_mimo.config import ModelConfig, UserError
from megatron_mimo.data.chat.token_counts import count_data_tokens
from megatron_mimo.data.tokens.tokenizer import TURN_END_TOKEN, load_tokenizer, save_tokenizer, train_tokenizer
from megatron_mimo.model.drafting import speculative_decode
from megatron_mimo.model.reference import ReferenceMiMo
from megatron_mimo.serve import draft_vocabulary
from megatron_mimo.serve.draft_head import DraftHead

SHAPE: dict[str, Any] = dict(
    num_layers=2, hidden_size=32, ffn_hidden_size=48, num_attention_heads=4, num_query_groups=2, kv_channels=8,
    vocab_size=64,
)  # fmt: skip
FORMS: dict[str, dict[str, Any]] = {
    "parallel": {"mtp_num_layers": 3},
    "recursive": {"mtp_num_layers": 1, "mtp_recursive_steps": 3},
}
NEW_TOKENS = 16


def drafting_model(form: str) -> ReferenceMiMo:
    """Random, but its embedding and head make it mostly permute tokens, and its drafts right now and then."""
    model = ModelConfig(**SHAPE, **FORMS[form])
    generator = torch.Generator().manual_seed(4)
    reference = ReferenceMiMo(model, 10_000)
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.1 * noise if "norm" in name else 0.06 * noise)
        embedding = torch.randn(model.vocab_size, model.hidden_size, generator=generator)
        reference.model.embed_tokens.weight.copy_(embedding)
        reference.lm_head.weight.copy_(embedding[torch.randperm(model.vocab_size, generator=generator)] * 0.3)
        for layer in reference.model.mtp_layers:
            layer.get_parameter("input_proj.weight")[:, model.hidden_size :] += torch.eye(model.hidden_size)
    return reference.eval()


def greedy(model: ReferenceMiMo, prompt: list[int]) -> list[int]:
    """A token at a time."""
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(NEW_TOKENS):
            tokens.append(int(model(torch.tensor([tokens]))[0, 0, -1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("form", FORMS)
def test_texts_are_the_same_with_any_vocabulary_and_without_drafts(form: str) -> None:
    model = drafting_model(form)
    generator = torch.Generator().manual_seed(5)
    prompts = [torch.randint(0, 64, (length,), generator=generator).tolist() for length in (1, 7, 20)]
    vocabularies = [None, *(torch.randperm(64, generator=generator)[:size].sort().values for size in (1, 16, 63))]
    accepted = []
    for vocabulary in vocabularies:
        decoded = [speculative_decode(model, prompt, NEW_TOKENS, 3, vocabulary) for prompt in prompts]
        assert [one.tokens for one in decoded] == [greedy(model, prompt) for prompt in prompts]
        accepted.append(sum(sum(one.accepted) for one in decoded))
    assert accepted[0] > 6, "a test of drafts needs right ones"
    assert accepted[1] < accepted[0] and accepted[2] < accepted[0], "a small vocabulary has fewer of them"


def test_without_drafts_the_decoder_is_greedy_decoding() -> None:
    model = drafting_model("parallel")
    assert speculative_decode(model, [3, 5], NEW_TOKENS, 0).tokens == greedy(model, [3, 5])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_head_has_the_logits_of_its_tokens_and_no_others(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(6)
    whole, states = torch.randn(50, 16, generator=generator), torch.randn(7, 16, generator=generator).to(dtype)
    head = DraftHead([0, 3, 49], 50, 16, dtype)
    head.take_rows(whole)
    logits = head(states)
    expected = states @ whole.to(dtype).T
    torch.testing.assert_close(logits[:, [0, 3, 49]], expected[:, [0, 3, 49]])
    others = torch.ones(50, dtype=torch.bool)
    others[[0, 3, 49]] = False
    assert bool((logits[:, others] == float("-inf")).all())


def test_the_most_frequent_tokens_are_kept_and_the_ends_of_turns() -> None:
    counts = np.array([5, 0, 9, 9, 1, 7, 0, 0])
    chosen = draft_vocabulary.choose(counts, 4, always=[7], counted=["x"])
    assert chosen.token_ids == [2, 3, 5, 7]
    assert chosen.coverage == pytest.approx(25 / 31) and chosen.counted_tokens == 31
    for size in (1, 8):
        with pytest.raises(UserError, match="must be above 1 and below"):
            draft_vocabulary.choose(counts, size, [7], [])
    with pytest.raises(UserError, match="no token was counted"):
        draft_vocabulary.choose(np.zeros(8, dtype=np.int64), 4, [7], [])


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    save_tokenizer(train_tokenizer(["some words and more words"], vocab_size=275), tmp_path / "model")
    end = load_tokenizer(tmp_path / "model").token_to_id(TURN_END_TOKEN)
    (tmp_path / "model" / "config.json").write_text(json.dumps({"vocab_size": 320, "eos_token_id": [end]}))
    return tmp_path / "model"


def test_the_command_counts_what_the_assistant_says(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts.jsonl"
    turns = [{"role": "user", "content": "zzzz"}, {"role": "assistant", "content": "<think>\naab\n</think>\n\nab"}]
    texts.write_text(json.dumps({"messages": turns}) + "\n" + json.dumps({"text": "aaaa"}) + "\n")
    assert command.main([str(model_folder), "--texts", str(texts), "--size", "4"]) == 0
    tokenizer = load_tokenizer(model_folder)
    ids = draft_vocabulary.read(model_folder, 320)
    assert ids is not None and len(ids) == 4
    said = tokenizer.encode("<think>\naab\n</think>\n\nab", add_special_tokens=False).ids
    said += tokenizer.encode("aaaa", add_special_tokens=False).ids
    ranked = sorted(set(said), key=lambda token: (-said.count(token), token))
    assert set(ids) == {*ranked[:3], tokenizer.token_to_id(TURN_END_TOKEN)}
    assert tokenizer.token_to_id("z") not in ids
    output = capsys.readouterr().out
    assert "4 of 320 tokens" in output and "of the head" in output


def test_tokenized_data_is_counted(tiny_data: Path) -> None:
    counts = count_data_tokens(tiny_data, tiny_data / "tokenizer", 320)
    manifest = json.loads((tiny_data / "manifest.json").read_text())
    assert counts.sum() == sum(source["train"]["tokens"] for source in manifest["sources"].values())
    with pytest.raises(UserError, match="the model knows 10"):
        count_data_tokens(tiny_data, tiny_data / "tokenizer", 10)


def test_bad_lists_and_files_are_refused(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert draft_vocabulary.read(model_folder, 320) is None
    for content, words in (
        ("{", "no draft vocabulary"),
        ('{"token_ids": [3, 2]}', "rise"),
        ('{"token_ids": [1, 320]}', "at most"),
        ('{"token_ids": []}', "rise"),
        ('{"token_ids": ["a"]}', "whole numbers"),
        ("[]", "no draft vocabulary"),
    ):
        (model_folder / draft_vocabulary.FILE).write_text(content)
        with pytest.raises(UserError, match=words):
            draft_vocabulary.read(model_folder, 320)
    monkeypatch.setenv(draft_vocabulary.VARIABLE, "none")
    assert draft_vocabulary.read(model_folder, 320) is None
    other = tmp_path / "other.json"
    other.write_text('{"token_ids": [1, 2]}')
    monkeypatch.setenv(draft_vocabulary.VARIABLE, str(other))
    assert draft_vocabulary.read(model_folder, 320) == [1, 2]
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert command.main([str(model_folder), "--texts", str(empty), "--size", "4"]) == 2
    empty.write_text('{"prompt_without_answer": 1}\n')
    assert command.main([str(model_folder), "--texts", str(empty), "--size", "4"]) == 2
    errors = capsys.readouterr().err
    assert "nothing to count" in errors and "empty.jsonl:1" in errors
