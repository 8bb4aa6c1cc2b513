"""What the report claims, one claim a line, and the command of this project that measures it.

    megatron-mimo claims             the list
    megatron-mimo claims 10          one claim: what is measured here, and what that cannot show

A command shows what holds at the size and on the machine where it runs; nothing here is a result.
"""

import argparse
from dataclasses import dataclass

from megatron_mimo.cli.command import exit_code, parser_of
from megatron_mimo.config import UserError

NOT_YET = "no experiment yet"


@dataclass(frozen=True)
class Claim:
    """A statement of the technical report."""

    section: str
    text: str
    command: str = ""
    """Empty: nothing here measures it yet."""
    limits: str = ""
    """What the command cannot show."""


CLAIMS = (
    Claim(
        "2.1",
        "Common extractors lose mathematics and code; rule filters drop such pages, small taggers keep them.",
        "python benchmarks/data_extraction.py; python benchmarks/data_tagger.py",
        "Pages written for this project, and for the tagger no large corpus.",
    ),
    Claim("2.1", "Synthetic reasoning data can be repeated for very many epochs without overfitting."),
    Claim("2.1", "Stage 2 raises mathematics and code without harm elsewhere; stage 3 raises complex problem solving."),
    Claim("2.2", "MTP as an auxiliary loss makes the model better; a second layer in pre-training adds nothing."),
    Claim(
        "2.2",
        "Fine-tuned copies of the MTP layer are accepted at the third place more than 75 % of the time.",
        "megatron-mimo draft examples/nano/finetune_mtp.yaml; python benchmarks/mtp_decoding.py --model MODEL",
        "Nano size, on its own held-out prompts instead of AIME 2024.",
    ),
    Claim(
        "2.4.2",
        "pass@k of the base model shows its potential.",
        "megatron-mimo evaluate --preset base --model MODEL --data BENCHMARKS",
        "Only with the published weights, or others of that size.",
    ),
    Claim("3.3", "Without the KL term the policy is free and stable; clip-higher keeps the entropy up."),
    Claim(
        "3.3.1",
        "Rewards by test difficulty beat all-or-nothing on hard code problems.",
        "python benchmarks/rl_learning.py --arms reward.scheme=strict reward.scheme=soft reward.scheme=all_or_nothing",
        "Nano size and generated programs.",
    ),
    Claim(
        "3.3.2",
        "Removing solved problems makes updates unstable; the easy-data pool keeps efficiency and stability.",
        "python benchmarks/easy_pool.py",
        "A model of learning, no training: efficiency, not stability.",
    ),
    Claim(
        "3.4.1",
        "The Seamless Rollout Engine reaches Tables 2 and 3 and does not shift response lengths.",
        "python benchmarks/rollout_sim.py; python benchmarks/rollout_length_bias.py",
        "Virtual time; lengths and speeds are not published and are varied.",
    ),
    Claim(
        "3.6", "RL after light fine-tuning for format falls behind RL from the base; heavy fine-tuning ends highest."
    ),
    Claim("3.6", "Late in RL from the base, code keeps improving while mathematics declines."),
    Claim("3.6", "A penalty on mixed languages does not solve mixing and invites hacking."),
    Claim("3.6", "More fine-tuning data helps, and RL after it still helps."),
    Claim("3.6", "On-policy RL is stable; raising the length budget helps steadily."),
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
    lines = [
        f"{number}. {claim.text}",
        f"   report: section {claim.section}",
        f"   measured by: {claim.command or NOT_YET}",
    ]
    return "\n".join([*lines, *([f"   limits: {claim.limits}"] if claim.limits else [])])
