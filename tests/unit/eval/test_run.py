"""The streamed run on engines that are known: order, cache, resume, faults, results, report, comparison."""

import asyncio
import json
from pathlib import Path
from typing import Any, Self

import pytest

from megatron_mimo.clients.endpoint import Completion, Message, RequestFailed, Sampling
from megatron_mimo.config import ConfigError, UserError, load
from megatron_mimo.config.eval import EvalGenerationConfig, EvaluateConfig, TaskConfig
from megatron_mimo.data.decontaminate.index import BenchmarkText, build_index
from megatron_mimo.data.decontaminate.step import METADATA_KEY
from megatron_mimo.data.decontaminate.words import normalized_words
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.shards import shard_path, write_documents
from megatron_mimo.eval.compare import compare_results, comparison_page, comparison_text, read_results
from megatron_mimo.eval.engines import EndpointEngine, Engine, Pairs
from megatron_mimo.eval.presets import PRESETS, preset
from megatron_mimo.eval.problem_counts import count_notes, expected_counts
from megatron_mimo.eval.protocol import EvalProblem, EvalTask, Grade, GradeFault, Graders, user
from megatron_mimo.eval.published import others, series
from megatron_mimo.eval.run import Pipeline, TaskRun, prepare
from megatron_mimo.eval.samples_report import write_report
from megatron_mimo.eval.session import score_now
from megatron_mimo.eval.summary import summarize, table
from megatron_mimo.eval.tasks import ifeval
from support.chat_server import ChatServer, chat_server


class Parrot:
    """Answers `\\boxed{answer}` to even questions, something else to odd ones; may die after some answers."""

    name = identity = "parrot"

    def __init__(self, dies_after: int = 10**9, right: str = "02468") -> None:
        self.asked: list[tuple[str, int]] = []
        self.dies_after, self.right = dies_after, right

    async def answer(self, messages: list[Message], sampling: Sampling, seed: int) -> Completion:
        await asyncio.sleep(0.001)
        if len(self.asked) >= self.dies_after:
            raise RequestFailed("no answer from the endpoint", "down", final=False)
        question = messages[-1]["content"].splitlines()[0]
        self.asked.append((question, seed))
        right = question.split()[-1][-1] in self.right
        return Completion(f"\\boxed{{{question.split()[-1] if right else 'no'}}}", "stop" if right else "length", 5, 7)

    async def complete(self, prompt: str, sampling: Sampling, seed: int) -> Completion:
        return await self.answer([{"role": "user", "content": prompt}], sampling, seed)

    async def log_likelihoods(self, pairs: Pairs) -> list[float]:
        return [-float(len(continuation)) for _, continuation in pairs]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: Any) -> None: ...


