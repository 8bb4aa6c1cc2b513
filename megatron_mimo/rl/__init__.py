"""RL post-training of the report: prompts, advantages, policy loss, and the Seamless Rollout Engine."""
