"""Tokenizing a source: megatron-core's own bytes, the same for any number of workers, and after any interruption."""

import dataclasses
import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.data.document import Document, is_held_out
from megatron_mimo.data.pipeline.shards import shard_path, write_documents
from megatron_mimo.data.tokens import preprocess as job
from megatron_mimo.data.tokens import tokenize_source as module
from megatron_mimo.data.tokens.encoder import TokenBlock
from megatron_mimo.data.tokens.indexed_writer import IndexedWriter
from megatron_mimo.data.tokens.manifest import open_split, read_manifest
from megatron_mimo.data.tokens.preprocess import PreprocessConfig, SourceConfig, TokenizerConfig, preprocess
from megatron_mimo.data.tokens.tokenizer import load_tokenizer
from megatron_mimo.platform.files import file_sha256
from support.needs import megatron_core

NUM_SHARDS, DOCUMENTS = 4, 60


def quiet(line: str) -> None:
    """Report nothing."""


def documents(shard: int) -> list[Document]:
    """Repetitive texts; every tenth document is held out by the pipeline, one is empty."""
    texts = [f"shard {shard} document {i}: " + "word " * (i % 7) for i in range(DOCUMENTS)] + [" \n"]
    return [Document(f"{shard}/{i}", text, "valid" if i % 10 == 0 else "train") for i, text in enumerate(texts)]


@pytest.fixture
def config(tmp_path: Path, data_folder: Path) -> PreprocessConfig:
    for shard in range(NUM_SHARDS):
        write_documents(shard_path(tmp_path / "shards", shard), documents(shard))
    return PreprocessConfig(
        output_dir=str(tmp_path / "out"),
        tokenizer=TokenizerConfig(path=str(data_folder / "tokenizer")),
        sources=[SourceConfig(name="a", domain="web", shards=str(tmp_path / "shards"), valid_share=0.05)],
    )


