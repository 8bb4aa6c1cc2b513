"""The n-gram index against sets of tuples, planted overlaps, normalization, the step and its report."""

import gzip
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.data.decontaminate import ngrams
from megatron_mimo.data.decontaminate.__main__ import main
from megatron_mimo.data.decontaminate.benchmarks import BenchmarkConfig, benchmark_texts
from megatron_mimo.data.decontaminate.index import BenchmarkText, build_index, load_index
from megatron_mimo.data.decontaminate.report import contamination_report, render
from megatron_mimo.data.decontaminate.step import Decontaminate
from megatron_mimo.data.decontaminate.words import _WORD, normalized_words
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.shards import shard_path, write_documents
from megatron_mimo.data.pipeline.step import Task

few_words = st.lists(st.sampled_from("abc"), max_size=12).map(" ".join)
UNICODE = "Ａbc ﬁne ½ Straße İ x² 你好，世界 don’t\u00a0stop e\u0301 ไทย naïve_x １２"


def grams(text: str, n: int) -> set[tuple[str, ...]]:
    """Naive reference."""
    words = text.split()
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def texts_of(*texts: str) -> list[BenchmarkText]:
    return [BenchmarkText("bench", str(number), text) for number, text in enumerate(texts)]


@given(benchmark=st.lists(few_words, max_size=6), document=few_words, n=st.integers(2, 7))
@settings(max_examples=300, deadline=None)
def test_finds_what_sets_of_tuples_find(benchmark: list[str], document: str, n: int) -> None:
    index = build_index(texts_of(*benchmark), n)
    per_text = [grams(text, n) for text in benchmark]
    common = grams(document, n) & set().union(*per_text)
    matches = index.find(document, match_short=False)
    assert index.num_ngrams == len(set().union(*per_text))
    assert bool(matches) == bool(common)
    assert {tuple(match.ngram.split()) for match in matches} <= common
    first_texts = {next(i for i, own in enumerate(per_text) if gram in own) for gram in common}
    assert {int(match.item) for match in matches} == first_texts


