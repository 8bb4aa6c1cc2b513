"""What the report claims, what is shown of it here, and the command of this project that measures it.

    megatron-mimo claims             the list
    megatron-mimo claims 10          one claim: what is shown here, what measures it, and what that cannot show

A command shows what holds at the size and on the machine where it runs. docs/claims.md has the same table.
"""

import argparse
import re
from dataclasses import dataclass

from megatron_mimo.cli.command import exit_code, parser_of
from megatron_mimo.config import UserError

NOT_YET = "no experiment yet"
LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")


@dataclass(frozen=True)
class Claim:
    """A statement of the technical report."""

    section: str
    text: str
    shown: str = "Not measured."
    """What is known here, in Markdown; links are relative to docs/."""
    command: str = ""
    """Empty: nothing here measures it yet."""
    limits: str = ""
    """What the command cannot show."""

    @property
    def commands(self) -> list[str]:
        """The command lines, one after the other."""
        return [command.strip() for command in self.command.split(";") if command.strip()]


CLAIMS = (
    Claim(
        "2.1",
        "Common extractors lose mathematics and code; rule filters drop such pages, small taggers keep them.",
        "Measured on pages written for this project, and for the tagger on 215 hand-written pages: "
        "[Benchmarks](benchmarks.md#data).",
        "python benchmarks/data_extraction.py; python benchmarks/data_tagger.py",
        "Pages written for this project, and for the tagger no large corpus.",
    ),
    Claim("2.1", "Synthetic reasoning data can be repeated for very many epochs without overfitting."),
    Claim(
        "2.1",
        "Stage 2 raises mathematics and code without harm elsewhere; stage 3 raises complex problem solving.",
        "Not measured at a size where it would mean something.",
    ),
    Claim(
        "2.2",
        "MTP as an auxiliary loss makes the model better; a second layer in pre-training adds nothing.",
        "Not measured. `model.mtp_num_layers=0` trains without it.",
    ),
    Claim(
        "2.2",
        "Fine-tuned copies of the MTP layer are accepted at the third place more than 75 % of the time.",
        "The mechanism is measured at nano size: at the third place 26.3 % for plain copies, 48.0 % after fine-tuning: "
        "[Serve](serve.md).",
        "megatron-mimo draft examples/nano/finetune_mtp.yaml; python benchmarks/mtp_decoding.py --model MODEL",
        "Nano size, on its own held-out prompts instead of AIME 2024.",
    ),
    Claim(
        "2.4.2",
        "pass@k of the base model shows its potential.",
        "`megatron-mimo evaluate` computes pass@k; no 7B model has been evaluated here.",
        "megatron-mimo evaluate --preset base --model MODEL --data BENCHMARKS",
        "Only with the published weights, or others of that size.",
    ),
    Claim(
        "3.3",
        "Without the KL term the policy is free and stable; clip-higher keeps the entropy up.",
        "The nano runs have no KL term and are stable over 40 steps: [Reinforce](rl.md).",
    ),
    Claim(
        "3.3.1",
        "Rewards by test difficulty beat all-or-nothing on hard code problems.",
        "Not shown: at nano size all three schemes end equal: [Reinforce](rl.md).",
        "python benchmarks/rl_learning.py --arms reward.scheme=strict reward.scheme=soft reward.scheme=all_or_nothing",
        "Nano size and generated programs.",
    ),
    Claim(
        "3.3.2",
        "Removing solved problems makes updates unstable; the easy-data pool keeps efficiency and stability.",
        "Efficiency in simulation only.",
        "python benchmarks/easy_pool.py",
        "A model of learning, no training: efficiency, not stability.",
    ),
    Claim(
        "3.4.1",
        "The Seamless Rollout Engine is 2.29 times as fast as naive dynamic sampling (Tables 2 and 3) and does not "
        "shift response lengths.",
        "In simulation 2.15 to 2.94 times over six guesses of what is not published, and no shift of lengths. On two "
        "nano engines 1.84 times.",
        "python benchmarks/rollout_sim.py; python benchmarks/rollout_length_bias.py",
        "Virtual time; lengths and speeds are not published and are varied.",
    ),
    Claim(
        "3.6",
        "RL from the base model learns the format first; RL after light fine-tuning for format falls behind it; heavy "
        "fine-tuning ends highest.",
        "Not measured. `examples/mimo_7b/rl_zero.yaml` is the recipe.",
    ),
    Claim("3.6", "Late in RL from the base model, code keeps improving while mathematics declines."),
    Claim(
        "3.6",
        "A penalty on mixed languages does not solve mixing and invites hacking.",
        "Not measured. `reward.language_penalty` sets it; the recipe has 0.",
    ),
    Claim("3.6", "More fine-tuning data helps, and RL after it still helps."),
    Claim(
        "3.6",
        "On-policy RL is stable; raising the length budget helps steadily.",
        "Not measured. `on_policy` and `length_schedule` set it.",
    ),
)


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = parser_of(__doc__)
    found.add_argument("number", nargs="?", type=int, help="of the claim")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print the list or one claim; returns the exit code."""
    options = parser().parse_args(arguments)
    return exit_code(lambda: print(table() if options.number is None else details(options.number)))


def table() -> str:
    """A line for each claim, its command below."""
    lines = []
    for number, claim in enumerate(CLAIMS, 1):
        lines += [f"{number:>2}  ({claim.section}) {claim.text}", f"    {claim.command or NOT_YET}"]
    return "\n".join(lines)


def details(number: int) -> str:
    """Everything about one claim; raises UserError where there is none of this number."""
    if not 1 <= number <= len(CLAIMS):
        raise UserError(f"there are the claims 1 to {len(CLAIMS)}; {number} is none of them")
    claim = CLAIMS[number - 1]
    shown = LINK.sub(r"\1 (docs/\2)", claim.shown)
    lines = [
        f"{number}. {claim.text}",
        f"   report: section {claim.section}",
        f"   shown here: {shown}",
        f"   measured by: {claim.command or NOT_YET}",
    ]
    return "\n".join([*lines, *([f"   limits: {claim.limits}"] if claim.limits else [])])
