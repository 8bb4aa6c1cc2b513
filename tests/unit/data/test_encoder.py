"""The fast encoder against `tokenizers`: equal ids, special tokens as text, a fallback where it differs."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from megatron_mimo.data.nano.corpus import embedded_documents
from megatron_mimo.data.nano.probe_texts import probe_texts
from megatron_mimo.data.tokens import encoder as module
from megatron_mimo.data.tokens import tokenizer as tok
from megatron_mimo.data.tokens.encoder import Encoder, token_dtype
from support.needs import megatron_core

SPECIAL = "a<|im_end|>b<|endoftext|> <|im_start|>system"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    tok.save_tokenizer(tok.train_tokenizer([d.text for d in embedded_documents("synthetic")], 600), path)
    return path


@pytest.fixture(scope="module")
def fast(folder: Path) -> Encoder:
    pytest.importorskip("fastokens")
    encoder = Encoder(folder)
    assert (encoder.library, encoder.notice) == ("fastokens", "")
    return encoder


@pytest.fixture(scope="module")
def slow(folder: Path) -> Encoder:
    return Encoder(folder, fast=False)


def reference(folder: Path, texts: list[str]) -> list[list[int]]:
    """Documents by the plain library, special tokens as text, the end-of-document token behind."""
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    plain.encode_special_tokens = True
    eod = plain.token_to_id("<|endoftext|>")
    return [[*plain.encode(text, add_special_tokens=False).ids, eod] for text in texts]


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=8))
@settings(max_examples=150, deadline=None)
def test_both_libraries_equal_the_plain_one(fast: Encoder, slow: Encoder, folder: Path, texts: list[str]) -> None:
    expected = reference(folder, texts)
    for encoder in (fast, slow):
        block = encoder.encode(texts)
        assert block.lengths.tolist() == [len(ids) for ids in expected]
        assert block.ids.tolist() == [token for ids in expected for token in ids]
        assert (block.ids.dtype, block.lengths.dtype) == (np.uint16, np.int32)


def test_special_tokens_in_the_text_are_text(fast: Encoder, slow: Encoder, folder: Path) -> None:
    special = {fast.tokenizer.token_to_id(token) for token in tok.SPECIAL_TOKENS}
    for encoder in (fast, slow):
        ids = encoder.encode([SPECIAL]).ids.tolist()
        assert not special & set(ids[:-1])
        assert encoder.tokenizer.decode(ids[:-1], skip_special_tokens=False) == SPECIAL
    assert tok.encode_documents(slow.tokenizer, [SPECIAL])[0] == ids


def test_encoding_leaves_the_tokenizer_as_it_was(slow: Encoder) -> None:
    """Chat templates rely on special tokens being recognized."""
    tok.encode_documents(slow.tokenizer, ["x"])
    assert slow.tokenizer.encode("<|im_start|>").ids == [slow.tokenizer.token_to_id("<|im_start|>")]


def test_dtype_is_megatrons() -> None:
    indexed_dataset = megatron_core("datasets.indexed_dataset")
    for vocab_size in (2048, 65_499, 65_500, 151_680):
        assert token_dtype(vocab_size) == indexed_dataset.DType.optimal_dtype(vocab_size)


def test_probes_tell_wrong_rules_apart(folder: Path, tmp_path: Path) -> None:
    """Every rule of the pre-tokenization that could be got wrong cuts at least one probe in another way."""
    text = (folder / "tokenizer.json").read_text()
    right = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?"
    assert right in text

    def pieces(rules: str) -> list:
        (tmp_path / "tokenizer.json").write_text(text.replace(right, rules))
        cut = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).pre_tokenizer
        return [cut.pre_tokenize_str(probe) for probe in probe_texts()]

    expected = pieces(right)
    for part, wrong in (
        ("(?i:", "(?:"),
        (r"|\\p{N}|", r"|\\p{Nd}|"),
        (r"|\\p{N}|", r"|\\p{N}{1,3}|"),
        (r"[^\\r\\n\\p{L}\\p{N}]?", ""),
        (r"?\\p{L}+", r"?[\\p{L}\\p{M}]+"),
    ):
        assert pieces(right.replace(part, wrong)) != expected, wrong


def test_fallback_without_fastokens(folder: Path, slow: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastokens", None)
    encoder = Encoder(folder)
    assert encoder.library == "tokenizers"
    assert "fastokens is not installed" in encoder.notice
    assert np.array_equal(encoder.encode([SPECIAL, ""]).ids, slow.encode([SPECIAL, ""]).ids)


def test_fallback_where_it_differs_or_fails(folder: Path, slow: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    class Liar:
        """Encodes everything as one token."""

        @staticmethod
        def from_file(path: str) -> "Liar":
            return Liar()

        def encode_batch_flat(self, texts: list[str], split_special_tokens: bool) -> tuple[bytes, bytes]:
            return np.ones(len(texts), np.uint32).tobytes(), np.arange(len(texts) + 1, dtype=np.uint64).tobytes()

    class Refuser:
        """Supports nothing."""

        @staticmethod
        def from_file(path: str) -> None:
            raise ValueError("no such model")

    for stand_in, cause in ((Liar, "differs"), (Refuser, "no such model")):
        module = ModuleType("fastokens")
        module.Tokenizer = stand_in  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "fastokens", module)
        encoder = Encoder(folder)
        assert encoder.library == "tokenizers"
        assert cause in encoder.notice
        assert np.array_equal(encoder.encode([SPECIAL]).ids, slow.encode([SPECIAL]).ids)


class AlmostRight:
    """Stands in for fastokens: right but for texts with a snowman, whose last token it doubles."""

    def __init__(self, path: str) -> None:
        self.plain = tok.load_tokenizer(Path(path).parent)
        self.plain.encode_special_tokens = True

    @staticmethod
    def from_file(path: str) -> "AlmostRight":
        return AlmostRight(path)

    def encode_batch_flat(self, texts: list[str], split_special_tokens: bool) -> tuple[bytes, bytes]:
        all_ids = [self.plain.encode(text, add_special_tokens=False).ids for text in texts]
        all_ids = [ids + ids[-1:] if "\u2603" in text else ids for ids, text in zip(all_ids, texts, strict=True)]
        bounds = np.cumsum([0, *map(len, all_ids)], dtype=np.uint64)
        return np.concatenate([np.array(ids, np.uint32) for ids in all_ids]).tobytes(), bounds.tobytes()


def test_a_difference_that_a_spot_check_finds_is_mended_and_counted(
    folder: Path, slow: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fastokens = ModuleType("fastokens")
    fastokens.Tokenizer = AlmostRight  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fastokens", fastokens)
    encoder = Encoder(folder)
    assert (encoder.library, encoder.notice) == ("fastokens", "")
    plain, odd = [f"plain {i}" for i in range(3000)], [f"odd \u2603 {i}" for i in range(20_000)]
    checked, unchecked = ([t for t in odd if module._is_checked(t) is wanted] for wanted in (True, False))
    assert 5 < len(checked) < 60

    assert np.array_equal(encoder.encode(plain).ids, slow.encode(plain).ids)
    assert not np.array_equal(encoder.encode(unchecked[:2]).ids, slow.encode(unchecked[:2]).ids)
    assert encoder.differing_blocks == 0
    texts = [*plain, unchecked[0], checked[0], *plain, unchecked[1]]
    with pytest.warns(UserWarning, match=r"fastokens differs from tokenizers on the document 'odd \u2603"):
        block = encoder.encode(texts)
    assert np.array_equal(block.ids, slow.encode(texts).ids)
    assert np.array_equal(block.lengths, slow.encode(texts).lengths)
    assert encoder.differing_blocks == 1


def test_spot_checks_agree_where_the_libraries_do(fast: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every document checked, empty ones and the block's ends too: nothing to warn of."""
    monkeypatch.setattr(module, "CHECKED_ONE_IN", 1)
    fast.encode(["", *probe_texts(), ""])
    assert fast.differing_blocks == 0
