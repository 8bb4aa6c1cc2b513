"""Problem files as verl's data: one Parquet row a problem, read back by the reward manager.

megatron-mimo verl-problems train.jsonl train.parquet
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow
import pyarrow.parquet

from megatron_mimo.config import UserError
from megatron_mimo.rl.problems.problem import Problem, read_problems


def to_row(problem: Problem, index: int) -> dict[str, Any]:
    """The fields that verl's RLHFDataset knows. The reward's part is JSON text: Arrow would give every test the fields
    of all kinds of tests."""
    return {
        "data_source": problem.source or problem.kind,
        "prompt": [{"role": "user", "content": problem.prompt}],
        "ability": problem.kind,
        "reward_model": {"style": "rule", "ground_truth": msgspec.json.encode(problem).decode()},
        "extra_info": {"index": index, "id": problem.id},
    }


def from_ground_truth(text: str) -> Problem:
    """The problem of a row's `reward_model.ground_truth`. Raises msgspec.MsgspecError for anything else."""
    return msgspec.json.decode(text, type=Problem)


def write_rows(output: Path, problems: Iterable[Problem]) -> int:
    """Write the Parquet file under a temporary name until complete; returns how many."""
    rows = [to_row(problem, index) for index, problem in enumerate(problems)]
    temporary = output.with_name(output.name + ".tmp")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), temporary)
    temporary.replace(output)
    return len(rows)


def main() -> int:
    """Convert a file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    try:
        number = write_rows(arguments.output, read_problems(arguments.problems))
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{number} problems in {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
