"""The offline job: megatron-core reads what it wrote, and finished folders are kept, refused or replaced."""

import dataclasses
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from megatron_mimo.config import UserError
from megatron_mimo.data.tokens import preprocess as job
from megatron_mimo.data.tokens.manifest import open_split, read_manifest
from megatron_mimo.data.tokens.preprocess import PreprocessConfig, SourceConfig, preprocess


def quiet(line: str) -> None:
    """Report nothing."""


def copy_of(data_folder: Path, config: PreprocessConfig, tmp_path: Path) -> PreprocessConfig:
    shutil.copytree(data_folder, tmp_path / "copy")
    return dataclasses.replace(config, output_dir=str(tmp_path / "copy"))


def test_megatron_core_reads_every_document_back(data_folder: Path, preprocess_config: PreprocessConfig) -> None:
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    tokenizer = Tokenizer.from_file(str(data_folder / "tokenizer" / "tokenizer.json"))
    for source in preprocess_config.sources:
        assert source.jsonl is not None
        written = []
        for split in ("train", "valid"):
            dataset = IndexedDataset(str(data_folder / f"{source.name}_{split}"))
            written += [tokenizer.decode(dataset[i], skip_special_tokens=False) for i in range(len(dataset))]
        texts = [json.loads(line)["text"] for line in Path(source.jsonl).read_text().splitlines()]
        assert sorted(written) == sorted(f"{text}<|endoftext|>" for text in texts)


def test_manifest_counts_equal_what_megatron_core_counts(data_folder: Path) -> None:
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    manifest = read_manifest(data_folder)
    for source in manifest.sources.values():
        for split, entry in (("train", source.train), ("valid", source.valid)):
            dataset = IndexedDataset(str(data_folder / entry.prefix))
            assert (entry.documents, entry.tokens) == (len(dataset), int(dataset.sequence_lengths.sum()))
            stream = open_split(data_folder, source, split, verify=True)
            everything = np.concatenate([dataset[i] for i in range(len(dataset))])
            assert np.array_equal(stream.read(0, len(stream)), everything)


def test_held_out_texts_are_the_valid_split(data_folder: Path) -> None:
    manifest = read_manifest(data_folder)
    for name, entry in manifest.sources.items():
        lines = (data_folder / "heldout" / "text" / f"{name}.jsonl").read_text().splitlines()
        texts = [json.loads(line)["text"] for line in lines]
        assert len(texts) == entry.valid.documents > 0
        assert sum(len(text.encode()) for text in texts) == entry.valid.bytes


def test_up_to_date_folder_is_kept(data_folder: Path, preprocess_config: PreprocessConfig) -> None:
    before = {path: path.stat().st_mtime_ns for path in data_folder.rglob("*")}
    lines: list[str] = []
    preprocess(preprocess_config, lines.append)
    assert lines == [f"{data_folder} is up to date: kept"]
    assert {path: path.stat().st_mtime_ns for path in data_folder.rglob("*")} == before


def test_other_finished_folder_is_refused_then_replaced(
    data_folder: Path, preprocess_config: PreprocessConfig, tmp_path: Path
) -> None:
    config = copy_of(data_folder, preprocess_config, tmp_path)
    config = dataclasses.replace(config, sources=config.sources[:1])
    with pytest.raises(UserError, match="overwrite=true"):
        preprocess(config, quiet)
    assert len(read_manifest(config.output_dir).sources) == 3
    preprocess(dataclasses.replace(config, overwrite=True), quiet)
    assert len(read_manifest(config.output_dir).sources) == 1


def test_interrupted_job_goes_on_with_the_next_source(
    data_folder: Path, preprocess_config: PreprocessConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(preprocess_config, output_dir=str(tmp_path / "data"))
    write_source, written = job._write_source, []

    def write_two_sources(source: SourceConfig, *rest: Any) -> object:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(source.name)
        return write_source(source, *rest)

    monkeypatch.setattr(job, "_write_source", write_two_sources)
    with pytest.raises(KeyboardInterrupt):
        preprocess(config, quiet)
    assert not (tmp_path / "data" / "manifest.json").exists()
    monkeypatch.setattr(job, "_write_source", lambda *args: written.append(args[0].name) or write_source(*args))
    assert preprocess(config, quiet) == read_manifest(data_folder)
    assert written == ["letters", "words", "numbers"]


def test_gzip_text_field_and_repetitions(tmp_path: Path) -> None:
    lines = [json.dumps({"content": f"some text {i % 50}"}) for i in range(100)]
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as stream:
        stream.write("\n".join(lines))
    source = SourceConfig(name="a", domain="web", jsonl=str(tmp_path / "*.gz"), text_field="content", valid_share=0.0)
    texts = [document.text for document in job.source_documents(source)]
    assert texts == [f"some text {i}" for i in range(50)]


@pytest.mark.parametrize("line", ['{"other": "x"}', "not json", '"a string"', "[1]"])
def test_bad_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(UserError, match=r"a.jsonl, line 2: not a JSON object with a 'text' field"):
        list(job.source_documents(SourceConfig(name="a", domain="web", jsonl=str(path))))


def test_pattern_without_files(tmp_path: Path) -> None:
    source = SourceConfig(name="a", domain="web", jsonl=str(tmp_path / "*.jsonl"))
    with pytest.raises(UserError, match="no file matches"):
        preprocess(PreprocessConfig(output_dir=str(tmp_path / "out"), sources=[source]), quiet)
    assert not (tmp_path / "out").exists()


def test_unknown_embedded_source() -> None:
    with pytest.raises(UserError, match="must be one of text, code, arithmetic, synthetic"):
        SourceConfig(name="a", domain="web", embedded="poems")
