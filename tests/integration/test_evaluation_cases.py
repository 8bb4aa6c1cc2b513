"""Answers in the forms that models and servers really send, each through `megatron-mimo evaluate`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.cli.evaluate import main
from support.chat_server import ChatServer, chat_server
from support.needs import needs

pytestmark = pytest.mark.slow
LETTERS = {
    # The question's number is where its letter A stands.
    "right": [
        "{a}", "{A opt0}", "{Option A}", "{选A}", " {A}", "{{A}}", r"{\(A\)}", "{**A**}", "{[A]}",
        r"{\text{Answer: A}}", r"{\textit{A}}", "{Ａ}", r"{\mathbf{(A)}}", "{A. opt0}", "{故选Ａ}", "{`a`}", r"{\rm A}",
    ],
    "no single letter": [
        "{A: 5, B: 6}", "{A. or B.}", "{A or B}", "{A: opt0, B: opt1}", "{A. opt0 or B. opt1}", "{AB}",
        r"{A\text{ and }C}",
    ],
    "no letter": ["{opt1}", "{none}", "{}", "{E}"],
}  # fmt: skip
PROGRAMS = {
    "Use ``` fences.\n```python\nprint(1)\n```": 1,
    "```python\nprint(1)\n```\nExample output:\n```\n1\n```": 1,
    "~~~python\nprint(1)\n~~~": 1,
    "```Python3\nprint(1)\n```\n\n```text\n2\n```": 1,
    "````python\nprint(1)\n````": 1,
    "1. So:\n   ```python\n   print(1)\n   ```": 1,
    "<think>draft\n```python\nprint(1)\n```\n still thinking": 0,
    "<think>a</think>```python\nprint(1)\n```<think>\n```python\nprint(2)\n```": 1,
    "print(1)": 0,
}
LITERALS = [
    ("[1]", "[1.0]", 0), ("[1]", "[True]", 0), ("[1, 2]", "f([1]) == [1,2]", 1),
    ("[1, 2]", "assert f([1]) == [1, 2]", 1), ("-1", "- 1", 1), ("[1]", "f(2) != [1]", 0),
    ("[1, 2]", "(1, 2)", 0), ("{'a': 1}", '{"a": 1}', 1), ("{'a': 1}", "{'a': True}", 0), ("'x'", "x", 0),
    ("1", "1 ", 1), ("{1: [2.0]}", "{1: [2]}", 0), ("(1,)", "(1,)", 1),
]  # fmt: skip


def write(path: Path, *records: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


def evaluated(folder: Path, config: str, answer: Callable[[dict[str, Any]], Any], *more: str) -> dict[str, Any]:
    """The tasks' results of one command; the answers are the server's."""
    (folder / "evaluate.yaml").write_text(f"{config}\ngeneration: {{served_model: m}}\n")
    with chat_server(ChatServer(answer)) as server:
        arguments = [str(folder / "evaluate.yaml"), "--model", server.url, "--data", str(folder)]
        assert main([*arguments, "--output", str(folder / "out"), *more]) == 0
    return json.loads((folder / "out" / "results.json").read_text())["tasks"]


def numbered(said: list[Any]) -> Callable[[dict[str, Any]], Any]:
    """Answer i to the question that names `Q<i>.`"""

    def answer(body: dict[str, Any]) -> Any:
        question = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
        return next(text for place, text in enumerate(said) if f"Q{place}." in question)

    return answer


def scores(task: dict[str, Any]) -> list[float]:
    return [
        found[0] for _, found in sorted(task["scores"].items(), key=lambda item: int(item[0].strip("/").split("-")[0]))
    ]


def test_letters_in_every_form(tmp_path: Path) -> None:
    said = [(f"So \\boxed{form}.", kind) for kind, forms in LETTERS.items() for form in forms]
    write(tmp_path / "mmlu.jsonl", *four_options(len(said)))
    task = evaluated(tmp_path, "tasks: [{task: mmlu}]", numbered([text for text, _ in said]))["mmlu"]
    assert scores(task) == [float(kind == "right") for _, kind in said]
    unreadable = sum(kind != "right" for _, kind in said)
    assert task["without_answer"] == pytest.approx(unreadable / len(said))
    assert all(one["verdict"].startswith("no ") for one in task["unreadable"])


def test_options_in_every_form(tmp_path: Path) -> None:
    forms: list[Any] = [
        ["w", "x", "y", "z"], "A) w B) x C) y D) z", '["w", "x", "y", "z"]', "['w', 'x', 'y', 'z']",
        {"A": "w", "B": "x", "C": "y", "D": "z"}, {"text": ["w", "x", "y", "z"], "label": ["A", "B", "C", "D"]},
        ["(A)w", "(B)x", "(C)y", "(D)z"],
    ]  # fmt: skip
    rows = [{"question": f"Q{i}. Which?", "options": form, "answer": "B"} for i, form in enumerate(forms)]
    write(tmp_path / "mmlu.jsonl", *rows)
    asked: list[str] = []

    def answer(body: dict[str, Any]) -> str:
        asked.append(body["messages"][-1]["content"])
        return "\\boxed{B. x}"

    assert scores(evaluated(tmp_path, "tasks: [{task: mmlu}]", answer)["mmlu"]) == [1.0] * len(forms)
    assert all("A. w\nB. x\nC. y\nD. z\n" in text for text in asked)


def test_an_option_list_without_marks_is_refused_with_its_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "mmlu.jsonl", {"question": "Which?", "options": "one of x and y", "answer": "A"})
    (tmp_path / "evaluate.yaml").write_text("tasks: [{task: mmlu}]\ngeneration: {served_model: m}\n")
    arguments = [str(tmp_path / "evaluate.yaml"), "--model", "http://localhost:1/v1", "--data", str(tmp_path)]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 2
    assert "record 1" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
def test_programs_in_every_fence(tmp_path: Path) -> None:
    rows = [
        {"question_id": str(i), "question_content": f"Q{i}. print 1.", "starter_code": "", "metadata": "{}",
         "contest_date": "2024-09-01", "difficulty": "easy", "private_test_cases": "[]",
         "public_test_cases": json.dumps([{"input": "", "output": "1\n", "testtype": "stdin"}])}
        for i in range(len(PROGRAMS))
    ]  # fmt: skip
    write(tmp_path / "livecodebench.jsonl", *rows)
    task = evaluated(tmp_path, "tasks: [{task: livecodebench}]", numbered([*PROGRAMS]))["livecodebench"]
    assert scores(task) == [*PROGRAMS.values()]


def test_literals_are_compared_by_value_and_type(tmp_path: Path) -> None:
    rows = [
        {"id": str(i), "code": f"def f(x):\n    # Q{i}.\n    return x", "input": "1", "output": wanted}
        for i, (wanted, _, _) in enumerate(LITERALS)
    ]
    write(tmp_path / "cruxeval.jsonl", *rows)
    said = [f"```python\n{answer}\n```" for _, answer, _ in LITERALS]
    task = evaluated(tmp_path, "tasks: [{task: cruxeval_o}]", numbered(said))["cruxeval_o"]
    assert scores(task) == [float(right) for _, _, right in LITERALS]


def four_options(count: int) -> list[dict[str, Any]]:
    options = {letter: f"opt{place}" for place, letter in enumerate("ABCD")}
    return [{"question": f"Q{i}. Which?", "answer": "A"} | options for i in range(count)]


def test_a_base_models_next_question_is_cut_off(tmp_path: Path) -> None:
    """The server does as real ones do: it ends a completion at the first stop string."""
    write(tmp_path / "mmlu.jsonl", *four_options(2))
    code = "def f(x):\n    return x"
    write(tmp_path / "cruxeval.jsonl", *({"id": i, "code": code, "input": str(i), "output": str(i)} for i in range(2)))

    def answer(body: dict[str, Any]) -> str:
        is_program = body["prompt"].endswith("==")
        number = body["prompt"].rpartition("f(")[2].partition(")")[0]
        text = f" {number}\nassert f(7) == 8" if is_program else "\\boxed{A}.\n\nQuestion: next one, \\boxed{B}"
        return text[: min([place for stop in body.get("stop", []) if (place := text.find(stop)) >= 0] or [len(text)])]

    config = "tasks: [{task: mmlu}, {task: base_cruxeval_o, num_shots: 0}]"
    for more, right in (((), 1.0), (("tasks.0.stop=[]", "tasks.1.stop=[]"), 0.0)):
        tasks = evaluated(tmp_path, config, answer, "generation.template=plain", *more)
        assert scores(tasks["mmlu"]) == scores(tasks["base_cruxeval_o"]) == [right, right]


def test_contents_in_parts_and_refusals(tmp_path: Path) -> None:
    """What servers put into an answer's content; stored answers are read again by the second run."""
    said: list[Any] = [
        [{"type": "text", "text": "So \\boxed{"}, {"type": "text", "text": "A}"}],
        [{"type": "thinking", "thinking": [{"type": "text", "text": "\\boxed{B}"}]}, {"text": "\\boxed{A}"}],
        ["\\boxed{A}"],
        [],
        None,
        [{"type": "refusal", "refusal": "I cannot."}],
    ]
    write(tmp_path / "mmlu.jsonl", *four_options(len(said)))
    for _ in range(2):
        task = evaluated(tmp_path, "tasks: [{task: mmlu}]", numbered(said))["mmlu"]
        assert scores(task) == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0] and task["missing"] == 0