def hashes(folder: str | Path) -> dict[str, str]:
    """SHA-256 by file name of everything in the folder."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): file_sha256(path) for path in files}


def test_index_and_tokens_are_those_of_megatrons_builder(tmp_path: Path) -> None:
    indexed_dataset = megatron_core("datasets.indexed_dataset")
    generator = np.random.default_rng(0)
    for vocab_size in (2048, 151_680):
        dtype = indexed_dataset.DType.optimal_dtype(vocab_size)
        builder = indexed_dataset.IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=dtype)
        writer, parts = IndexedWriter(tmp_path / "ours", vocab_size), IndexedWriter(tmp_path / "joined", vocab_size)
        for part in range(3):
            lengths = generator.integers(1, 50, size=20 * part).astype(np.int32)
            ids = generator.integers(0, vocab_size, size=lengths.sum())
            for document, length in zip(np.split(ids, np.cumsum(lengths)[:-1]), lengths, strict=part > 0):
                builder.add_document(document, [int(length)])
            writer.add(TokenBlock(ids, lengths), 7)
            piece = IndexedWriter(tmp_path / f"piece{part}", vocab_size)
            piece.add(TokenBlock(ids, lengths), 7)
            parts.append(tmp_path, piece.finish())
        builder.finalize(str(tmp_path / "theirs.idx"))
        ours, joined = writer.finish(), parts.finish()
        assert dataclasses.replace(joined, prefix="ours") == ours
        assert (ours.documents, ours.bytes) == (60, 21)
        for kind in ("bin", "idx"):
            assert (tmp_path / f"theirs.{kind}").read_bytes() == (tmp_path / f"ours.{kind}").read_bytes()
            assert ours.sha256[kind] == file_sha256(tmp_path / f"theirs.{kind}") == joined.sha256[kind]


def test_shards_are_read_in_order_with_their_split(config: PreprocessConfig) -> None:
    from tokenizers import Tokenizer

    manifest = preprocess(config, quiet)
    tokenizer = Tokenizer.from_file(f"{config.output_dir}/tokenizer/tokenizer.json")
    everything = [document for shard in range(NUM_SHARDS) for document in documents(shard) if document.text.strip()]
    expected = {"train": [], "valid": []}
    for document in everything:
        held_out = document.split == "valid" or is_held_out(document.text, 0.05)
        expected["valid" if held_out else "train"].append(document)
    assert len(expected["valid"]) > NUM_SHARDS * DOCUMENTS // 10
    for split in ("train", "valid"):
        stream = open_split(config.output_dir, manifest.sources["a"], split, verify=True)
        text = "".join(document.text + "<|endoftext|>" for document in expected[split])
        assert tokenizer.decode(stream.tokens.astype(np.int64).tolist(), skip_special_tokens=False) == text
    lines = (Path(config.output_dir) / "heldout" / "text" / "a.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [document.id for document in expected["valid"]]


def test_blank_and_repeated_lines_are_no_documents(config: PreprocessConfig, tmp_path: Path) -> None:
    """A text of white space alone would be an end-of-document token with next to nothing before it."""
    texts = ["one", "\n", "two", " \t\r\n", "", "\u3000", "one", "three\n"]
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    source = SourceConfig(name="c", domain="web", jsonl=str(path), valid_share=0)
    manifest = preprocess(dataclasses.replace(config, sources=[source]), quiet)
    stream = open_split(config.output_dir, manifest.sources["c"], "train", verify=True)
    tokenizer = load_tokenizer(f"{config.output_dir}/tokenizer")
    text = tokenizer.decode(stream.tokens.astype(np.int64).tolist(), skip_special_tokens=False)
    assert text == "one<|endoftext|>two<|endoftext|>three\n<|endoftext|>"


def test_workers_and_blocks_do_not_change_a_byte(
    config: PreprocessConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "b.jsonl"
    path.write_text("".join(json.dumps({"text": document.text}) + "\n" for s in range(4) for document in documents(s)))
    lines = SourceConfig(name="b", domain="web", jsonl=str(path), valid_share=0.2)
    config = dataclasses.replace(config, sources=[*config.sources, lines])
    preprocess(config, quiet)
    monkeypatch.setattr(module, "BLOCK_DOCUMENTS", 7)
    preprocess(dataclasses.replace(config, output_dir=str(tmp_path / "two"), num_workers=2), quiet)
    assert hashes(config.output_dir) == hashes(tmp_path / "two")
    assert not (tmp_path / "two" / "parts").exists()


def test_empty_split_is_kept_as_up_to_date(config: PreprocessConfig, tmp_path: Path) -> None:
    write_documents(shard_path(tmp_path / "train", 0), [Document("0", "some text")])
    source = SourceConfig(name="a", domain="web", shards=str(tmp_path / "train"), valid_share=0.0)
    config = dataclasses.replace(config, sources=[source])
    assert preprocess(config, quiet).sources["a"].valid.documents == 0
    report: list[str] = []
    preprocess(config, report.append)
    assert "up to date" in report[0]


def test_interrupted_source_keeps_its_sound_parts(
    config: PreprocessConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocess(dataclasses.replace(config, output_dir=str(tmp_path / "undisturbed")), quiet)
    read, stop_at = module.shard_documents, 2
    opened: list[str] = []

    def reads_until_interrupted(source: SourceConfig, path: Path) -> Iterator[Document]:
        opened.append(path.name)
        for number, document in enumerate(read(source, path)):
            if len(opened) > stop_at and number == 20:
                raise KeyboardInterrupt
            yield document

    monkeypatch.setattr(module, "shard_documents", reads_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        preprocess(config, quiet)
    part = Path(config.output_dir) / "parts" / "a" / "00000" / "part_train.bin"
    part.write_bytes(part.read_bytes()[:-2])
    opened.clear()
    stop_at = NUM_SHARDS
    preprocess(config, quiet)
    assert opened == ["00000.jsonl.zst", "00002.jsonl.zst", "00003.jsonl.zst"]
    assert hashes(config.output_dir) == hashes(tmp_path / "undisturbed")


def _preprocess_and_die(config: PreprocessConfig, after_parts: int) -> None:
    write_json, written = module.write_json, []

    def kills(path: Path, content: object) -> None:
        write_json(path, content)
        written.append(path)
        if len(written) == after_parts:
            os.kill(os.getpid(), signal.SIGKILL)

    module.write_json = kills
    preprocess(config, quiet)


@pytest.mark.parametrize("after_parts", [1, NUM_SHARDS])
def test_killed_process_goes_on_to_the_same_bytes(config: PreprocessConfig, tmp_path: Path, after_parts: int) -> None:
    preprocess(dataclasses.replace(config, output_dir=str(tmp_path / "undisturbed")), quiet)
    process = multiprocessing.get_context("fork").Process(target=_preprocess_and_die, args=(config, after_parts))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (Path(config.output_dir) / "manifest.json").exists()
    preprocess(config, quiet)
    assert hashes(config.output_dir) == hashes(tmp_path / "undisturbed")


def _kill_oneself(item: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_killed_worker_is_an_error_with_a_way_out() -> None:
    with pytest.raises(UserError, match="run the same command again"):
        list(module.ordered_map(_kill_oneself, range(8), 1))


def test_results_come_in_order_and_input_is_taken_as_needed() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(50):
            taken.append(item)
            yield -item

    results = module.ordered_map(abs, items(), 1)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(taken) <= 5
    assert list(results) == list(range(3, 50))


def test_damaged_shard_is_named(config: PreprocessConfig) -> None:
    assert config.sources[0].shards is not None
    shard_path(config.sources[0].shards, 2).write_bytes(b"not a shard\n")
    with pytest.raises(UserError, match=r"00002\.jsonl\.zst is damaged"):
        preprocess(config, quiet)
    assert not (Path(config.output_dir) / "manifest.json").exists()


def test_one_kind_of_input_a_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exactly one of embedded, jsonl, shards and pairs"):
        SourceConfig(name="a", domain="web", shards="x", jsonl="y")
    source = SourceConfig(name="a", domain="web", shards=str(tmp_path))
    with pytest.raises(UserError, match="no 00000.jsonl.zst"):
        preprocess(PreprocessConfig(output_dir=str(tmp_path / "out"), sources=[source]), quiet)


def test_shards_changed_since_are_refused(config: PreprocessConfig) -> None:
    preprocess(config, quiet)
    assert config.sources[0].shards is not None
    write_documents(shard_path(config.sources[0].shards, NUM_SHARDS), documents(9))
    with pytest.raises(UserError, match="overwrite=true"):
        preprocess(config, quiet)
    assert read_manifest(config.output_dir).recipe_sha256 != job.recipe_sha256(config)
