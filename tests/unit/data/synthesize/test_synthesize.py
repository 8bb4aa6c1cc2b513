"""Synthesis end to end against a server that fails, and killed at every point."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.clients.endpoint import EndpointConfig, Sampling
from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.shards import read_documents, shard_path, shard_paths, write_documents
from megatron_mimo.data.synthesize.pipeline import SynthesisConfig, synthesize
from megatron_mimo.data.synthesize.queries import Query, analysis_queries, nano_queries, problem_queries
from megatron_mimo.data.synthesize.verify import (
    ACCEPTED,
    CodeVerifier,
    MathResponseVerifier,
    OpenVerifier,
    ResponseVerdict,
    check_whole,
)
from megatron_mimo.data.synthesize.workers import VerifierPool
from support.chat_server import ChatServer, chat_server
from support.patience import patience


class SumVerifier:
    """Stands in for Math-Verify, whose import takes seconds."""

    def verify(self, query: Query, response: str) -> ResponseVerdict:
        if "hang" in response:
            time.sleep(3600)
        if "die" in response:
            os._exit(1)
        return ACCEPTED if response.endswith(f"={query.answer}") else ResponseVerdict(False, "wrong answer")


def answer(body: dict[str, Any]) -> str:
    """Right at even seeds, wrong at odd ones."""
    number = int(body["messages"][-1]["content"].split("+")[0])
    return f"seed {body['seed']}: {number}+1={number + 1 if body['seed'] % 2 == 0 else number}"


def problems_file(folder: Path, number: int = 20) -> Path:
    path = folder / "problems.jsonl"
    lines = [{"id": f"p{i}", "prompt": f"{i}+1=?", "kind": "math", "answer": str(i + 1)} for i in range(number)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def config(folder: Path, server: ChatServer, **settings: Any) -> SynthesisConfig:
    endpoint = EndpointConfig(
        url=server.url,
        model="m",
        max_concurrent_requests=4,
        first_delay_seconds=0.01,
        longest_delay_seconds=0.02,
        price_per_million_prompt_tokens=1.0,
        price_per_million_completion_tokens=2.0,
    )
    defaults: dict[str, Any] = dict(
        output=str(folder / "out"), strategy="solution", endpoint=endpoint, responses_per_query=3
    )
    return SynthesisConfig(**(defaults | {"input": str(problems_file(folder))} | settings))


def documents(folder: Path) -> list[Document]:
    return [document for path in shard_paths(folder / "out/documents") for document in read_documents(path)]


def test_rejection_sampling_and_cost(tmp_path: Path) -> None:
    with chat_server(ChatServer(answer, faults=[500, 429, 0, -1, 503])) as server:
        counts = synthesize(config(tmp_path, server), {"math": SumVerifier()})
    assert counts["queries"] == counts["queries_solved"] == counts["kept"] == 20
    assert counts["dropped/wrong answer"] == 20 and counts["dropped/enough of the query"] == 20
    summary = json.loads((tmp_path / "out/synthesis.json").read_text())
    assert summary["prompt_tokens"] == 600 and summary["completion_tokens"] == 300
    assert summary["cost"] == pytest.approx((600 + 2 * 300) / 1e6) and summary["retries_this_run"] == 5
    made = documents(tmp_path)
    assert [document.id for document in made] == [f"p{i}#0" for i in range(20)]
    assert made[3].text == "3+1=?\n\nseed 0: 3+1=4" and made[3].source == "synthetic"


def test_a_finished_run_asks_nothing_again(tmp_path: Path) -> None:
    with chat_server(ChatServer(answer)) as server:
        first = synthesize(config(tmp_path, server), {"math": SumVerifier()})
        asked = len(server.bodies)
        assert synthesize(config(tmp_path, server), {"math": SumVerifier()}) == first
        assert len(server.bodies) == asked == 60


def test_another_sampling_is_refused_the_folder(tmp_path: Path) -> None:
    with chat_server(ChatServer(answer)) as server:
        synthesize(config(tmp_path, server, max_queries=1), {"math": SumVerifier()})
        with pytest.raises(UserError, match="another sampling"):
            synthesize(config(tmp_path, server, max_queries=1, sampling=Sampling(temperature=1.0)))


def test_unanswered_requests_are_asked_by_the_next_run(tmp_path: Path) -> None:
    with chat_server(ChatServer(answer, faults=[500] * 8)) as server:
        settings = config(tmp_path, server, responses_per_query=1, max_queries=4)
        assert settings.endpoint is not None
        settings.endpoint.max_attempts = 2
        assert synthesize(settings, {"math": SumVerifier()})["unanswered"] == 4
        counts = synthesize(settings, {"math": SumVerifier()})
    assert (counts["unanswered"], counts["kept"]) == (0, 4)


def test_refused_queries_keep_their_reason(tmp_path: Path) -> None:
    with chat_server(ChatServer(answer, faults=[400, 422])) as server:
        settings = config(tmp_path, server, responses_per_query=1, max_queries=5)
        counts = synthesize(settings, {"math": SumVerifier()})
    assert counts["dropped/refused with 400"] == counts["dropped/refused with 422"] == 1 and counts["kept"] == 3


@pytest.mark.slow
def test_killed_at_any_time(tmp_path: Path) -> None:
    """Killed again and again, it ends with an undisturbed run's documents and asks twice only what was in flight."""
    (tmp_path / "calm").mkdir()
    (tmp_path / "wild").mkdir()
    with chat_server(ChatServer(answer, delay_seconds=0.03)) as server:
        synthesize(config(tmp_path / "calm", server), {"math": SumVerifier()})
        server.answered = Counter()
        tests = Path(__file__).parents[3]
        program = (
            f"import sys; sys.path[:0] = [{str(tests)!r}, {str(tests.parent)!r}, {str(Path(__file__).parent)!r}]\n"
            "from pathlib import Path\n"
            "import test_synthesize as t\n"
            "if __name__ == '__main__':\n"
            f"    server = t.ChatServer(t.answer, url={server.url!r})\n"
            f"    t.synthesize(t.config(Path({str(tmp_path / 'wild')!r}), server), {{'math': t.SumVerifier()}})\n"
        )
        file = tmp_path / "program.py"
        file.write_text(program)
        kills, journal = 0, tmp_path / "wild/out/responses.jsonl"
        while True:
            process = subprocess.Popen([sys.executable, str(file)], env=os.environ | {"OMP_NUM_THREADS": "1"})
            goal = 15 * (kills + 1)
            while process.poll() is None and not (
                journal.exists() and journal.read_bytes().count(b"\n") >= goal and kills < 3
            ):
                time.sleep(0.01)
            if process.poll() is not None:
                assert process.returncode == 0
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        assert kills == 3
    assert (
        shard_path(tmp_path / "wild/out/documents", 0).read_bytes()
        == shard_path(tmp_path / "calm/out/documents", 0).read_bytes()
    )
    ids = [json.loads(line)["id"] for line in journal.read_text().splitlines()]
    assert len(ids) == len(set(ids)) == 60
    assert sum(server.answered.values()) <= 60 + kills * 4, "only requests in flight at a kill are asked twice"


