"""Target of the entry point `verl.plugins`: importing this puts the plugin's names into verl's registries.

| name | where verl asks for it |
|---|---|
| `mimo` | `reward.reward_manager.name` |
| `mimo` | `actor_rollout_ref.actor.policy_loss.loss_mode` |
| `mimo_seamless` | `trainer.v1.trainer_mode` |

verl loads entry points in every process that imports it, and hides their errors: `python -m
megatron_mimo.rl.verl_plugin.register` shows them.
"""

from megatron_mimo.rl.verl_plugin import policy_loss, reward_manager, trainer

__all__ = ["policy_loss", "reward_manager", "trainer"]

if __name__ == "__main__":
    print("registered: reward manager mimo, policy loss mimo, trainer mode mimo_seamless")
