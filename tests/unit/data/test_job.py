"""The files in examples/, both forms of the YAML, and the pages of pydoc."""

import html
import html.parser
from pathlib import Path

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.data.job import load_job
from megatron_mimo.data.pipeline.plan import stages_of
from megatron_mimo.data.pipeline.readers.pydoc_pages import PydocReader
from megatron_mimo.data.pipeline.step import Task

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_folder_and_overwrite_reach_both_halves() -> None:
    job = load_job(str(EXAMPLES / "nano" / "data.yaml"), ["output_dir=/d", "--overwrite=true"])
    assert job.pipeline is not None and job.tokenize is not None
    assert job.pipeline.output_dir == "/d/pipeline" and job.tokenize.output_dir == "/d"
    assert job.pipeline.overwrite and job.tokenize.overwrite
    assert [source.shards for source in job.tokenize.sources] == [
        f"/d/pipeline/{name}" for name in ("split", "split", "arithmetic", "synthetic")
    ]


def test_a_file_of_sources_is_the_second_half_alone(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("output_dir: out\nsources: [{name: a, domain: web, embedded: text}]\n")
    job = load_job(str(path), ["tokenizer.vocab_size=300"])
    assert job.pipeline is None and job.tokenize is not None
    assert job.tokenize.tokenizer.vocab_size == 300
    path.write_text(path.read_text() + "tokeniser: {}\n")
    with pytest.raises(UserError, match=r"data.yaml: config error: tokeniser.*did you mean tokenizer"):
        load_job(str(path), [])


@pytest.mark.parametrize("name", ["nano/web.yaml", "mimo_7b/data.yaml"])
def test_web_pipelines_are_sound(name: str) -> None:
    for needed in ("extract.pdf_step", "dedup.stages", "tag.tag_step", "decontaminate.step"):
        pytest.importorskip(f"megatron_mimo.data.{needed}")
    job = load_job(str(EXAMPLES / name), [])
    assert job.pipeline is not None and job.tokenize is not None
    stages = [stage.name for stage in stages_of(job.pipeline)]
    assert stages[0] == "pages" and any(stage.startswith("near/") for stage in stages)
    assert all(source.shards and source.shards.startswith(job.pipeline.output_dir) for source in job.tokenize.sources)


def test_pydoc_pages_are_html_and_the_same_every_time() -> None:
    reader = PydocReader(modules=["json", "no_such_module", "textwrap"])
    task = Task()
    pages = list(reader.read(reader.list(), task))
    assert pages == list(reader.read(reader.list(), Task()))
    assert [fault.place for fault in task.faults] == ["pydoc:no_such_module"]
    tags: list[str] = []
    parser = html.parser.HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append(tag)  # type: ignore[method-assign]
    parser.feed(pages[1].text)
    assert {"html", "body", "a", "dl"} <= set(tags)
    assert "Wrap a single paragraph of text" in html.unescape(pages[1].text).replace("\xa0", " ")
    assert "file:" not in pages[1].text
