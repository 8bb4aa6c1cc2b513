"""Pairs that megatron-core's builder wrote become sources: the same tokens in the same order, or a true refusal."""

import dataclasses
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from megatron_mimo.cli import import_tokens as cli
from megatron_mimo.config import ConfigError, DataConfig, UserError
from megatron_mimo.data.loading.datasets import build_stage_dataset, build_validation_datasets
from megatron_mimo.data.tokens import import_tokens, peer_pair
from megatron_mimo.data.tokens.manifest import Manifest, check_split, open_split, read_manifest
from megatron_mimo.data.tokens.peer_pair import PeerPair
from megatron_mimo.data.tokens.preprocess import (
    PreprocessConfig,
    SourceConfig,
    TokenizerConfig,
    preprocess,
    recipe_sha256,
)
from megatron_mimo.data.tokens.tokenizer import load_tokenizer
from support.needs import megatron_core

indexed_dataset = megatron_core("datasets.indexed_dataset")
EOD = 271
"""`<|endoftext|>` of the fixtures' tokenizer of 280 tokens."""
Documents = list[list[list[int]]]
"""Documents of sequences of token ids."""


def write_pair(prefix: Path, documents: Documents, dtype: type = np.int32, modes: list[int] | None = None) -> Path:
    """Write a pair with megatron-core's own builder; `modes` of all sequences makes it multimodal."""
    builder = indexed_dataset.IndexedDatasetBuilder(f"{prefix}.bin", dtype=dtype, multimodal=modes is not None)
    for document in documents:
        tokens = torch.tensor([token for sequence in document for token in sequence])
        own = None if modes is None else [modes.pop(0) for _ in document]
        builder.add_document(tokens, [len(sequence) for sequence in document], own)
    builder.finalize(f"{prefix}.idx")
    return prefix


def random_documents(count: int, highest: int = 250, sequences: int = 1, eod: bool = True, seed: int = 0) -> Documents:
    """Documents of several sequences each; the last sequence ends with the EOD token."""
    generator = np.random.default_rng(seed)
    documents = [
        [generator.integers(0, highest, generator.integers(1, 40)).tolist() for _ in range(sequences)]
        for _ in range(count)
    ]
    for document in documents if eod else []:
        document[-1].append(EOD)
    return documents


def flat(documents: Documents) -> list[int]:
    return [token for document in documents for sequence in document for token in sequence]


@pytest.fixture
def run(data_folder: Path, tmp_path: Path) -> Callable[..., tuple[Manifest, list[str]]]:
    """Import the pairs as source `web` into `tmp_path / "out"`; returns the manifest and the lines of the report."""

    def run(*pairs: Path | str, num_workers: int = 0, **settings: Any) -> tuple[Manifest, list[str]]:
        lines: list[str] = []
        source = SourceConfig(name="web", domain="web", pairs=[str(pair) for pair in pairs], **settings)
        config = PreprocessConfig(
            output_dir=str(tmp_path / "out"),
            sources=[source],
            tokenizer=TokenizerConfig(path=str(data_folder / "tokenizer")),
            num_workers=num_workers,
        )
        return preprocess(config, lines.append), lines

    return run


def tokens_of(folder: Path, split: Any = "train") -> list[int]:
    stream = open_split(folder, read_manifest(folder).sources["web"], split, verify=True)
    return stream.read(0, len(stream)).tolist()


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.uint16])
@pytest.mark.parametrize("sequences", [1, 3])
def test_every_type_and_documents_of_several_sequences(dtype: type, sequences: int, run, tmp_path: Path) -> None:
    documents = random_documents(20, sequences=sequences)
    manifest, _ = run(write_pair(tmp_path / "peer", documents, dtype), valid_share=0.1)
    assert tokens_of(tmp_path / "out") == flat(documents[:18])
    assert tokens_of(tmp_path / "out", "valid") == flat(documents[18:])
    source = manifest.sources["web"]
    assert (source.train.documents, source.valid.documents, source.unended_documents) == (18, 2, 0)
    assert source.train.bytes is None
    assert not list((tmp_path / "out").glob("*.bin"))


@pytest.mark.parametrize(("dtype", "highest"), [(np.uint8, 255), (np.int8, 127)])
def test_narrow_types_are_taken_and_their_bound_is_said(dtype: type, highest: int, run, tmp_path: Path) -> None:
    documents = random_documents(20, highest=highest, eod=False)
    _, lines = run(write_pair(tmp_path / "peer", documents, dtype), valid_share=0.0, eod="ignore")
    assert tokens_of(tmp_path / "out") == flat(documents)
    assert any(f"end at {highest}, the tokenizer's at 279" in line for line in lines)


