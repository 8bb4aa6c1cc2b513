"""What the technical report claims, one by one, and what is shown of it here outside the studies of claims/."""

from dataclasses import dataclass

NOT_YET = "no experiment yet"


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
        "In simulation 2.18 to 2.95 times over six guesses of what is not published, and no shift of lengths. On two "
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
