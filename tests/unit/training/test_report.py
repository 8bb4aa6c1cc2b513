"""The HTML report against the run it was made from: totals, means, and that it needs nothing but itself."""

import html
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest

from megatron_mimo.cli import report
from megatron_mimo.config import (
    DataConfig,
    LearningRateSegment,
    ModelConfig,
    PretrainConfig,
    PretrainStageConfig,
    UserError,
    to_yaml,
)
from megatron_mimo.platform.formats import format_bytes, format_count, format_seconds
from megatron_mimo.platform.page import nested
from megatron_mimo.record.charts import Series, line_chart
from megatron_mimo.training.history import read_history
from megatron_mimo.training.metrics import EvaluationMetrics, MetricsLog, StepMetrics
from megatron_mimo.training.report import write_report

STEPS = 30
STAGES = {"stage1": 20, "stage2": 10}
"""Steps of each stage."""


def stage(name: str, steps: int) -> PretrainStageConfig:
    segment = LearningRateSegment(kind="constant", tokens=100 * steps, start=1e-3, end=1e-3)
    return PretrainStageConfig(
        name=name,
        tokens=100 * steps,
        seq_length=10,
        rotary_base=10_000,
        mixture=f"{name}.yaml",
        learning_rate=[segment],
        global_batch_size=10,
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of 30 steps: loss = 100 - step, but for step 7, which was skipped on NaN."""
    model = ModelConfig(
        num_layers=1,
        hidden_size=8,
        ffn_hidden_size=8,
        num_attention_heads=2,
        num_query_groups=1,
        kv_channels=4,
        vocab_size=16,
    )
    config = PretrainConfig(
        name="tiny <&> run",
        output_dir=str(tmp_path),
        model=model,
        stages=[stage(name, steps) for name, steps in STAGES.items()],
        data=DataConfig(path="d", tokenizer="t"),
    )
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    (tmp_path / "command.txt").write_text("torchrun -m megatron_mimo.pretrain config.yaml\n")
    (tmp_path / "environment.json").write_text(
        json.dumps({"software": {"torch": "9.8.7"}, "chosen": {"norm": "why not"}})
    )
    (tmp_path / "evaluation.json").write_text(json.dumps({"bits_per_byte": {"model": {"code": 1.257}}}))
    (tmp_path / "stage1.yaml").write_text("sources: {code: 3, text: 1}\n")
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for number in range(1, STEPS + 1):
        log.append(step(number))
    log.append(EvaluationMetrics(STEPS, 100 * STEPS, {"code": 0.4321}, {"code": [0.8642]}))
    return tmp_path


def step(number: int) -> StepMetrics:
    skipped = number == 7
    return StepMetrics(
        step=number,
        consumed_tokens=100 * number,
        stage="stage1" if number <= STAGES["stage1"] else "stage2",
        loss=float("nan") if skipped else 100.0 - number,
        mtp_losses=[float("nan") if skipped else 200.0 - number],
        grad_norm=float("inf") if skipped else 1.0,
        learning_rate=1e-3,
        global_batch_size=10,
        seq_length=10,
        rotary_base=10_000,
        mtp_loss_scaling_factor=0.3,
        step_seconds=2.0,
        tokens_per_second=50.0,
        tflops_per_gpu=0.5,
        mfu=None,
        memory_bytes=number * 2**20,
        skipped=skipped,
        source_losses={"code": 1.0},
        source_tokens={"code": 70, "text": 30},
    )


def test_totals_count_every_step(run):
    history = read_history(run / "metrics.jsonl", max_points=5)
    assert history.skipped_steps == 1
    assert history.step_seconds == 2.0 * STEPS
    assert history.peak_memory_bytes == STEPS * 2**20
    assert history.source_tokens == {name: {"code": 70 * n, "text": 30 * n} for name, n in STAGES.items()}
    assert history.stage_starts == {"stage1": 0, "stage2": 100 * STAGES["stage1"]}


def test_thinned_points_are_means_of_finite_steps_of_one_stage(run):
    history = read_history(run / "metrics.jsonl", max_points=5)
    assert [row["step"] for row in history.steps] == [6, 12, 18, 20, 26, 30]
    finite = [100 - number for number in (8, 9, 10, 11, 12)]
    second = history.steps[1]
    assert second["loss"] == pytest.approx(sum(finite) / 5)
    assert second["mtp_losses"] == [pytest.approx(sum(finite) / 5 + 100)]
    assert (second["loss_low"], second["loss_high"]) == (min(finite), max(finite))
    assert second["grad_norm"] == 1.0


def test_half_written_last_line_is_left_out(run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "step": 31, "consu')
    history = read_history(run / "metrics.jsonl")
    assert history.last is not None
    assert history.last["step"] == STEPS


class Outside(HTMLParser):
    """Collects whatever a browser would fetch or run, and the text it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "iframe", "img", "object"):
            self.fetched.append(tag)
        references = [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "style")]
        self.fetched += [value for value in references if re.search(r"//|url\((?!#)", value)]

    def handle_data(self, data: str) -> None:
        self.text += data