@given(words=st.lists(st.integers(-1, 5), max_size=40), n=st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_hashes_tell_ngrams_apart(words: list[int], n: int) -> None:
    hashes = ngrams.ngram_hashes(np.array(words, dtype=np.int32), n)
    tuples = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    assert len(hashes) == len(tuples)
    assert len(set(hashes.tolist())) == len(set(tuples))
    assert len(set(zip(hashes.tolist(), tuples, strict=True))) == len(set(tuples))


def test_colliding_hashes_are_no_false_positives(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every hash equal, the comparison of words alone decides."""
    from megatron_mimo.data.decontaminate import index as module

    monkeypatch.setattr(module, "ngram_hashes", lambda words, n: np.zeros(max(0, len(words) - n + 1), dtype=np.uint64))
    index = module.build_index(texts_of("a b c d e", "e d c b a"), 3)
    assert index.find("a c b d e a c") == []
    assert [(match.item, match.ngram) for match in index.find("a a b d c b d")] == [("1", "d c b")]


def test_planted_overlaps_are_found_and_nothing_else() -> None:
    """16 words of a benchmark inside a document of other words match; 15 do not."""
    source = random.Random(0)
    vocabulary = [f"w{i}" for i in range(400)]
    benchmark = [" ".join(source.choices(vocabulary, k=source.randrange(16, 60))) for _ in range(200)]
    index = build_index(texts_of(*benchmark))
    for trial in range(300):
        item = source.randrange(len(benchmark))
        planted = benchmark[item].split()
        length = 16 - trial % 2
        start = source.randrange(len(planted) - length + 1)
        filler = [source.choices(vocabulary, k=50) for _ in range(2)]
        filler = [filler[0] + ["unseen"], ["unseen"] + filler[1]]
        text = ", ".join([*filler[0], *(word.upper() for word in planted[start : start + length]), *filler[1]])
        found = [int(match.item) for match in index.find(text)]
        assert found == ([item] if length == 16 else [])


@given(text=st.text(st.characters(max_codepoint=127)))
def test_fast_ascii_words_are_the_same(text: str) -> None:
    assert normalized_words(text) == _WORD.findall(text.casefold())


def test_normalization() -> None:
    expected = [
        "abc",
        "fine",
        "1",
        "2",
        "strasse",
        "i",
        "x2",
        *"你好世界",
        "don",
        "t",
        "stop",
        "é",
        *"ไทย",
        "naïve",
        "x",
        "12",
    ]
    assert [word.replace("i̇", "i") for word in normalized_words(UNICODE) if word != "̇"] == expected
    assert normalized_words("Janet’s ducks: 16 eggs/day!") == normalized_words("janet s DUCKS 16\neggs — day")
    assert normalized_words("$\\frac{a_1}{2}$") == ["frac", "a", "1", "2"]


def test_chinese_is_compared_by_character() -> None:
    index = build_index(texts_of("小明有三个苹果，他又买了五个苹果，现在一共有几个苹果？"))
    assert index.find("题目：小明有三个苹果他又买了五个苹果现在一共有几个苹果")
    assert not index.find("题目：小明有三个苹果他又买了六个苹果现在一共有几个苹果"[:18])


def test_short_texts_match_whole_documents_only() -> None:
    index = build_index(texts_of("", "What is 2 + 2?", "Name the largest prime.", "what is 2 2"))
    assert [(match.item, match.ngram) for match in index.find("what is 2+2")] == [("1", "what is 2 2")]
    assert index.find("what is 2+2", match_short=False) == []
    assert index.find("Q: what is 2+2") == index.find("") == []


def test_saved_index_finds_the_same(tmp_path: Path) -> None:
    index = build_index([BenchmarkText("a", "1", UNICODE), BenchmarkText("b", "x", "the quick brown fox jumps")], 4)
    index.save(tmp_path / "index")
    loaded = load_index(tmp_path / "index")
    assert loaded.num_ngrams == index.num_ngrams > 10
    for text in (f"so {UNICODE}", "a QUICK brown fox, jumps", "quick fox brown jumps over"):
        assert loaded.find(text) == index.find(text)
    (tmp_path / "index" / "index.safetensors").write_bytes(b"torn")
    for folder in (tmp_path / "index", tmp_path / "none"):
        with pytest.raises(UserError, match="no index of benchmarks"):
            load_index(folder)


def test_step_drops_with_reason_and_reports(tmp_path: Path) -> None:
    question = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May."
    build_index([BenchmarkText("gsm", "7", question)]).save(tmp_path)
    pages = [
        Document("clean", "Nothing to see here. " * 10),
        Document("leak", f"Homework!\n\n{question.lower()} Thanks"),
    ]
    task, dropped = Task(), []
    task.on_drop = lambda document, step, reason: dropped.append((document, step, reason))
    assert [page.id for page in Decontaminate(index=str(tmp_path)).run(pages, task)] == ["clean"]
    assert task.counts == {"decontaminate/dropped/in gsm": 1, "decontaminate/matched/gsm": 1}
    [(document, step, reason)] = dropped
    assert (document.id, step, reason) == ("leak", "decontaminate", "in gsm")
    [match] = document.metadata["contamination"]
    assert (match["benchmark"], match["item"]) == ("gsm", "7")
    assert match["ngram"].startswith("natalia sold clips to 48") and len(match["ngram"].split()) == 16
    report = contamination_report([pages[0], document])
    assert report["benchmarks"] == {"gsm": {"documents": 1, "items": 1}}
    assert "leak: natalia sold clips" in render(report)
    assert len(list(Decontaminate(index=str(tmp_path), action="mark").run(pages, Task()))) == 2
    with pytest.raises(ConfigError, match="drop or mark"):
        Decontaminate(index=str(tmp_path), action="keep")  # type: ignore[arg-type]


def test_commands_make_an_index_and_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = " ".join(f"word{i}" for i in range(20))
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as lines:
        lines.write(json.dumps({"q": question, "tests": ["assert f(1) == 2", "assert f(2) == 3"], "key": "k1"}) + "\n")
    config = tmp_path / "benchmarks.yaml"
    entry = f"{{name: b, files: {tmp_path}/*.jsonl.gz, fields: [q, tests], id_field: key}}"
    config.write_text(f"output_dir: {tmp_path}/index\nbenchmarks: [{entry}]\n")
    assert main([str(config)]) == 0
    assert "2 texts, 5 16-grams" in capsys.readouterr().out
    dropped = list(Decontaminate(index=f"{tmp_path}/index", action="mark").run([Document("d", question)], Task()))
    write_documents(shard_path(tmp_path / "dropped", 0), dropped)
    assert main(["--report", f"{tmp_path}/dropped", f"{tmp_path}/report.json"]) == 0
    assert json.loads((tmp_path / "report.json").read_text())["matches"][0]["item"] == "k1"
    assert main(["--report", f"{tmp_path}/nothing"]) == main([str(config), "benchmarks.0.fields=[nope]"]) == 2
    assert "a.jsonl.gz, line 1" in capsys.readouterr().err
    with pytest.raises(UserError, match="no file matches"):
        list(benchmark_texts(BenchmarkConfig(name="b", files=f"{tmp_path}/*.txt")))


@pytest.mark.skipif("MIMO_BENCHMARKS" not in os.environ, reason="MIMO_BENCHMARKS: folder with gsm8k_test.jsonl")
def test_real_questions_are_found_and_the_training_split_is_mostly_clean() -> None:
    folder = Path(os.environ["MIMO_BENCHMARKS"])
    test = list(benchmark_texts(BenchmarkConfig(name="gsm8k", files=str(folder / "gsm8k_test.jsonl"))))
    index = build_index(test)
    long = [text for text in test if len(normalized_words(text.text)) >= index.ngram_words]
    assert all(index.find(f"Please solve: {text.text.upper()} Thank you.") for text in long)
    train = benchmark_texts(BenchmarkConfig(name="train", files=str(folder / "gsm8k_train.jsonl")))
    reference = set().union(*(grams(" ".join(normalized_words(text.text)), 16) for text in test))
    for text in train:
        common = grams(" ".join(normalized_words(text.text)), 16) & reference
        assert bool(index.find(text.text, match_short=False)) == bool(common)