def test_a_wrong_key_stops_and_keeps_what_is_answered(tmp_path: Path) -> None:
    with chat_server(ChatServer(answer)) as server:
        synthesize(config(tmp_path, server, max_queries=5), {"math": SumVerifier()})
        server.faults = [401] * 50
        with pytest.raises(UserError, match="401"):
            synthesize(config(tmp_path, server, max_queries=6), {"math": SumVerifier()})
    assert len((tmp_path / "out/responses.jsonl").read_text().splitlines()) == 15


def test_hanging_and_dying_verifiers_cost_one_response_each() -> None:
    query = Query("q", "?", "math", answer="1")
    texts = ["a=1", "hang", "b=1", "die", "c=2", "d=1"]
    with VerifierPool({"math": SumVerifier()}, num_workers=2, timeout_seconds=patience(1.0)) as pool:
        verdicts = list(pool.verify_all((query, text) for text in texts))
    assert [verdict.accepted for verdict in verdicts] == [True, False, True, False, False, True]
    assert [verdict.reason for verdict in verdicts if not verdict.accepted] == [
        "verifier timed out", "verifier crashed", "wrong answer",
    ]  # fmt: skip
    assert verdicts[3].undecided and not verdicts[1].undecided


@pytest.mark.parametrize(
    ("gold", "response", "reason"),
    [
        ("1/2", "so it is \\boxed{0.5}", ""),
        ("\\frac{1}{2}", "\\boxed{2/4}", ""),
        ("3", "the answer is 3", "no boxed answer"),
        ("3", "\\boxed{3} at first, but then \\boxed{4}", "wrong answer"),
        ("3", "<think>\\boxed{3}</think> It is \\boxed{5}", "wrong answer"),
        ("3", "<think>\\boxed{3}</think> It is three", "no boxed answer"),
        ("(1, 2)", "\\boxed{(1, 2)}", ""),
        ("85", "7+8=15\n4+3+1=8\nAnswer: \\boxed{85}", ""),
    ],
)
def test_boxed_answers(gold: str, response: str, reason: str) -> None:
    verdict = MathResponseVerifier().verify(Query("q", "?", "math", answer=gold), response)
    assert (verdict.accepted, verdict.reason) == (reason == "", reason)


