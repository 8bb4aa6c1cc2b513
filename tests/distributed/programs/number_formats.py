"""Several runs of the real program one after the other: the job list's [MEGATRON_MIMO_CPU_BF16, arguments] each."""

import json
import os
import sys
from pathlib import Path


def main(jobs: list[tuple[str, list[str]]]) -> None:
    from megatron_mimo.pretrain import main as pretrain

    for switch, arguments in jobs:
        os.environ["MEGATRON_MIMO_CPU_BF16"] = switch
        assert pretrain(arguments) == 0, (switch, arguments)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
