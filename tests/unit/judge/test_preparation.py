"""What programs are given before they are judged, alike in RL and evaluation."""

import builtins

import pytest

from megatron_mimo.config import ConfigError
from megatron_mimo.config.rl import RewardConfig
from megatron_mimo.eval import lcb
from megatron_mimo.eval.tasks.livecodebench import ContestTests
from megatron_mimo.eval.tasks.programs import Mbpp
from megatron_mimo.judge import AssertTest, CallTest, JudgeConfig, StdioTest
from megatron_mimo.judge.compare import same_output
from megatron_mimo.judge.prelude import prelude
from megatron_mimo.judge.preparation import builtins_under_test, solution_for
from megatron_mimo.judge.request import Limits
from megatron_mimo.judge.server import check_address
from megatron_mimo.rl.problems.readers import livecodebench, mbpp


def test_the_prelude_is_what_importing_everything_gives() -> None:
    """Each name means what it means after LiveCodeBench's starred imports."""
    names = "List gcd inf pow open sum Counter deque heappush bisect count reduce add sqrt datetime time choice mean"
    ours: dict = {}
    exec(prelude(names), ours)
    theirs: dict = {}
    exec(lcb.IMPORTS, theirs)
    for name in names.split():
        assert ours.get(name, getattr(builtins, name, None)) is theirs[name], name


def test_nothing_is_imported_for_a_source_that_needs_nothing() -> None:
    assert "from" not in prelude("print(1)")


@pytest.mark.parametrize(
    ("asserts", "names"),
    [
        (["assert sum(10, 15) == 6", "assert sum(4, 8) == 7"], ["sum"]),
        (["assert sorted(f([2, 1])) == [1, 2]"], []),
        (["assert set(sum(1, 2)) == {3}", "assert sum(1, 1) == 2"], ["sum"]),
        (["assert math.isclose(pow(2, 3), 8)"], []),
        (["assert ("], []),
        ([], []),
    ],
)
def test_a_function_named_like_a_builtin_is_known_without_a_solution(asserts: list[str], names: list[str]) -> None:
    assert builtins_under_test(asserts) == names


def test_asserts_bring_their_own_imports() -> None:
    assert solution_for("x", [AssertTest(program="")]).prelude == "none"
    assert solution_for("x", [CallTest(function="f", arguments=[], expected=1)]).prelude == "usual"
    assert solution_for("x", [StdioTest(stdin="", stdout="")], "cpp").prelude == "none"


def test_rl_and_evaluation_make_the_same_tests() -> None:
    record = {
        "task_id": 126, "text": "Sum of common divisors.", "code": "def sum(a, b):\n    return 6",
        "test_list": ["assert sum(10, 15) == 6"], "test_setup_code": "import math", "test_imports": ["import re"],
    }  # fmt: skip
    theirs = Mbpp("mbpp", ("mbpp",), Limits()).problem(record, 1)
    assert theirs is not None
    assert mbpp("1", record).tests == theirs.reference.tests
    case = {"input": "[1, 2]\n3", "output": "6", "testtype": "functional"}
    contest = {"question_content": "?", "public_test_cases": [case], "metadata": {"func_name": "f"}}
    assert livecodebench("1", contest).tests == ContestTests([case["input"]], [case["output"]], "f").judge_tests()


@pytest.mark.parametrize(
    ("printed", "wanted", "equal"),
    [
        ("1.50 2\n", "1.5 2.0", True),
        (" a\nb ", "a\nb", True),
        ("1 2", "1\n2", False),
        ("1e2", "100", True),
        ("x", "y", False),
    ],
)
def test_decimals(printed: str, wanted: str, equal: bool) -> None:
    assert same_output(printed.encode(), wanted.encode(), "decimals", None) is equal


def test_a_server_that_others_reach_needs_a_token() -> None:
    for host in ("0.0.0.0", "::", "10.0.0.1", "judge.example"):
        with pytest.raises(ConfigError, match="TOKEN"):
            check_address(host, "")
        check_address(host, "secret")
    for host in ("127.0.0.1", "::1", "localhost"):
        check_address(host, "")


def test_the_local_judge_of_rl_takes_packages(tmp_path) -> None:
    settings = RewardConfig(judge_slots=3, judge=JudgeConfig(python_packages=(str(tmp_path),)))
    assert settings.local_judge.num_slots == 3
    assert settings.local_judge.python_packages == (str(tmp_path),)
