"""The prepared folder: what is taken, refused, held out and packed, and when it is made anew."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from megatron_mimo.config import ChatDataConfig, ChatSourceConfig, UserError
from megatron_mimo.data.chat.dataset import ChatData
from megatron_mimo.data.chat.prepare import prepare_chat_data
from megatron_mimo.data.chat.samples import SampleReader
from megatron_mimo.data.decontaminate.index import BenchmarkText, build_index


def turns(query: str, response: str) -> dict:
    return {"messages": [{"role": "user", "content": query}, {"role": "assistant", "content": response}]}


def write(path: Path, records: list) -> ChatSourceConfig:
    lines = [record if isinstance(record, str) else json.dumps(record, ensure_ascii=False) for record in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ChatSourceConfig(path=str(path))


@pytest.fixture
def config(tmp_path: Path, plain_tokenizer: Path) -> ChatDataConfig:
    source = write(tmp_path / "a.jsonl", [turns(f"question {n}", "word " * (n % 17 + 1)) for n in range(100)])
    prepared = str(tmp_path / "prepared")
    return ChatDataConfig(sources=[source], tokenizer=str(plain_tokenizer), prepared=prepared, valid_share=0.2)


def train_texts(config: ChatDataConfig) -> Counter[str]:
    """How often each train sample stands in the rows of all epochs, by its tokens."""
    data = ChatData(config.prepared, 128)
    rows = data.stage_samples(0, 0)
    seen: Counter[str] = Counter()
    for row in (rows[index] for index in range(len(rows))):
        for segment in range(row["segments"].max() + 1):
            seen[str(row["tokens"][row["segments"] == segment].tolist())] += 1
    return seen


def test_every_train_sample_is_packed_once_an_epoch(config: ChatDataConfig) -> None:
    manifest = prepare_chat_data(config, 128, epochs=3, seed=1)
    samples = SampleReader(Path(config.prepared) / "train")
    seen = train_texts(config)
    assert set(seen) == {str(samples[index].tokens.tolist()) for index in range(len(samples))}
    assert sum(seen.values()) == 3 * len(samples)
    counts = next(iter(manifest.sources.values()))
    assert counts.train_samples + counts.valid_samples == 100
    assert 8 <= counts.valid_samples <= 35
    held_out = ChatData(config.prepared, 128).held_out_samples(128, 50)["chat"]
    assert sum(held_out[index]["segments"].max() + 1 for index in range(len(held_out))) == counts.valid_samples


def test_padding_beyond_the_last_row(config: ChatDataConfig) -> None:
    manifest = prepare_chat_data(config, 128, epochs=1, seed=1)
    rows = ChatData(config.prepared, 128).stage_samples(0, manifest.num_rows + 5)
    beyond = rows[manifest.num_rows + 3]
    assert not beyond["loss_mask"].any()
    assert (beyond["segments"] == -1).all()
    assert 0 < rows[0]["loss_mask"].sum() < 128


def test_it_is_kept_until_something_changes(config: ChatDataConfig, tmp_path: Path) -> None:
    prepare_chat_data(config, 128, epochs=1, seed=1)
    marker = Path(config.prepared) / "marker"
    marker.touch()
    prepare_chat_data(config, 128, epochs=1, seed=1)
    assert marker.exists()
    write(tmp_path / "a.jsonl", [turns("another", "answer")] * 3)
    config.valid_share = 0.0
    prepare_chat_data(config, 128, epochs=1, seed=1)
    assert not marker.exists()
    assert sum(train_texts(config).values()) == 3


def test_sampling_and_weights(config: ChatDataConfig, tmp_path: Path) -> None:
    config.valid_share = 0.0
    config.max_responses_per_query = 1000
    source = config.sources[0].path
    for path, weight, expected in ((f"{source}#30", 1.0, 30), (f"{source}#250", 1.0, 250), (source, 2.5, 250)):
        config.sources = [ChatSourceConfig(path=path, weight=weight)]
        prepare_chat_data(config, 128, epochs=1, seed=1)
        assert sum(train_texts(config).values()) == expected


def test_every_refusal_is_counted_with_its_place(config: ChatDataConfig, tmp_path: Path) -> None:
    planted = "the quick brown fox jumps over the lazy dog and then runs back home again today"
    build_index([BenchmarkText("bench", "7", planted)], ngram_words=16).save(tmp_path / "index")
    config.decontamination_index, config.valid_share = str(tmp_path / "index"), 0.0
    config.sources = [
        write(
            tmp_path / "b.jsonl",
            [
                turns("fine", "yes"),
                '{"messages": [',
                turns("cut", "<think>never ends"),
                turns("why are these words all English ones", "因为这个回答完全是用中文写的所以语言混合了对不对呢朋友"),
                turns(f"first, {planted}", "yes"),
                turns("long", "word " * 300),
                {"messages": [{"role": "user", "content": "alone"}]},
                {"messages": [{"role": "narrator", "content": "once"}, {"role": "assistant", "content": "x"}]},
                *[turns("again and again", f"answer {n}") for n in range(10)],
            ],
        )
    ]
    manifest = prepare_chat_data(config, 128, epochs=1, seed=1)
    counts = manifest.sources[config.sources[0].path]
    assert counts.records == 18
    assert counts.train_samples == 9
    assert counts.refused == {
        "not JSON": 1, "no assistant turn to learn from": 1, "unknown role": 1,
        "incomplete response": 1, "mixed language": 1, "overlap with bench": 1,
        "longer than seq_length=128": 1, "too many responses a query": 2,
    }  # fmt: skip
    refused = [json.loads(line) for line in (Path(config.prepared) / "refused.jsonl").read_text().splitlines()]
    assert [entry["place"].rsplit(":", 1)[1] for entry in refused] == ["2", "3", "4", "5", "6", "7", "8", "17", "18"]
    assert refused[4]["reason"].startswith("longer than seq_length=128: ")


def test_stop_at_the_first_bad_record(config: ChatDataConfig, tmp_path: Path) -> None:
    config.sources = [write(tmp_path / "b.jsonl", [turns("fine", "yes"), {"messages": [{"role": "narrator"}]}])]
    config.on_bad_record = "stop"
    with pytest.raises(UserError, match=r"b\.jsonl:2: unknown role 'narrator'"):
        prepare_chat_data(config, 128, epochs=1, seed=1)
    assert not Path(config.prepared).exists()


def test_nothing_is_left_to_train_on(config: ChatDataConfig, tmp_path: Path) -> None:
    config.sources = [write(tmp_path / "b.jsonl", [{"messages": []}])]
    with pytest.raises(UserError, match=r"is left: messages is not a list .* 1; each is listed in .*jsonl") as error:
        prepare_chat_data(config, 128, epochs=1, seed=1)
    listed = Path(str(error.value).rsplit(" ", 1)[1]).read_text()
    assert json.loads(listed)["place"].endswith("b.jsonl:1")
    config.sources = [write(tmp_path / "b.jsonl", [])]
    with pytest.raises(UserError, match="is left: the files are empty"):
        prepare_chat_data(config, 128, epochs=1, seed=1)
    config.sources = [ChatSourceConfig(path=str(tmp_path / "none.jsonl"))]
    with pytest.raises(UserError, match="there is no file"):
        prepare_chat_data(config, 128, epochs=1, seed=1)
    # The mended file goes on with the same settings.
    config.sources = [write(tmp_path / "b.jsonl", [turns("mended", "yes")])]
    assert prepare_chat_data(config, 128, epochs=1, seed=1).num_rows == 1


@pytest.mark.parametrize("damage", ["not gzip", "cut", "not zstd"])
def test_compressed_files_that_are_damaged(config: ChatDataConfig, tmp_path: Path, damage: str) -> None:
    whole = gzip.compress(Path(config.sources[0].path).read_bytes())
    file = tmp_path / ("bad.jsonl.zst" if damage == "not zstd" else "bad.jsonl.gz")
    file.write_bytes(whole[:-20] if damage == "cut" else b"plain text")
    config.sources = [ChatSourceConfig(path=str(file))]
    with pytest.raises(UserError, match=r"cannot read .*bad\.jsonl"):
        prepare_chat_data(config, 128, epochs=1, seed=1)
    assert not Path(config.prepared).exists()


def test_encodings_that_editors_leave_behind(config: ChatDataConfig, tmp_path: Path) -> None:
    """A byte order mark is no content; another encoding than UTF-8 would be learned as replacement characters."""
    lines = [json.dumps(turns(f"q{n}", text), ensure_ascii=False) for n, text in enumerate(["first", "schön", "last"])]
    file = tmp_path / "b.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode("latin-1"))
    escaped = json.dumps(turns("q4", "half \ud83d"))
    file.write_bytes(file.read_bytes() + b"\n" + escaped.encode() + b"\n")
    config.sources, config.valid_share = [ChatSourceConfig(path=str(file))], 0.0
    counts = prepare_chat_data(config, 128, epochs=1, seed=1).sources[str(file)]
    assert (counts.records, counts.train_samples) == (4, 2)
    assert counts.refused == {"not JSON": 1, "the assistant content is no Unicode text": 1}