class SameText:
    """A stand-in for Math-Verify."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def reward(self, response: str, answer: str) -> float:
        self.seen.append(response)
        return float(response == f"\\boxed{{{answer}}}")


def write_data(folder: Path, count: int = 20) -> Path:
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"id": i, "problem": f"What is {i}", "answer": str(i)}) for i in range(count)]
    (folder / "math_500.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def make_config(tmp_path: Path, **changes: Any) -> EvaluateConfig:
    data = write_data(tmp_path / "data")
    task = TaskConfig(task="math_500", **{"repetitions": 2, "max_new_tokens": 64, **changes})
    return EvaluateConfig(data=str(data), output=str(tmp_path / "out"), tasks=[task])


def run(
    config: EvaluateConfig, engine: Engine, graders: Graders | None = None, streaming: bool = True
) -> dict[str, Any]:
    """One run to its results; the stores are closed at the end as in a session."""
    runs = prepare(config, engine)
    with runs[0].store:
        pipeline = Pipeline(
            engine, graders or Graders(math=SameText()), num_workers=4, streaming=streaming, say=lambda _: None
        )
        asyncio.run(pipeline.run(runs))
        results = summarize(config, engine, runs)
        write_report(Path(config.output) / "report", results, runs)
        return results


def test_results_of_a_known_model(tmp_path: Path) -> None:
    results = run(make_config(tmp_path), Parrot())
    task = results["tasks"]["math_500"]
    assert (task["score"], task["answers"], task["missing"], task["truncated"]) == (0.5, 40, 0, 0.5)
    assert task["low"] < 0.5 < task["high"]
    assert task["scores"]["4"] == [1.0, 1.0] and task["scores"]["5"] == [0.0, 0.0]
    assert task["pass_at_k"] == {"1": 0.5, "2": 0.5}
    assert "50.0" in table(results)
    assert table(results).splitlines()[-1].split() == ["math_500", "pass@k", "1:", "50.0", "2:", "50.0"]


def test_every_answer_has_a_seed_of_its_own_that_does_not_change(tmp_path: Path) -> None:
    first, second = Parrot(), Parrot()
    for name, engine in (("a", first), ("b", second)):
        (tmp_path / name).mkdir()
        run(make_config(tmp_path / name), engine)
    assert sorted(first.asked) == sorted(second.asked)
    assert len({seed for _, seed in first.asked}) == 40


def test_a_second_run_asks_nothing_and_more_repetitions_only_the_rest(tmp_path: Path) -> None:
    config, parrot = make_config(tmp_path), Parrot()
    first = run(config, parrot)
    assert run(config, Parrot(dies_after=0)) == first
    more = Parrot()
    assert run(make_config(tmp_path, repetitions=3), more)["tasks"]["math_500"]["answers"] == 60
    assert len(more.asked) == 20
    other_settings = Parrot()
    run(make_config(tmp_path, temperature=0.7), other_settings)
    assert len(other_settings.asked) == 40


def test_a_model_that_goes_down_loses_nothing(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    with pytest.raises(UserError, match="after 13 of 40 answers.*\n.*same command again"):
        run(config, Parrot(dies_after=13))
    rest = Parrot()
    results = run(config, rest)
    assert len(rest.asked) == 27
    assert results["tasks"]["math_500"]["score"] == 0.5


def test_an_answer_cut_short_in_the_journal_is_drawn_again(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    expected = run(config, Parrot())
    (samples,) = Path(config.output).glob("cache/*/*.samples.jsonl")
    samples.write_bytes(samples.read_bytes()[:-20])
    again = Parrot()
    assert run(config, again) == expected
    assert len(again.asked) == 1


def test_columns_that_qualify_a_score(tmp_path: Path) -> None:
    class Silent(Parrot):
        async def answer(self, messages: list[Message], sampling: Sampling, seed: int) -> Completion:
            answer = await super().answer(messages, sampling, seed)
            return Completion("no box", "stop", 5, 7) if "What is 6\n" in messages[0]["content"] else answer

    results = run(make_config(tmp_path), Silent())
    task = results["tasks"]["math_500"]
    # Odd questions are truncated and wrong; of the finished ones number 6 and number 16 have no answer.
    assert task["score_of_finished"] == pytest.approx(0.9) and task["tokens"] == 280
    assert task["without_answer"] == pytest.approx(2 / 40)
    assert task["unreadable"][0] == {"id": "6#0", "verdict": "no boxed answer", "end": "no box"}
    assert "finished answers alone: 90.0" in table(results) and "6#0" in table(results)


def test_a_base_models_answer_ends_before_a_question_of_its_own(tmp_path: Path) -> None:
    """Under the plain template, and at the configured stop strings; a chat's answers end by themselves."""
    asked: list[tuple[str, ...]] = []

    class Watched(Parrot):
        async def answer(self, messages: list[Message], sampling: Sampling, seed: int) -> Completion:
            asked.append(sampling.stop)
            return await super().answer(messages, sampling, seed)

    for place, (template, stop) in enumerate([("plain", None), ("plain", ["END"]), ("chat", None)]):
        folder = tmp_path / str(place)
        folder.mkdir()
        config = make_config(folder, stop=stop, limit=1, repetitions=1)
        config.generation.template = template  # pyright: ignore[reportAttributeAccessIssue]
        run(config, Watched())
    assert "\nQuestion:" in asked[0] and asked[1:] == [("END",), ()]


def test_missing_files_are_left_out_on_demand(tmp_path: Path) -> None:
    config, said = make_config(tmp_path), []
    config.tasks.append(TaskConfig(task="aime24"))
    with pytest.raises(UserError, match="no aime24.jsonl"):
        prepare(config, Parrot())
    config.skip_missing = True
    assert [one.config.task for one in prepare(config, Parrot(), said.append)] == ["math_500"]
    assert any("left out: task aime24" in line for line in said)


