"""The whole chain at nano size: corpus, pre-training, fine-tuning, export, evaluation, serving, report.

    megatron-mimo quickstart [--run FOLDER] [key=value ...]

In a checkout this runs examples/nano/quickstart.sh; installed by pip, its copy below the present folder, which is made
first. --run names the folder of everything that is made (default: runs/nano); key=value overrides
examples/nano/pretrain.yaml. Run again, it keeps what is finished.
"""

import os
import sys
from pathlib import Path

from megatron_mimo.cli.command import exit_code
from megatron_mimo.cli.examples import IN_PACKAGE, copy
from megatron_mimo.config import UserError

SCRIPT = Path("examples") / "nano" / "quickstart.sh"
CHECKOUT = Path(__file__).parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Become the script; returns an exit code only where it cannot be started."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    return exit_code(lambda: start(words))


def start(arguments: list[str]) -> None:
    """Replace this process by the script. Raises UserError where it cannot be put into the present folder."""
    script = own_script()
    # The script finds the programs beside this one: the same environment, whatever is on the path.
    programs = Path(sys.executable).parent
    if (programs / "megatron-mimo").is_file():
        os.environ.setdefault("BIN", str(programs))
    sys.stdout.flush()
    os.execv("/bin/bash", ["bash", str(script), *arguments])


def own_script() -> Path:
    """The checkout's script, or a copy of the package's below the present folder."""
    if not IN_PACKAGE.is_dir():
        return CHECKOUT / SCRIPT
    script = Path.cwd() / SCRIPT
    if not script.is_file():
        if script.parents[1].exists():
            raise UserError(f"{script.parents[1]} exists without nano/quickstart.sh: start in another folder")
        copy(script.parents[1])
    return script