def test_compare_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "mmlu.jsonl", *four_options(3))
    config = "tasks: [{task: mmlu, max_new_tokens: 99}]"
    for name, more in (("one", ()), ("two", ("generation.system_prompt=Be brief", "seed=7", "tasks.0.stop=[x]"))):
        evaluated(tmp_path, config, lambda _: "\\boxed{A}", *more)
        (tmp_path / "out").rename(tmp_path / name)
    page = tmp_path / "page.html"
    assert main(["compare", str(tmp_path / "one"), str(tmp_path / "two"), "--output", str(page)]) == 0
    note = "different system_prompt; different seed; different stop"
    assert note in capsys.readouterr().out


def test_a_score_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The model answers in the chat template only, and not at all at a short length."""
    code = "def f(x):\n    return x"
    write(tmp_path / "cruxeval.jsonl", *({"id": i, "code": code, "input": "1", "output": "1"} for i in range(6)))

    def answer(body: dict[str, Any]) -> str:
        return "```python\n1\n```" if "messages" in body else " no"

    with chat_server(ChatServer(answer)) as server:
        arguments = ["explain", "--task", "cruxeval_o", "--model", server.url, "--data", str(tmp_path), "limit=2"]
        arguments += ["--repetitions", "2", "--max-new-tokens", "64", "generation.served_model=m"]
        for _ in range(2):
            assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
        assert len(server.bodies) == 2 * (2 * 9 + 1)
    rows = json.loads((tmp_path / "out" / "explain.json").read_text())["rows"]
    assert [row["results"]["score"] for row in rows] == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0]
    assert "chat template, empty system message" in capsys.readouterr().out
    assert "generation.system_prompt=null" in (tmp_path / "out" / "explain.html").read_text()


def harness_task(folder: Path, **changes: Any) -> None:
    """Four sums; a stock task's two filters, of which the first finds nothing."""
    rows = [{"q": f"{i}+{i}=", "a": str(2 * i)} for i in range(4)]
    write(folder / "rows.jsonl", *rows)
    task = {
        "task": "our_sums", "dataset_path": "json", "test_split": "test", "output_type": "generate_until",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}}, "doc_to_text": "{{q}}",
        "doc_to_target": "{{a}}", "metric_list": [{"metric": "exact_match"}],
    } | changes  # fmt: skip
    (folder / "sums.yaml").write_text(json.dumps(task))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    needs("lm_eval")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