def test_a_task_whose_library_is_missing_is_left_out_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ifeval, "find_spec", lambda name: None)
    config, said = make_config(tmp_path), []
    rules = {"key": 1, "prompt": "No commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    (tmp_path / "ifeval.jsonl").write_text(json.dumps(rules) + "\n")
    config.tasks.append(TaskConfig(task="ifeval", path=str(tmp_path / "ifeval.jsonl")))
    with pytest.raises(UserError, match="ifeval needs lm-evaluation-harness: pip install"):
        prepare(config, Parrot())
    config.skip_missing = True
    assert [one.config.task for one in prepare(config, Parrot(), said.append)] == ["math_500"]
    assert any("left out: task ifeval needs" in line for line in said)


def test_an_answer_that_was_stored_in_parts_is_read_as_its_text(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    expected = run(config, Parrot())
    (samples,) = Path(config.output).glob("cache/*/*.samples.jsonl")
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    rows[0]["response"] = [{"type": "text", "text": rows[0]["response"]}]
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(config, Parrot(dies_after=0)) == expected


def test_answers_are_graded_while_others_generate(tmp_path: Path) -> None:
    class Watched(Parrot):
        graded_at_last_question = 0

        async def answer(self, messages: list[Message], sampling: Sampling, seed: int) -> Completion:
            self.graded_at_last_question = len(math.seen)
            return await super().answer(messages, sampling, seed)

    for streaming in (True, False):
        folder = tmp_path / str(streaming)
        folder.mkdir()
        math, engine = SameText(), Watched()
        run(make_config(folder), engine, Graders(math=math), streaming)
        assert (engine.graded_at_last_question > 20) == streaming
        assert len(math.seen) == 40


class Broken(SameText):
    """A verifier that fails for some answers."""

    async def reward(self, response: str, answer: str) -> float:
        from megatron_mimo.reward.math_answer import MathFault

        if answer == "4":
            raise MathFault("died")
        return await super().reward(response, answer)


def test_a_failing_grader_is_no_wrong_answer(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    task = run(config, Parrot(), Graders(math=Broken()))["tasks"]["math_500"]
    assert (task["missing"], task["grader_faults"], task["answers"]) == (2, 2, 38)
    assert "4" not in task["scores"]
    repaired = run(config, Parrot(dies_after=0))["tasks"]["math_500"]
    assert (repaired["missing"], repaired["scores"]["4"]) == (0, [1.0, 1.0])


def test_a_refused_request_is_counted_and_not_scored(tmp_path: Path) -> None:
    class Picky(Parrot):
        async def answer(self, messages: list[Message], sampling: Sampling, seed: int) -> Completion:
            if "What is 3\n" in messages[0]["content"]:
                raise RequestFailed("refused with 400", "too long", final=True)
            return await super().answer(messages, sampling, seed)

    results = run(make_config(tmp_path), Picky())
    task = results["tasks"]["math_500"]
    assert (task["refused"], task["missing"]) == (2, 2)
    assert "INCOMPLETE: 2" in table(results)


def test_a_bug_in_a_grader_is_raised(tmp_path: Path) -> None:
    class Buggy(SameText):
        async def reward(self, response: str, answer: str) -> float:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(make_config(tmp_path), Parrot(), Graders(math=Buggy()))


def test_limit_takes_the_same_answers(tmp_path: Path) -> None:
    run(make_config(tmp_path, limit=5), Parrot())
    rest = Parrot()
    run(make_config(tmp_path), rest)
    assert len(rest.asked) == 30


def test_the_report_shows_every_answer_and_runs_no_model_text(tmp_path: Path) -> None:
    class Evil(Parrot):
        async def answer(self, messages: list[Message], sampling: Sampling, seed: int) -> Completion:
            return Completion("<script>alert(1)</script>\ud800", "stop", 1, 1)

    config = make_config(tmp_path)
    run(config, Evil())
    answers = (Path(config.output) / "report" / "math_500-1.html").read_text()
    assert answers.count("<details>") == 40
    assert "<script>" not in answers
    index = (Path(config.output) / "report" / "index.html").read_text()
    assert 'href="math_500-1.html"' in index
    assert "95.8" in index  # MiMo-7B-RL on MATH-500


def compared(tmp_path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    results = []
    for name, right in (("a", "0246"), ("b", "02468135")):
        (tmp_path / name).mkdir()
        results.append(run(make_config(tmp_path / name), Parrot(right=right)) | {"model": name})
    return results[0], results[1]


def test_comparison_is_paired(tmp_path: Path) -> None:
    first, second = compared(tmp_path)
    (row,) = compare_results(first, second)
    assert (row["first"], row["second"], row["difference"], row["problems"]) == (40.0, 80.0, 40.0, 20)
    assert row["low"] > 0 and row["p_value"] < 0.02
    assert "+40.0" in comparison_text([row], "a", "b")
    assert "40" in comparison_page(first, second, [row])
    (reverse,) = compare_results(second, first)
    assert reverse["difference"] == -40.0


def test_comparison_shows_the_problems_that_flipped(tmp_path: Path) -> None:
    first, second = compared(tmp_path)
    (row,) = compare_results(first, second)
    assert (row["gained"], row["lost"]) == (8, 0)
    page = comparison_page(first, second, [row])
    assert page.count('<details class="gained">') == 8 and page.count('<details class="unsolved">') == 4
    assert "What is 13" in page and "\\boxed{no}" in page and "\\boxed{13}" in page and "<script" not in page
    # Answers that are no longer on the disk are named, and the figures stay.
    first["tasks"]["math_500"]["answers_file"] = str(tmp_path / "gone")
    assert "not shown" in comparison_page(first, second, [row])


def test_comparison_names_what_differs(tmp_path: Path) -> None:
    first, second = compared(tmp_path)
    second |= {"system_prompt": "Be brief.", "template": "plain"}
    (row,) = compare_results(first, second)
    assert row["note"] == "different system_prompt; different template"
    second["tasks"]["math_500"]["temperature"] = 1.0
    del second["tasks"]["math_500"]["scores"]["3"]
    (row,) = compare_results(first, second)
    assert "different temperature" in row["note"] and "1 problems unpaired" in row["note"]
    with pytest.raises(UserError, match="no task in common"):
        compare_results(first, second | {"tasks": {}})
    with pytest.raises(UserError, match="no results"):
        read_results(tmp_path)


def test_published_figures() -> None:
    # Two tables of the report and the facts' summary agree.
    assert others()["math_500"]["MiMo-7B-RL"] == series()["math_500"]["MiMo-7B-RL"] == 95.8
    assert others()["gpqa_diamond"]["MiMo-7B-RL"] == 54.4
    for task, row in series().items():
        assert row["MiMo-7B-RL"] == others()[task]["MiMo-7B-RL"]


def test_presets_are_the_reports() -> None:
    tasks = {task.title: task for task in preset("report")}
    assert {name: task.repetitions for name, task in tasks.items()} == {
        "math_500": 1, "aime24": 32, "aime25": 32, "livecodebench_v5": 8, "livecodebench_v6": 8, "gpqa_diamond": 8,
        "supergpqa": 1, "mmlu_pro": 1, "ifeval": 8, "drop": 1,
    }  # fmt: skip
    assert tasks["aime24"].max_new_tokens == 32768 and tasks["mmlu_pro"].max_new_tokens == 8192
    assert {(task.temperature, task.top_p) for task in tasks.values()} == {(0.6, 0.95)}
    for name in PRESETS:
        EvaluateConfig(tasks=preset(name))
    with pytest.raises(ConfigError, match="is one of"):
        preset("reprot")


def test_an_endpoint_goes_down_and_comes_back(tmp_path: Path) -> None:
    """Through the real client: 10 answers, then hang-ups until every attempt is used, then a second run."""
    server = ChatServer(lambda body: f"\\boxed{{{body['messages'][-1]['content'].split()[2]}}}")
    generation = EvalGenerationConfig(
        served_model="m", max_attempts=2, first_delay_seconds=0.01, max_concurrent_requests=4
    )
    config = make_config(tmp_path, repetitions=1)

    async def once(url: str) -> dict[str, Any]:
        engine = EndpointEngine(url, "m", generation)
        runs: list[TaskRun] = prepare(config, engine)
        with runs[0].store:
            async with engine:
                await Pipeline(engine, Graders(math=SameText()), num_workers=4, say=lambda _: None).run(runs)
            return summarize(config, engine, runs)

    with chat_server(server):
        server.faults = [200] * 10 + [0] * 50
        with pytest.raises(UserError, match="same command again"):
            asyncio.run(once(server.url))
        server.faults = []
        asked = len(server.bodies)
        task = asyncio.run(once(server.url))["tasks"]["math_500"]
    assert len(server.bodies) - asked == 10
    assert (task["score"], task["missing"]) == (1.0, 0)
    assert server.bodies[0]["temperature"] == 0.6 and server.bodies[0]["top_p"] == 0.95


def test_a_silent_endpoint_is_told() -> None:
    with pytest.raises(UserError, match="no server answers"):
        EndpointEngine("http://localhost:1/v1", "", EvalGenerationConfig())


def test_grades_are_tried_again_after_a_fault(tmp_path: Path) -> None:
    class Once(EvalTask):
        name, files, needs = "math_500", ("math_500",), frozenset()
        faults = 0

        def problem(self, record: dict[str, Any], number: int) -> EvalProblem:
            return EvalProblem(id=str(number), messages=user("x y"), reference=None, shown="")

        async def grade(self, problem: EvalProblem, response: str, graders: Graders) -> Grade:
            self.faults += 1
            if self.faults < 3:
                raise GradeFault("busy")
            return Grade(1.0, "x")

    config = make_config(tmp_path, repetitions=1, limit=1)
    engine = Parrot()
    (prepared,) = prepare(config, engine)
    prepared.task = Once()
    with prepared.store:
        asyncio.run(Pipeline(engine, Graders(), say=lambda _: None).run([prepared]))
        assert len(prepared.store.read_grades()) == 1


def test_example_of_mimo_7b_is_the_preset() -> None:
    example = load(EvaluateConfig, [str(Path(__file__).parents[3] / "examples" / "mimo_7b" / "evaluate.yaml")])
    assert example.tasks == preset("report")
    load(EvaluateConfig, [str(Path(__file__).parents[3] / "examples" / "nano" / "evaluate.yaml")])


def test_a_small_evaluation_inside_of_a_loop(tmp_path: Path) -> None:
    figures = asyncio.run(score_now(make_config(tmp_path), Parrot(), Graders(math=SameText())))
    assert figures["math_500"]["score"] == 0.5


TRAIN = "a question with the number {0} that stands word for word in the training data here: What is {0}"


def test_scores_without_problems_that_stand_in_the_training_data(tmp_path: Path) -> None:
    """Known by an index of training texts, and by the documents that the data step dropped."""
    config = make_config(tmp_path)
    rows = [{"id": i, "problem": TRAIN.format(i) if i < 4 else f"What is {i}", "answer": str(i)} for i in range(20)]
    (tmp_path / "data" / "math_500.jsonl").write_text("\n".join(map(json.dumps, rows)))
    texts = [BenchmarkText("sft", str(i), f"Before. {TRAIN.format(i).upper()}! After.") for i in (0, 2)]
    build_index(texts).save(tmp_path / "index")
    match = {"benchmark": "math", "item": "3", "ngram": " ".join(normalized_words(TRAIN.format(3))[-16:])}
    dropped = Document("d", "text", metadata={METADATA_KEY: [match]})
    write_documents(shard_path(tmp_path / "dropped", 0), [dropped])
    for folder, names, clean in (("index", ["0", "2"], 8 / 18), ("dropped", ["3"], 10 / 19)):
        config.contamination = str(tmp_path / folder)
        results = run(config, Parrot())
        task = results["tasks"]["math_500"]
        assert list(task["contaminated"]) == names and task["clean_score"] == pytest.approx(clean)
        assert task["score"] == 0.5 and task["clean_low"] < clean < task["clean_high"]
        assert f"without the {len(names)} problems of the training data: {100 * clean:.1f}" in table(results)
    config.contamination = ""
    task = run(config, Parrot(dies_after=0))["tasks"]["math_500"]
    assert task["contaminated"] is None and task["clean_score"] is None
    config.contamination = str(tmp_path / "data")
    with pytest.raises(UserError, match="neither an index"):
        run(config, Parrot())


def test_tokens_and_cost_are_those_of_all_stored_answers(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    config.generation.price_per_million_prompt_tokens = 10.0
    config.generation.price_per_million_completion_tokens = 100.0
    task = run(config, Parrot())["tasks"]["math_500"]
    assert (task["prompt_tokens"], task["tokens"]) == (200, 280) and task["cost"] == pytest.approx(0.03)


def test_files_of_another_size_than_published_are_told(tmp_path: Path) -> None:
    said: list[str] = []
    prepare(make_config(tmp_path), Parrot(), said.append)
    assert said == ["math_500: 20 problems in its files; published evaluations count 500"]
    for count, dates in ((279, WINDOWS_V5), (131, WINDOWS_V6), (175, WINDOWS_V6)):
        config = TaskConfig(task="base_livecodebench", first_date=dates[0], end_date=dates[1])
        assert not list(count_notes(config, count)) and "published" in next(count_notes(config, 1))
    presets = [task for name in ("report", "base") for task in preset(name)]
    windows = [task for task in presets if task.first_date]
    assert len(windows) == 3 and all(expected_counts(task) for task in windows)


WINDOWS_V5, WINDOWS_V6 = ("2024-08-01", "2025-02-01"), ("2025-02-01", "2025-05-01")


def test_one_limit_for_all_tasks(tmp_path: Path) -> None:
    task = {"task": "math_500", "path": str(write_data(tmp_path / "data") / "math_500.jsonl")}
    config = EvaluateConfig(limit=3, tasks=[TaskConfig(**task), TaskConfig(**task, name="own", limit=5)])  # type: ignore[arg-type]
    config.output = str(tmp_path / "out")
    assert [len(run.problems) for run in prepare(config, Parrot(), lambda _: None)] == [3, 5]
