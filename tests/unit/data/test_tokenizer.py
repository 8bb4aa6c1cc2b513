"""The tokenizer: bytes come back, digits stand alone, Hugging Face loads it, the same text gives the same file."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from megatron_mimo.config import UserError
from megatron_mimo.data.nano.corpus import embedded_documents
from megatron_mimo.data.tokens import tokenizer as tok

VOCAB_SIZE = 600


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [document.text for document in embedded_documents("synthetic")]


@pytest.fixture(scope="module")
def tokenizer(texts: list[str]) -> Tokenizer:
    return tok.train_tokenizer(texts, VOCAB_SIZE)


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=200, deadline=None)
def test_round_trip_is_lossless(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_digits_stand_alone(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("1786").tokens == ["1", "7", "8", "6"]
    multiple = [token for token in tokenizer.get_vocab() if any(c.isdigit() for c in token) and len(token) > 1]
    assert multiple == []


def test_vocabulary_is_exact_and_special_tokens_come_last(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    ids = [tokenizer.token_to_id(token) for token in tok.SPECIAL_TOKENS]
    assert ids == list(range(VOCAB_SIZE - len(ids), VOCAB_SIZE))


def test_documents_end_with_eod(tokenizer: Tokenizer) -> None:
    ids = tok.encode_documents(tokenizer, ["a", "bc"])
    assert [document[-1] for document in ids] == [tokenizer.token_to_id("<|endoftext|>")] * 2
    assert tokenizer.decode(ids[1]) == "bc"


def test_training_is_deterministic(tokenizer: Tokenizer, texts: list[str], tmp_path: Path) -> None:
    for name, trained in (("a", tokenizer), ("b", tok.train_tokenizer(texts, VOCAB_SIZE))):
        tok.save_tokenizer(trained, tmp_path / name)
    assert tok.tokenizer_sha256(tmp_path / "a") == tok.tokenizer_sha256(tmp_path / "b")


def test_transformers_loads_the_folder(tokenizer: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tok.save_tokenizer(tokenizer, tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.encode("Question: 47+38=?\n") == tokenizer.encode("Question: 47+38=?\n").ids
    assert loaded.eos_token == tok.EOD_TOKEN
    messages = [{"role": "user", "content": "Hi"}]
    chat = loaded.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert chat == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert loaded.encode(chat)[0] == tokenizer.token_to_id("<|im_start|>")


def test_too_little_text_for_the_vocabulary() -> None:
    with pytest.raises(UserError, match=r"smaller tokenizer\.vocab_size"):
        tok.train_tokenizer(["abc"], VOCAB_SIZE)


def test_missing_and_broken_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer at"):
        tok.tokenizer_sha256(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="is not a tokenizer"):
        tok.load_tokenizer(tmp_path)
