"""Stages, counts, drops, faults, markers and guards, on steps whose effect is known."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import zstandard

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.config.load import from_tree
from megatron_mimo.data.document import Document
from megatron_mimo.data.job import load_job
from megatron_mimo.data.pipeline import registry
from megatron_mimo.data.pipeline.chain import Clock, chained
from megatron_mimo.data.pipeline.config import PipelineConfig
from megatron_mimo.data.pipeline.layout import Layout
from megatron_mimo.data.pipeline.markers import damaged_files, read_marker
from megatron_mimo.data.pipeline.plan import stages_of
from megatron_mimo.data.pipeline.run import check_ready, run_pipeline
from megatron_mimo.data.pipeline.shards import read_documents, shard_paths
from megatron_mimo.data.pipeline.step import Task
from megatron_mimo.data.pipeline.summary import summarize


@dataclass(kw_only=True)
class Fragile:
    """Raises for every text that holds `bad`; takes documents in batches where asked to."""

    name: ClassVar[str] = "fragile"
    batch: int = 1

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        held: list[Document] = []
        for document in documents:
            held.append(document)
            if len(held) == self.batch:
                if any("bad" in one.text for one in held):
                    raise ZeroDivisionError("a parser gave up")
                yield from held
                held = []
        yield from held


@dataclass(kw_only=True)
class Even:
    """Keeps documents with an even number."""

    name: ClassVar[str] = "even"

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        for document in documents:
            if int(document.id) % 2:
                task.drop(document, self.name, "odd")
            else:
                yield document


@dataclass(kw_only=True)
class Looks:
    """Notes its folder in the documents."""

    name: ClassVar[str] = "looks"
    folder: str

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        for document in documents:
            document.metadata["folder"] = self.folder
            yield document


def numbered(texts: Iterable[str]) -> Iterator[Document]:
    return (Document(str(i), text) for i, text in enumerate(texts))


def quiet(line: str) -> None:
    """Report nothing."""


def run(config: PipelineConfig) -> Layout:
    run_pipeline(config, "the command", quiet)
    return Layout.of(config.output_dir)


def texts_of(folder: Path) -> list[str]:
    return [document.text for path in shard_paths(folder) for document in read_documents(path)]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    for number in range(7):
        lines = [json.dumps({"text": f"file {number} line {i % 9}"}) for i in range(10 * (number + 1))]
        (folder / f"{number}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def pipeline(raw: Path, tmp_path: Path, **changes: object) -> PipelineConfig:
    tree = {
        "output_dir": str(tmp_path / "out"),
        "num_tasks": 3,
        "executor": {"local": {"workers": 0}},
        "stages": [
            {
                "name": "pages",
                "reader": {"kind": "jsonl", "files": [f"{raw}/*.jsonl"]},
                "steps": [{"step": "length", "min_characters": 3}],
            },
            {"name": "unique", "num_tasks": 1, "steps": [{"step": "exact_dedup"}, {"step": "shuffle"}]},
        ],
    }
    return from_tree(PipelineConfig, tree | changes, source="test")


def test_steps_are_counted_and_timed() -> None:
    task, clock = Task(), Clock()
    found = list(chained([Even(), Fragile()], numbered(["a", "bb", "bad", "dd", "é"]), task, clock))
    assert [document.id for document in found] == ["0", "4"]
    assert task.counts["even/in"] == 5 and task.counts["even/out"] == 3 and task.counts["even/dropped/odd"] == 2
    assert task.counts["fragile/in"] == 3 and task.counts["fragile/out"] == 2
    assert task.counts["read/text_bytes"] == 1 + 2 + 3 + 2 + 2 and task.counts["write/text_bytes"] == 3
    assert [fault.place for fault in task.faults] == ["2"] and "a parser gave up" in task.faults[0].error
    assert set(clock.cpu_seconds) >= {"read", "even", "fragile"}


def test_a_step_that_holds_documents_back_fails_whole() -> None:
    """Started again behind the bad document it would lose the others of its batch without a word."""
    texts = ["a", "b", "bad", "d", "e", "f"]
    with pytest.raises(ZeroDivisionError):
        list(chained([Fragile(batch=2)], numbered(texts), Task(), Clock()))


def test_trouble_before_a_step_is_not_its_own() -> None:
    def broken() -> Iterator[Document]:
        yield Document("0", "a")
        raise KeyError("reader")

    task = Task()
    with pytest.raises(KeyError):
        list(chained([Even()], broken(), task, Clock()))
    assert not task.faults


def test_lone_surrogates_do_not_reach_a_shard() -> None:
    task = Task()
    (document,) = chained([], [Document("0", "a\ud800b")], task, Clock())
    assert document.text == "a?b" and task.counts["read/invalid_unicode"] == 1


def test_clock_gives_each_step_its_own_time() -> None:
    @dataclass(kw_only=True)
    class Busy:
        name: str
        loops: int

        def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
            for document in documents:
                sum(range(self.loops))
                yield document

    clock = Clock()
    list(chained([Busy(name="slow", loops=200_000), Busy(name="fast", loops=10)], numbered("x" * 30), Task(), clock))
    clock.switch("")
    assert clock.cpu_seconds["slow"] > 10 * clock.cpu_seconds["fast"]


def test_nothing_is_lost_and_drops_have_a_reason(raw: Path, tmp_path: Path) -> None:
    layout = run(pipeline(raw, tmp_path))
    assert sorted(texts_of(layout.stage("unique"))) == sorted(
        {f"file {n} line {i}" for n in range(7) for i in range(9)}
    )
    dropped = [
        json.loads(line)
        for line in zstandard.open(layout.dropped("unique", 0), "rt", encoding="utf-8").read().splitlines()
    ]
    assert len(dropped) == 280 - 63
    assert {(one["step"], one["reason"]) for one in dropped} == {("exact_dedup", "repetition")}
    assert all(one["text"] and one["id"] for one in dropped)
    stages = {stage.name: summarize(layout, stage) for stage in stages_of(pipeline(raw, tmp_path))}
    assert stages["pages"].counts["write/documents"] == stages["unique"].counts["read/documents"] == 280
    assert stages["unique"].dropped("exact_dedup") == {"repetition": 217}
    report = layout.report.read_text()
    assert "repetition" in report and "the command" in report and "217" in report


def test_finished_tasks_are_kept_and_lost_ones_made_again(raw: Path, tmp_path: Path) -> None:
    config = pipeline(raw, tmp_path)
    layout = run(config)
    before = {path: path.read_bytes() for path in layout.root.rglob("*.zst")}
    times = {path: path.stat().st_mtime_ns for path in before}
    layout.marker("pages", 1).unlink()
    (layout.stage("unique") / "00000.jsonl.zst").write_bytes(b"cut")
    run(config)
    assert {path: path.read_bytes() for path in layout.root.rglob("*.zst")} == before
    changed = {path.relative_to(layout.root) for path in before if path.stat().st_mtime_ns != times[path]}
    assert {str(path) for path in changed if "dropped" not in str(path)} == {
        "pages/00001.jsonl.zst",
        "unique/00000.jsonl.zst",
    }


def test_damage_of_equal_size_is_found_by_its_hash(raw: Path, tmp_path: Path) -> None:
    layout = run(pipeline(raw, tmp_path))
    path = layout.stage("pages") / "00002.jsonl.zst"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    marker = read_marker(layout, "pages", 2)
    assert marker is not None and damaged_files(layout, marker) == ["pages/00002.jsonl.zst"]


def test_the_number_of_tasks_changes_no_document(raw: Path, tmp_path: Path) -> None:
    one = run(pipeline(raw, tmp_path / "one", num_tasks=1))
    many = run(pipeline(raw, tmp_path / "many", num_tasks=5))
    assert texts_of(one.stage("unique")) == texts_of(many.stage("unique"))
    assert len(shard_paths(many.stage("pages"))) == 5


def test_other_settings_are_refused_by_name(raw: Path, tmp_path: Path) -> None:
    layout = run(pipeline(raw, tmp_path))
    other = pipeline(raw, tmp_path)
    other.stages[0].steps[0]["min_characters"] = 14
    with pytest.raises(UserError, match=r"stages\.pages\.steps\.0\.min_characters: 3 there, 14 now"):
        run(other)
    (raw / "new.jsonl").write_text('{"text": "one more line"}\n')
    with pytest.raises(UserError, match=r"stages\.pages\.files: '7 files.*there, '8 files"):
        run(pipeline(raw, tmp_path))
    other.overwrite = True
    (layout.root / "mine.txt").write_text("not the pipeline's")
    run(other)
    assert all(len(text) >= 14 or text == "one more line" for text in texts_of(layout.stage("pages")))
    assert (layout.root / "mine.txt").exists()


def test_who_works_is_no_other_setting(raw: Path, tmp_path: Path) -> None:
    run(pipeline(raw, tmp_path))
    run(pipeline(raw, tmp_path, executor={"slurm": {"partition": "batch"}}))


def test_a_task_that_fails_is_tried_twice_and_named(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.STEPS, "fragile", f"{__name__}:Fragile")
    (raw / "0.jsonl").write_text('{"text": "bad"}\n' * 2)
    config = pipeline(raw, tmp_path)
    config.stages[0].steps = [{"step": "fragile", "batch": 2}]
    lines: list[str] = []
    with pytest.raises(UserError, match="1 tasks could not be finished") as caught:
        run_pipeline(config, "python resume.py", lines.append)
    assert "python resume.py" in str(caught.value) and "ZeroDivisionError" in str(caught.value)
    assert sum("ZeroDivisionError" in line for line in lines) == 2
    layout = Layout.of(config.output_dir)
    failures = list((layout.root / "failed" / "pages").iterdir())
    assert len(failures) == 1 and "a parser gave up" in failures[0].read_text()
    assert len(shard_paths(layout.stage("pages"))) == 2
    assert layout.report.exists()


def test_a_stage_waits_for_the_one_before(raw: Path, tmp_path: Path) -> None:
    config = pipeline(raw, tmp_path)
    with pytest.raises(UserError, match="3 tasks of stage pages are not done"):
        check_ready(Layout.of(config.output_dir), stages_of(config), "unique")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stages.1.steps.0.stepp=length", r"stages.1.steps.0.stepp = 'length': unknown option; it has none"),
        (
            "stages.0.steps.0.step=lenght",
            r"stages.0.steps.0.step = 'lenght': unknown; did you mean length\? known: .*tag",
        ),
        ("stages.0.steps.0.min_characters=x", r"stages.0.steps.0.*min_characters = 'x': expected a whole number"),
        ("stages.0.steps.0.min_chars=3", r"min_chars = 3: unknown option; did you mean min_characters\? known: "),
        (
            "stages.0.reader.kind=jsonlines",
            r"stages.0.reader.kind.*known: embedded, html, jsonl, parquet, pdf, pydoc, warc",
        ),
        ("stages.0.reader.name=x", r"stages.0.reader.name = 'x': unknown option"),
        ("stages.0.inputs=[later]", "has no other inputs"),
        ("stages.1.inputs=[later]", "no stage before has it"),
        ("stages.1.name=pages", "stage names must differ"),
        ("stages.1.name=done", "none of the pipeline's own"),
        ("executor={local: {}, slurm: {}}", "give one of local, slurm and ray"),
        ("output_dir=s3://bucket/x", "give a local path"),
    ],
)
def test_configuration_errors_name_file_and_key(raw: Path, tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(
        f"pipeline:\n  output_dir: {tmp_path}/out\n  stages:\n"
        f"    - {{name: pages, reader: {{kind: jsonl, files: ['{raw}/*']}}, steps: [{{step: length}}]}}\n"
        "    - {name: unique, steps: [{step: exact_dedup}]}\n"
    )
    load_job(str(path), [])
    with pytest.raises(UserError, match=message) as caught:
        load_job(str(path), [f"pipeline.{change}"])
    assert str(path) in str(caught.value) or f"pipeline.{change}" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_step_of_ones_own_needs_no_entry() -> None:
    step = registry.build_step({"step": f"{__name__}:Fragile", "batch": 4}, "here")
    assert isinstance(step, Fragile) and step.batch == 4
    with pytest.raises(ConfigError, match="cannot be imported"):
        registry.build_step({"step": "no_such_module:Step"}, "here")


def test_folders_of_stages_in_options(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.STEPS, "looks", f"{__name__}:Looks")
    config = pipeline(raw, tmp_path)
    config.stages[1].steps = [{"step": "looks", "folder": "stage:pages"}]
    layout = run(config)
    assert layout.stage("unique").joinpath("00000.jsonl.zst").exists()
    documents = [one for path in shard_paths(layout.stage("unique")) for one in read_documents(path)]
    assert {document.metadata["folder"] for document in documents} == {f"{tmp_path}/out/pages"}
    # The folder may be moved: its name is no setting.
    assert "stage:pages" in layout.settings.read_text() and str(tmp_path / "out") not in layout.settings.read_text()