def read(run: Path) -> tuple[str, Outside]:
    page = write_report(run).read_text()
    outside = Outside()
    outside.feed(page)
    return page, outside


def test_report_needs_nothing_but_itself(run):
    page, outside = read(run)
    assert outside.fetched == []
    assert len(page.encode()) < 1_500_000
    assert list(run.glob("*.tmp")) == []


def test_report_tells_the_run(run):
    page, outside = read(run)
    for expected in (
        "tiny <&> run",
        "70.0000",
        "0.4321",
        "0.8642",
        "1.257",
        "9.8.7",
        "why not",
        "torchrun -m megatron_mimo.pretrain config.yaml",
        "skipped steps",
    ):
        assert expected in outside.text, expected
    assert "tiny <&> run" not in page, "text must be escaped"


def test_mixture_shows_asked_beside_actual_shares(run):
    page, _ = read(run)
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", page)]
    assert ["code", "75.00 %", "70.00 %", "1.4K"] in rows
    assert ["text", "25.00 %", "30.00 %", "600"] in rows
    assert ["code", "70.00 %", "700"] in rows, "stage 2 has no mixture file in reach"


def test_report_leaves_out_what_the_run_lacks(run):
    for name in ("command.txt", "environment.json", "evaluation.json"):
        (run / name).unlink()
    _, outside = read(run)
    for heading in ("Resume", "Environment", "Bits per byte", "About this evaluation", "model FLOPs utilisation"):
        assert heading not in outside.text


EVALUATION = {
    "model": "runs/m",
    "bits_per_byte": {
        "model": {"all": 1.2572, "code": 1.5},
        "gzip -9": {"all": 2.5, "code": 1.25},
        "zstd <&>": {"all": 1.2572, "code": 2.0},
    },
    "held_out_bytes": {"all": 1234, "code": 1234},
    "problems_in_training_text": 0,
    "arithmetic": {
        "all": {"correct": 3, "total": 4, "accuracy": 0.75, "low": 0.301, "high": 0.954},
        "*": {"correct": 0, "total": 1, "accuracy": 0.0, "low": 0.0, "high": 0.793},
    },
    "speculation": {
        "problems": {
            "acceptance_rate": 0.991,
            "draft_tokens": 1000,
            "accepted_tokens": 991,
            "tokens_per_second": 1234.5,
        },
        "all": {"acceptance_rate": 0.991, "draft_tokens": 1000, "accepted_tokens": 991, "tokens_per_second": 1234.5},
        "none": {"acceptance_rate": None, "draft_tokens": 0, "accepted_tokens": 0, "tokens_per_second": 10.0},
    },
    "samples": [{"group": "problems", "prompt": "Question: <4+3>", "continuation": "4+3=7\n"}],
}
CHAT = {
    "right": 1,
    "total": 2,
    "answers": [
        {"question": "4+3=?", "expected": "7", "said": "8", "is_right": False, "text": "\\boxed{8}"},
        {"question": "What is 4+3?", "expected": "7", "said": "7", "is_right": True, "text": "4+3=7: \\boxed{7}"},
    ],
}


@pytest.fixture
def evaluated(run: Path) -> Path:
    (run / "evaluation.json").write_text(json.dumps(EVALUATION))
    (run / "chat.json").write_text(json.dumps(CHAT))
    return run


def test_results_come_first_then_curves_then_configuration(evaluated):
    page, _ = read(evaluated)
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    order = ["Bits per byte of held-out text", "Problems solved", "Drafts of the MTP layer accepted", "Samples of text"]
    assert headings[:5] == [*order, "Chat answers"]
    assert headings.index("Training loss") < headings.index("Environment") < headings.index("Configuration")


def test_results_are_counts_and_percentages_with_their_intervals(evaluated):
    page, outside = read(evaluated)
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", page)]
    assert ["all", "3 of 4", "75.0 %", "30.1 % to 95.4 %"] in rows
    assert ["products", "0 of 1", "0.0 %", "0.0 % to 79.3 %"] in rows
    assert ["problems", "99.1 %", "991 of 1,000", "1,234"] in rows
    assert ["none", "-", "0 of 0", "10"] in rows
    for tile in ("1.257", "3 of 4", "99.1 %", "1 of 2"):
        assert f"<b>{tile}</b>" in page
    assert "Question: <4+3>" in outside.text
    assert "4+3=7: \\boxed{7}" in outside.text
    assert "runs/m" in outside.text, "what is not known to the report is shown as it is"