def test_code_is_what_the_last_block_holds() -> None:
    class Judge:
        def run(self, program: str, tests: Any) -> bool:
            return program == "x = 2\n" and tests == ["t"]

    query = Query("q", "?", "code", tests=["t"])
    verifier = CodeVerifier(Judge())
    assert verifier.verify(query, "```python\nx = 1\n```\nbetter:\n```python\nx = 2\n```").accepted
    assert verifier.verify(query, "```python\nx = 2\n```\nno:\n```python\nx = 1\n```").reason == "tests failed"
    assert verifier.verify(query, "```python\nx = 2\n```\nIt prints:\n```\n1\n```").accepted
    assert verifier.verify(query, "x = 2").reason == "no code block"


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
def test_programs_run_in_the_sandbox() -> None:
    asserts = ["assert double(2) == 4", "assert double(0) == 0"]
    stdio = [{"type": "stdio", "stdin": "3\n", "stdout": "6\n"}]
    right, wrong = "def double(x):\n    return 2 * x\n", "def double(x):\n    return x + 2\n"
    program = "print(2 * int(input()))\n"
    for tests, text, accepted in ((asserts, right, True), (asserts, wrong, False), (stdio, program, True)):
        query = Query("q", "?", "code", tests=tests)
        assert CodeVerifier().verify(query, f"```python\n{text}```").accepted == accepted


def test_open_answers_and_whole_answers() -> None:
    query = Query("q", "?")
    assert OpenVerifier(10).verify(query, "<think>I cannot</think>A long enough tale").accepted
    assert OpenVerifier(10).verify(query, "I'm sorry, but I can't help with that.").reason == "refusal"
    assert OpenVerifier(100).verify(query, "Short.").reason == "too short"
    assert check_whole("text", "length").reason == "cut at the token limit"
    assert check_whole("<think>for ever", "stop").reason == "thinking has no end"
    assert check_whole("<think>x</think> ", "stop").reason == "empty"
    assert check_whole("x", "stop").accepted


def test_documents_to_analyse_are_deep_and_stem(tmp_path: Path) -> None:
    def tags(domain: str, depth: float) -> dict[str, Any]:
        scores = {"knowledge_density": 3, "educational_value": 3, "reasoning_depth": depth}
        return {"tags": {"domain": domain, "kinds": [], **scores}}

    cases = [("a", "mathematics", 4.5), ("b", "mathematics", 3.9), ("c", "law", 5), ("d", "science", 4.0)]
    write_documents(shard_path(tmp_path, 0), [Document(i, i, metadata=tags(*rest)) for i, *rest in cases])
    assert [query.id for query in analysis_queries(tmp_path, 4.0)] == ["a", "d"]
    write_documents(shard_path(tmp_path, 1), [Document("e", "untagged")])
    with pytest.raises(UserError, match="step `tag`"):
        list(analysis_queries(tmp_path, 4.0))


def test_the_offline_source_verifies_its_own_solutions(tmp_path: Path) -> None:
    settings = SynthesisConfig(output=str(tmp_path / "out"), strategy="solution", kinds=["math"], max_queries=30)
    counts = synthesize(settings)
    assert counts["kept"] == 30
    assert documents(tmp_path)[0].text.startswith("Question: 10+10=?\n\n0+0+0=00")


def test_nano_programs_pass_their_tests() -> None:
    programs = [query for query in nano_queries() if query.kind == "code"]
    assert len(programs) > 500
    for query in programs[::50]:
        code = query.solution.removeprefix("```python\n").removesuffix("\n```")
        exec("\n".join([code, *query.tests]), {})


def test_bad_input_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    for line, message in [
        ("{", "line 1 is not JSON"),
        ('{"id": "a"}', "line 1"),
        ('{"id":"a","prompt":"b","kind":"math"}', "answer"),
    ]:
        path.write_text(line + "\n")
        with pytest.raises(UserError, match=message):
            list(problem_queries(path))
    with pytest.raises(ConfigError, match="endpoint"):
        SynthesisConfig(output="x", strategy="general", input="y")


def test_more_answers_than_the_known_solution_need_an_endpoint(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"responses_per_query = 8: without an endpoint a query has one known solution"
    ):
        SynthesisConfig(output="x", strategy="solution", responses_per_query=8)
    assert SynthesisConfig(output="x", strategy="solution").responses_per_query == 1
    endpoint = EndpointConfig(url="http://localhost", model="m")
    assert SynthesisConfig(output="x", strategy="solution", endpoint=endpoint).responses_per_query == 4