def test_several_pairs_are_one_stream(run, tmp_path: Path, write_mixture, data_folder: Path) -> None:
    """Samples of pairs of different types, that run across their seams, are those of one pair of the same tokens."""
    parts = [random_documents(count, seed=count) for count in (1, 7, 30)]
    pairs = [
        write_pair(tmp_path / f"part{i}", part, dtype)
        for i, (part, dtype) in enumerate(zip(parts, (np.int32, np.int64, np.uint16), strict=True))
    ]
    run(*pairs, valid_share=0.0)
    data = DataConfig(path=str(tmp_path / "out"), tokenizer=str(tmp_path / "out" / "tokenizer"))
    mixture = write_mixture("sources: {web: 1}")
    several = build_stage_dataset(data, mixture, 100, 50, seed=1)
    whole = write_pair(tmp_path / "whole", [document for part in parts for document in part])
    cli_run(tmp_path / "single", data_folder, f"web={whole}", "--valid-share", "0")
    single = build_stage_dataset(dataclasses.replace(data, path=str(tmp_path / "single")), mixture, 100, 50, seed=1)
    for index in range(50):
        assert several[index]["tokens"].tolist() == single[index]["tokens"].tolist()
    assert tokens_of(tmp_path / "out") == [token for part in parts for token in flat(part)]


def cli_run(folder: Path, data_folder: Path, *arguments: str) -> int:
    return cli.main([*arguments, "--tokenizer", str(data_folder / "tokenizer"), "--output", str(folder)])


def test_text_tokenized_by_us_and_by_a_peer_gives_the_same_samples(
    data_folder: Path, data_config: DataConfig, tmp_path: Path, write_mixture, capsys
) -> None:
    """Through the command: the same documents over two pairs per source, and held-out pairs of their own."""
    manifest = read_manifest(data_folder)
    arguments = []
    for name, source in manifest.sources.items():
        for split, entry in (("train", source.train), ("valid", source.valid)):
            ours = indexed_dataset.IndexedDataset(str(data_folder / entry.prefix))
            documents = [[ours[i][:1].tolist(), ours[i][1:].tolist()] for i in range(len(ours))]
            half = len(documents) // 2
            for part, some in enumerate((documents[:half], documents[half:])):
                prefix = write_pair(tmp_path / f"{name}_{split}_{part}", some)
                arguments += [f"{name}={prefix}"] if split == "train" else ["--valid", f"{name}={prefix}"]
    assert cli_run(tmp_path / "out", data_folder, *arguments) == 0
    assert "data.path=" in capsys.readouterr().out
    mixture = write_mixture("sources: {letters: 0.5, words: 0.3, numbers: 0.2}")
    imported = DataConfig(path=str(tmp_path / "out"), tokenizer=data_config.tokenizer)
    ours, theirs = (build_stage_dataset(data, mixture, 16, 300, seed=3) for data in (data_config, imported))
    assert all(np.array_equal(ours[i]["tokens"], theirs[i]["tokens"]) for i in range(300))
    ours, theirs = (build_validation_datasets(data, 16, 9) for data in (data_config, imported))
    for name, dataset in ours.items():
        assert all(np.array_equal(dataset[i]["tokens"], theirs[name][i]["tokens"]) for i in range(len(dataset)))
    entry = read_manifest(tmp_path / "out").tokenizer
    assert entry == manifest.tokenizer


def test_documents_without_eod_are_refused_with_what_was_measured(run, tmp_path: Path) -> None:
    documents = [*random_documents(3), *random_documents(9, eod=False), [[5, EOD, 7]], [[]]]
    pair = write_pair(tmp_path / "peer", documents)
    with pytest.raises(UserError) as caught:
        run(pair)
    text = str(caught.value)
    assert "10 of the 14 documents" in text and "first is document 3" in text and "1 EOD tokens stand inside" in text
    assert "<|endoftext|> (id 271)" in text and "--eod" in text
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_another_end_token_is_named(run, tmp_path: Path) -> None:
    documents = [[*document, [273]] for document in random_documents(9, eod=False)]
    with pytest.raises(UserError, match=r"last token is id 273 \('<\|im_end\|>', 9 documents\)"):
        run(write_pair(tmp_path / "peer", documents))