def test_the_lowest_of_each_column_is_marked(evaluated):
    page, _ = read(evaluated)
    best = re.findall(r'<tr><td>([^<]*)</td><td class="number best">([\d.]+)</td>', page)
    assert best == [("this model", "1.257"), ("zstd &lt;&amp;&gt;", "1.257")], "equal values are both the best"
    assert re.search(r'<td>gzip -9</td><td class=number>2.500</td><td class="number best">1.250</td>', page)


def test_every_figure_and_section_is_explained(evaluated):
    page, _ = read(evaluated)
    tiles = re.findall(r'<div class="card tile">(.*?)</div>', page)
    assert tiles
    assert [tile for tile in tiles if "<small>" not in tile] == []
    sections = re.findall(r"<section><h2>(.*?)</h2>(<p)?", page)
    plain = {"Resume", "Environment", "Configuration", "About this evaluation"}
    assert {title for title, note in sections if not note} <= plain


def test_a_broken_evaluation_is_named(evaluated):
    (evaluated / "chat.json").write_text("{")
    with pytest.raises(UserError, match="chat.json is not valid JSON"):
        write_report(evaluated)


def test_charts_are_xml_and_take_their_colours_from_the_page(run):
    series = [
        Series(f"a & b {index}", [1, 2, 3], [index, float("nan"), 2.0], [0, 0, 0], [4, 4, 4]) for index in range(10)
    ]
    svg = line_chart(series, "losses <x>", boundaries=[(0, "s1"), (2, "s2")], log_y=True)
    root = ElementTree.fromstring(svg)
    texts = {"".join(element.itertext()).strip() for element in root.iter() if element.tag.endswith("text")}
    assert {"losses <x>", "s1", "s2"} <= texts
    names = ["".join(element.itertext()) for element in root.iter("span")]
    assert names == [line.name for line in series], "the legend is text of the page, which no chart cuts off"
    assert [element.get("class") for element in root.iter("i")] == ["solid"] * 8 + ["dashed"] * 2
    colours = set(re.findall(r"(?:stroke|fill): ?([^;\"]+)", svg))
    assert {"var(--series-1)", "var(--series-8)", "var(--rule)"} <= colours
    assert not {colour for colour in colours if colour.startswith("#")} - {"#000000"}


def test_chart_of_nothing_finite_is_still_a_chart():
    ElementTree.fromstring(line_chart([Series("loss", [1], [float("nan")])], "loss", log_y=True))
    ElementTree.fromstring(line_chart([Series("loss", [], [])], "loss"))


def test_nested_results_become_tables():
    text = html.unescape(
        nested({"pass": True, "per source": {"a": {"bits": 1.5}, "b": {"bits": 2.5}}, "list": [{"n": 1}, {"n": 2}]})
    )
    assert re.search(r"<th>pass</th><td>yes</td>", text)
    assert re.search(r"<td>b</td><td class=number>2.5</td>", text)
    assert text.count("<table") == 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (999, "999"), (1_234_567, "1.23M"), (999_999, "1M"), (23.8e12, "23.8T"), (0.5, "0.5"), (2560, "2.56K")],
)
def test_counts(value, expected):
    assert format_count(value) == expected


def test_durations_and_sizes():
    assert [format_seconds(each) for each in (0.4, 59.7, 3_600, 93_784)] == ["0 s", "1 min 0 s", "1 h 0 min", "1 d 2 h"]
    assert format_seconds(float("inf")) == "unknown"
    assert [format_seconds(each, decimals=1) for each in (4.24, 59.97, 185)] == ["4.2 s", "1 min 0 s", "3 min 5 s"]
    assert [format_bytes(each) for each in (512, 2**20, 1.5 * 2**30)] == ["512 B", "1 MiB", "1.5 GiB"]


def test_command_writes_the_report_and_explains_a_wrong_folder(run, capsys):
    assert report.main([str(run)]) == 0
    assert Path(capsys.readouterr().out.strip()) == run / "report.html"
    (run / "metrics.jsonl").unlink()
    assert report.main([str(run)]) == 2
    assert "give the output_dir of a run" in capsys.readouterr().err


def test_other_json_lines_are_refused(run):
    (run / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(UserError, match="not a file of this program's metrics"):
        write_report(run)
