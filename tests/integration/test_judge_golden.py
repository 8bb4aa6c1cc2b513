"""Golden solutions of MBPP and HumanEval: the judge's verdicts equal a plain trusted run in a bare interpreter.

The data (mbpp.jsonl, HumanEval.jsonl.gz) is looked for in $MEGATRON_MIMO_BENCHMARKS or ../shared/data/benchmarks.
"""

import ast
import builtins
import gzip
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from megatron_mimo.judge import AssertTest, JudgeConfig, JudgePool, Solution
from support.patience import patience

DATA = Path(os.environ.get("MEGATRON_MIMO_BENCHMARKS", Path(__file__).parents[3] / "shared/data/benchmarks"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap"),
]


def defined_builtins(source: str) -> list[str]:
    """Functions of the golden solution that carry a builtin's name (MBPP has `sum`)."""
    names = [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    return [name for name in names if hasattr(builtins, name)]


def mbpp() -> list[tuple[str, str, list[AssertTest]]]:
    problems = []
    for line in (DATA / "mbpp.jsonl").read_text().splitlines():
        record = json.loads(line)
        setup = record.get("test_setup_code") or ""
        entry_points = defined_builtins(record["code"])
        tests = [AssertTest(program=f"{setup}\n{t}", entry_points=entry_points) for t in record["test_list"]]
        problems.append((str(record["task_id"]), record["code"], tests))
    return problems


def human_eval() -> list[tuple[str, str, list[AssertTest]]]:
    problems = []
    for line in gzip.decompress((DATA / "HumanEval.jsonl.gz").read_bytes()).splitlines():
        record = json.loads(line)
        program = f"{record['test']}\ncheck({record['entry_point']})"
        # The prompt ends inside the function; its helpers are trusted, the function itself is the solution's.
        prelude = record["prompt"] + "    pass\n"
        test = AssertTest(program=program, prelude=prelude, entry_points=[record["entry_point"]])
        problems.append((record["task_id"], record["prompt"] + record["canonical_solution"], [test]))
    return problems


PLAIN_RUN = """
import json, sys
source, *programs = sys.argv[1:]
verdicts = []
for program in programs:
    try:
        exec(compile(source + "\\n" + program + "\\n", "<test>", "exec"), {"__name__": "__main__"})
        verdicts.append(True)
    except BaseException:
        verdicts.append(False)
print()
print(json.dumps(verdicts))
"""


def plain_run(source: str, tests: list[AssertTest]) -> list[bool]:
    """Each test after a run of the source of its own, in one bare interpreter."""
    command = [sys.executable, "-I", "-c", PLAIN_RUN, source, *(test.program for test in tests)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience(60), check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("name", "load"), [("mbpp.jsonl", mbpp), ("HumanEval.jsonl.gz", human_eval)])
def test_golden_solutions(name: str, load) -> None:
    if not (DATA / name).exists():
        pytest.skip(f"no {name} in {DATA}")
    problems = load()
    with JudgePool(JudgeConfig(num_slots=2)) as pool, ThreadPoolExecutor(2) as threads:
        trusted = threads.map(lambda p: plain_run(p[1], p[2]), problems)
        judged = threads.map(lambda p: pool.judge_now(Solution(source=p[1]), p[2]), problems)
        different = [
            (identity, plain, result)
            for (identity, _, _), plain, result in zip(problems, trusted, judged, strict=True)
            if result.passed != plain
        ]
    assert not different, f"{len(different)} of {len(problems)}: {different[:20]}"
