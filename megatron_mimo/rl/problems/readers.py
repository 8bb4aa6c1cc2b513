"""Readers: one function a format, a JSON object to a Problem; answers and tests stay as they are.

Bad records are reported to the caller's `on_fault`, never guessed at.
"""

import base64
import binascii
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from megatron_mimo.config import ConfigError
from megatron_mimo.judge.preparation import contest_test, mbpp_tests
from megatron_mimo.judge.request import Test
from megatron_mimo.reward.boxed import boxed_answer
from megatron_mimo.rl.problems.problem import Problem, read_records

MAX_TESTS_BYTES = 256 << 20
"""Unpacked size of one problem's private tests: a compressed field must not fill the memory."""


def gsm8k(place: str, record: dict[str, Any]) -> Problem:
    """`question`, `answer` whose last line is `#### 42`."""
    _, mark, answer = record["answer"].rpartition("####")
    if not mark:
        raise ValueError("the answer has no line with ####")
    return Problem(id=place, prompt=record["question"], kind="math", answer=answer.strip(), source="gsm8k")


def math(place: str, record: dict[str, Any]) -> Problem:
    """`problem` (or `question`), and `answer`, or `solution` with the answer in its last box."""
    answer = record.get("answer")
    if answer is None:
        answer = boxed_answer(record["solution"])
        if answer is None:
            raise ValueError("neither an answer nor a boxed one in the solution")
    prompt = record["problem"] if "problem" in record else record["question"]
    identifier = str(record.get("unique_id") or record.get("id") or place)
    return Problem(id=identifier, prompt=prompt, kind="math", answer=str(answer), source="math")


def mbpp(place: str, record: dict[str, Any]) -> Problem:
    """`text` (or `prompt`), `test_list` of asserts, `test_setup_code` (or `test_imports`), `code`."""
    tests = mbpp_tests(record, challenges=True)
    asked = record["text"] if "text" in record else record["prompt"]
    # Without an example nobody can know the function's name.
    prompt = f"{asked}\nYour code should satisfy this test:\n{record['test_list'][0]}" if record["test_list"] else asked
    identifier = f"mbpp/{record.get('task_id', place)}"
    return Problem(id=identifier, prompt=prompt, kind="code", tests=tests, golden=record.get("code", ""), source="mbpp")


def livecodebench(place: str, record: dict[str, Any]) -> Problem:
    """`question_content`, `starter_code`, `public_test_cases`, `private_test_cases`, `metadata` with `func_name`."""
    metadata = _json(record.get("metadata") or {})
    cases = [*_json(record["public_test_cases"]), *private_cases(record.get("private_test_cases") or [])]
    tests = [_case(case, metadata.get("func_name")) for case in cases]
    starter = record.get("starter_code") or ""
    ending = f"\n\nUse this starter code:\n```python\n{starter}\n```" if starter.strip() else ""
    identifier = str(record.get("question_id") or place)
    prompt = record["question_content"] + ending
    return Problem(id=identifier, prompt=prompt, kind="code", tests=tests, source="livecodebench")


def native(place: str, record: dict[str, Any]) -> Problem:
    """This project's own form."""
    import msgspec

    return msgspec.convert(record, Problem)


def _case(case: dict[str, Any], function: str | None) -> Test:
    is_call = case.get("testtype", "stdin") != "stdin"
    if is_call and not function:
        raise ValueError("a call-based test without metadata.func_name")
    return contest_test(case["input"], case["output"], function if is_call else None)


def private_cases(field: Any) -> list[dict[str, Any]]:
    """Test cases as a list, as JSON, or as base64 of zlib of JSON. Pickle, which some files hold, is refused."""
    if not isinstance(field, str):
        return field
    try:
        return json.loads(field)
    except ValueError:
        pass
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(field, validate=True), MAX_TESTS_BYTES)
        if unpacker.unconsumed_tail:
            raise ValueError(f"private tests of more than {MAX_TESTS_BYTES} bytes")
        return json.loads(data)
    except (binascii.Error, zlib.error, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            "private tests are neither JSON nor zlib of JSON (pickled ones are never loaded: convert them to JSON)"
        ) from error


def _json(field: Any) -> Any:
    return json.loads(field) if isinstance(field, str) else field


FORMATS: dict[str, Callable[[str, dict[str, Any]], Problem]] = {
    "gsm8k": gsm8k,
    "math": math,
    "mbpp": mbpp,
    "livecodebench": livecodebench,
    "native": native,
}


def read(path: Path, form: str, on_fault: Callable[[str, str], None]) -> Iterator[Problem]:
    """Problems of a JSONL file; `on_fault(place, why)` for each record that is none. Raises ConfigError, UserError."""
    if form not in FORMATS:
        raise ConfigError("format", form, f"one of {', '.join(FORMATS)}")
    for place, record in read_records(path):
        try:
            yield FORMATS[form](place, record)
        except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
            on_fault(place, f"{type(error).__name__}: {error}")
