"""Raw problems through every command of the curation; `python benchmarks/curation.py` does the same with 2,000."""

import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from megatron_mimo.rl.problems.problem import read_problems

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import curation

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap"),
]


def test_every_planted_problem_goes_for_its_reason_and_no_other(tmp_path: Path) -> None:
    raw = curation.make_raw(100)
    # An endless program takes the judge's six seconds, and nothing else differs.
    endless = [record for record in raw.code if record["task_id"].startswith("endless")]
    raw.code = [record for record in raw.code if record not in endless]
    for record in endless:
        del raw.reasons[f"mbpp/{record['task_id']}"]
    final = curation.run_commands(raw, tmp_path, num_rollouts=4, slots=2)
    assert curation.differences(raw, tmp_path, final) == []
    assert len(set(raw.reasons.values())) == 10
    kinds = Counter(problem.kind for problem in read_problems(final))
    assert kinds["math"] > 50 and kinds["code"] > 8
    assert all(problem.pass_rate is not None for problem in read_problems(final))