@pytest.mark.usefixtures("offline")
def test_a_harness_task_with_filters_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Filters are no repetitions: four problems, two answers each."""
    filters = [
        {"name": name, "filter": [{"function": "regex", "regex_pattern": pattern}, {"function": "take_first"}]}
        for name, pattern in (("any", "(.*)"), ("strict", "never"))
    ]
    harness_task(tmp_path, filter_list=filters)

    def answer(body: dict[str, Any]) -> str:
        first, _, second = body["messages"][-1]["content"].strip("=").partition("+")
        return str(int(first) + int(second))

    config = f"tasks: [{{task: 'harness:our_sums', path: {tmp_path}, repetitions: 2, max_new_tokens: 9}}]"
    task = evaluated(tmp_path, config, answer)["harness:our_sums"]
    assert (task["problems"], task["answers"], task["score"], list(task["pass_at_k"])) == (4, 8, 1.0, ["1", "2"])
    assert task["details"] == {"filter any": 1.0, "filter strict": 0.0} and task["prompt_tokens"] == 8 * 10
    assert "harness:our_sums" in capsys.readouterr().out and (tmp_path / "out" / "report" / "index.html").is_file()
    assert main(["compare", str(tmp_path / "out"), str(tmp_path / "out"), "--output", str(tmp_path / "c.html")]) == 0


@pytest.mark.usefixtures("offline")
def test_a_harness_task_compares_log_likelihoods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    choices = {"output_type": "multiple_choice", "doc_to_choice": "{{[a, '9']}}", "doc_to_target": 0}
    harness_task(tmp_path, metric_list=[{"metric": "acc"}], **choices)

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        """The right sum is the likeliest continuation; a token a character."""
        text = body["prompt"]
        question, _, said = text.partition("=")
        first, _, second = question.partition("+")
        nats = -0.1 if int(said) == int(first) + int(second) else -3.0
        return {"text": text, "logprobs": {"text_offset": [*range(len(text))], "token_logprobs": [nats] * len(text)}}

    config = f"tasks: [{{task: 'harness:our_sums', path: {tmp_path}}}]"
    task = evaluated(tmp_path, config, answer, "generation.template=plain")["harness:our_sums"]
    assert (task["problems"], task["score"]) == (4, 1.0)
    with chat_server(ChatServer(answer)) as server:
        arguments = [str(tmp_path / "evaluate.yaml"), "--model", server.url, "--output", str(tmp_path / "chat")]
        assert main(arguments) == 2
    assert "generation.template=plain" in capsys.readouterr().err