def test_a_type_too_narrow_for_the_eod_token_is_named(run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\(id 271\), which uint8 cannot hold"):
        run(write_pair(tmp_path / "peer", random_documents(9, eod=False), np.uint8))


def test_missing_eods_are_added_to_a_copy(run, tmp_path: Path) -> None:
    """The copy is byte for byte what megatron-core's builder makes of the documents with their EOD tokens."""
    documents = random_documents(40, eod=False, sequences=2)
    documents[7][-1].append(EOD)
    documents[9] = [[], []]
    before = {path: path.read_bytes() for path in tmp_path.glob("peer.*")}
    manifest, lines = run(write_pair(tmp_path / "peer", documents), eod="add", valid_share=0.1)
    ended = [[document[0] + document[1]] for document in documents if flat([document])]
    for document in ended:
        document[0] += [] if document[0][-1] == EOD else [EOD]
    write_pair(tmp_path / "expected", ended, np.uint16)
    for kind in ("bin", "idx"):
        assert (tmp_path / "out" / f"web_00000.{kind}").read_bytes() == (tmp_path / f"expected.{kind}").read_bytes()
    assert tokens_of(tmp_path / "out") + tokens_of(tmp_path / "out", "valid") == flat(ended)
    assert manifest.sources["web"].unended_documents == 0
    assert any("38 documents had no EOD token: a copy" in line for line in lines)
    assert before == {path: path.read_bytes() for path in before}


def test_ignored_eods_are_said_when_training_starts(run, tmp_path: Path) -> None:
    from megatron_mimo.training.training_data import PretrainingData
    from support.tiny import tiny_config, tiny_tree, write_run

    manifest, lines = run(write_pair(tmp_path / "peer", random_documents(12, eod=False)), eod="ignore")
    assert manifest.sources["web"].unended_documents == 12
    assert any("12 documents do not end with EOD token 271" in line for line in lines)
    tree = tiny_tree(tmp_path / "out", tmp_path / "run")
    write_run(tmp_path, tree)
    (tmp_path / "stage1.yaml").write_text("sources: {web: 1}")
    notes = PretrainingData(tiny_config(tree), tmp_path).stage_notes(0, 4)
    assert any("web has 12 documents without EOD token" in note for note in notes)
    tree["data"]["intra_document_attention"] = False
    assert not any("EOD" in n for n in PretrainingData(tiny_config(tree), tmp_path).stage_notes(0, 4))


def test_multimodal_index_of_text_alone_is_text(run, tmp_path: Path) -> None:
    documents = random_documents(8)
    run(write_pair(tmp_path / "peer", documents, modes=[0] * 8), valid_share=0.0)
    assert tokens_of(tmp_path / "out") == flat(documents)


def test_other_modalities_are_refused_for_that_reason(run, tmp_path: Path) -> None:
    pair = write_pair(tmp_path / "peer", random_documents(8), modes=[0, 0, 0, 1, 0, 2, 0, 0])
    with pytest.raises(UserError, match="multimodal data set: 2 of its 8 sequences are not text .*sequence 3, of mod"):
        run(pair)


def test_floats_are_refused_for_that_reason(run, tmp_path: Path) -> None:
    builder = indexed_dataset.IndexedDatasetBuilder(str(tmp_path / "peer.bin"), dtype=np.float32)
    builder.add_document(torch.tensor([1.0, 2.0]), [2])
    builder.finalize(str(tmp_path / "peer.idx"))
    with pytest.raises(UserError, match="tokens are float32 numbers: those are no token ids"):
        run(tmp_path / "peer")


@pytest.mark.parametrize(("bad", "dtype"), [(280, np.int32), (-1, np.int16), (2**40, np.int64)])
def test_ids_outside_the_vocabulary_are_counted_and_placed(
    bad: int, dtype: type, run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_pair, "BLOCK_TOKENS", 50)
    documents = random_documents(30)
    documents[20][0][0] = documents[25][0][0] = bad
    place = len(flat(documents[:20]))
    with pytest.raises(UserError, match=rf"2 of its .* first is {bad}, token {place:,} of the file, in document 20"):
        run(write_pair(tmp_path / "peer", documents, dtype))


def test_index_without_document_bounds_takes_sequences_as_documents(run, tmp_path: Path) -> None:
    builder = indexed_dataset.IndexedDatasetBuilder(str(tmp_path / "peer.bin"), dtype=np.int32)
    for document in random_documents(10):
        builder.add_item(torch.tensor(document[0]))
    builder.finalize(str(tmp_path / "peer.idx"))
    manifest, lines = run(tmp_path / "peer", valid_share=0.2)
    assert (manifest.sources["web"].train.documents, manifest.sources["web"].valid.documents) == (8, 2)
    assert tokens_of(tmp_path / "out", "valid") == flat(random_documents(10)[8:])
    assert any("marks no documents" in line for line in lines)


def overwrite(path: Path, offset: int, form: str, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack(form, value))


N = 12
DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "bin cut": (
        lambda path: path.with_suffix(".bin").write_bytes(path.with_suffix(".bin").read_bytes()[:-4]),
        "is trunc",
    ),
    "bin longer": (lambda path: path.with_suffix(".bin").open("ab").write(b"1234") and None, "is longer"),
    "idx cut": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is truncated or corrupt"),
    "no bin": (lambda path: path.with_suffix(".bin").unlink(), "is missing"),
    "fairseq": (lambda path: overwrite(path, 0, "<3s", b"TNT"), "no Megatron index"),  # type: ignore[arg-type]
    "pointers": (lambda path: overwrite(path, 34 + 4 * N + 8 * 5, "<q", 3), "sequence 5 does not begin where"),
    "bounds": (lambda path: overwrite(path, 34 + 12 * N + 8 * 5, "<q", 2), "do not follow one another"),
    "last bound": (lambda path: overwrite(path, 34 + 12 * N + 8 * N, "<q", N - 1), "before sequence 11 of 12"),
    "bound beyond": (lambda path: overwrite(path, 34 + 12 * N + 8 * N, "<q", N + 1), "do not follow one another"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_pairs_are_refused(case: str, run, tmp_path: Path) -> None:
    damage, message = DAMAGE[case]
    path = Path(f"{write_pair(tmp_path / 'peer', random_documents(N))}.idx")
    damage(path)
    with pytest.raises(UserError, match=message) as caught:
        run(tmp_path / "peer")
    assert str(tmp_path / "peer") in str(caught.value) and len(str(caught.value).splitlines()) < 6
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_blocks_do_not_change_what_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [*random_documents(50, sequences=2), *random_documents(5, eod=False), [[]], [[], []]]
    pair = write_pair(tmp_path / "peer", documents)
    whole = PeerPair(pair).measure(280, EOD)
    assert (whole.documents, whole.sequences, whole.empty_documents) == (57, 108, 2)
    assert (whole.ended_documents, whole.unended_documents, whole.first_unended) == (50, 5, 50)
    for documents_limit, tokens_limit in ((1, 10**6), (7, 10**6), (1000, 1), (10, 100)):
        monkeypatch.setattr(peer_pair, "BLOCK_DOCUMENTS", documents_limit)
        monkeypatch.setattr(peer_pair, "BLOCK_TOKENS", tokens_limit)
        assert PeerPair(pair).measure(280, EOD) == whole


def test_interrupted_import_goes_on_with_the_next_pair(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [write_pair(tmp_path / f"part{i}", random_documents(10, seed=i)) for i in range(4)]
    measure, measured = PeerPair.measure, []

    def measure_two(self: PeerPair, *arguments: Any) -> Any:
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(self.prefix.name)
        return measure(self, *arguments)

    monkeypatch.setattr(PeerPair, "measure", measure_two)
    with pytest.raises(KeyboardInterrupt):
        run(*pairs)
    monkeypatch.setattr(
        PeerPair, "measure", lambda self, *args: measured.append(self.prefix.name) or measure(self, *args)
    )
    first, _ = run(*pairs)
    assert measured == ["part0", "part1", "part2", "part3"]
    assert [part.prefix for part in first.sources["web"].train.ranges] == [str(pair) for pair in pairs]
    assert not (tmp_path / "out" / "parts").exists()


def test_workers_give_the_same_manifest(run, tmp_path: Path) -> None:
    pairs = [write_pair(tmp_path / f"part{i}", random_documents(10, seed=i)) for i in range(3)]
    alone, _ = run(*pairs)
    (tmp_path / "out" / "manifest.json").unlink()
    together, _ = run(*pairs, num_workers=2)
    assert together == alone


def test_patterns_and_endings_name_pairs(run, tmp_path: Path) -> None:
    for number in range(3):
        write_pair(tmp_path / f"web_{number}.v1", random_documents(4, seed=number))
    manifest, _ = run(tmp_path / "web_*", valid_share=0.0)
    assert [Path(part.prefix).name for part in manifest.sources["web"].train.ranges] == [
        f"web_{i}.v1" for i in range(3)
    ]
    assert import_tokens.pair_prefixes("web", [str(tmp_path / "web_1.v1.bin")]) == [tmp_path / "web_1.v1"]
    with pytest.raises(UserError, match="no file matches"):
        run(tmp_path / "code_*")
    (tmp_path / "out" / "manifest.json").unlink()
    with pytest.raises(UserError, match="twice"):
        run(tmp_path / "web_*", tmp_path / "web_1.v1.idx")


def test_one_document_leaves_nothing_to_hold_out_and_is_kept(run, tmp_path: Path) -> None:
    pair = write_pair(tmp_path / "peer", random_documents(1))
    manifest, _ = run(pair)
    assert (manifest.sources["web"].train.documents, manifest.sources["web"].valid.tokens) == (1, 0)
    again, lines = run(pair)
    assert again == manifest and lines == [f"{tmp_path / 'out'} is up to date: kept"]
    with pytest.raises(UserError, match="valid split of these imported pairs holds no tokens"):
        open_split(tmp_path / "out", manifest.sources["web"], "valid")


def test_damage_after_the_import_is_found_at_start(run, tmp_path: Path) -> None:
    pair = write_pair(tmp_path / "peer", random_documents(10))
    manifest, _ = run(pair)
    raw = bytearray(Path(f"{pair}.bin").read_bytes())
    raw[9] ^= 1
    Path(f"{pair}.bin").write_bytes(raw)
    with pytest.raises(UserError, match="SHA-256"):
        check_split(tmp_path / "out", manifest.sources["web"], "train")


def test_moved_pairs_are_the_same_data_to_a_resumed_run(run, tmp_path: Path) -> None:
    facts = run(write_pair(tmp_path / "peer", random_documents(10)))[0].sources["web"].facts
    (tmp_path / "out" / "manifest.json").unlink()
    for kind in ("bin", "idx"):
        (tmp_path / f"peer.{kind}").rename(tmp_path / f"moved.{kind}")
    assert run(tmp_path / "moved")[0].sources["web"].facts == facts
    assert "prefix" not in facts["train"]["imported"][0]


def test_facts_and_recipe_of_our_own_data_are_those_of_earlier_versions(data_folder: Path, preprocess_config) -> None:
    """Runs and folders that began before imports existed go on: nothing new is in what they compare."""
    facts = read_manifest(data_folder).sources["words"].facts
    assert list(facts) == ["domain", "train", "valid"]
    assert list(facts["train"]) == ["prefix", "documents", "tokens", "bytes", "sha256"]
    raw = json.loads((data_folder / "manifest.json").read_text())
    for source in raw["sources"].values():
        del source["unended_documents"], source["train"]["imported"], source["valid"]["imported"]
    (data_folder / "old").mkdir(exist_ok=True)
    (data_folder / "old" / "manifest.json").write_text(json.dumps(raw))
    assert read_manifest(data_folder / "old") == read_manifest(data_folder)
    assert recipe_sha256(preprocess_config) == read_manifest(data_folder).recipe_sha256


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pairs": ["a"], "jsonl": "b"}, "exactly one of"),
        ({"jsonl": "b", "eod": "add"}, "go with pairs"),
        ({"jsonl": "b", "valid_pairs": ["a"]}, "go with pairs"),
    ],
)
def test_impossible_sources(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SourceConfig(name="web", domain="web", **settings)


def test_pairs_need_their_tokenizer() -> None:
    with pytest.raises(ConfigError, match="name the tokenizer they were made with"):
        PreprocessConfig(output_dir="out", sources=[SourceConfig(name="web", domain="web", pairs=["a"])])


def test_command_explains_bad_arguments(data_folder: Path, tmp_path: Path, capsys) -> None:
    pair = write_pair(tmp_path / "peer", random_documents(4))
    assert cli_run(tmp_path / "out", data_folder, str(pair)) == 2
    assert "write NAME=PREFIX" in capsys.readouterr().err
    assert cli_run(tmp_path / "out", data_folder, f"web={pair}", "--valid", f"wob={pair}") == 2
    assert "--valid wob: no such source among web" in capsys.readouterr().err


def test_report_shows_the_beginning_of_the_text(run, tmp_path: Path, data_folder: Path) -> None:
    ids = load_tokenizer(data_folder / "tokenizer").encode("words document").ids
    _, lines = run(write_pair(tmp_path / "peer", [[[*ids, EOD]]]))
    assert any("it begins: 'words document<|endoftext|>'" in line for line in lines)
