#!/usr/bin/env bash
# The report's RL recipe inside verl (docs/verl.md), with the MTP settings of verl's guide (docs/advance/mtp.md there).
#   examples/mimo_7b/verl.sh [--print] MTP TRAIN.parquet VALID.parquet [VERL_OVERRIDE ...]
# MTP is one of
#   off           MTP layers are not loaded: neither trained nor exported
#   load          loaded and exported as they were, not used
#   detached      trained on the rollouts, no gradient into the policy: what verl's guide recommends
#   joint         trained together with the policy, loss scaled by 0.1: changes what the policy learns
#   draft-vllm    not trained; vLLM drafts one token with it
#   draft-sglang  not trained; SGLang drafts four tokens in two steps with it
# --print writes verl's arguments, one per line, and runs nothing. JUDGES is a list of judge addresses
# (default [http://localhost:8080]), NODES and GPUS the machines (default 32 of 8).
set -euo pipefail

print=false
if [[ ${1:-} == --print ]]; then
    print=true
    shift
fi
if (($# < 3)); then
    sed -n '2,14p' "$0" | sed 's/^# \{0,1\}//'
    exit 2
fi
mtp=$1 train=$2 valid=$3
shift 3

engine=vllm
prefix=actor_rollout_ref.model.mtp
case $mtp in
off) settings=(enable=False) ;;
load) settings=(enable=True) ;;
detached) settings=(enable=True enable_train=True detach_encoder=True mtp_loss_scaling_factor=0.1) ;;
joint) settings=(enable=True enable_train=True detach_encoder=False mtp_loss_scaling_factor=0.1) ;;
draft-vllm) settings=(enable=True enable_rollout=True method=mtp num_speculative_tokens=1) ;;
draft-sglang)
    engine=sglang
    settings=(enable=True enable_rollout=True speculative_algorithm=EAGLE speculative_num_steps=2
        speculative_eagle_topk=2 speculative_num_draft_tokens=4)
    ;;
*)
    echo "MTP is $mtp: name one of off, load, detached, joint, draft-vllm, draft-sglang" >&2
    exit 2
    ;;
esac

arguments=(
    model_engine=megatron
    "${settings[@]/#/$prefix.}"
    trainer.v1.trainer_mode=mimo_seamless
    +trainer.v1.sampler.sampler_kwargs.easy_pool_alpha=0.1
    reward.reward_manager.name=mimo
    "+reward.reward_kwargs.judge_urls=${JUDGES:-[http://localhost:8080]}"
    +reward.reward_kwargs.scheme=strict
    "data.train_files=$train" "data.val_files=$valid"
    data.train_batch_size=512 data.max_prompt_length=2048 data.max_response_length=32768
    data.trust_remote_code=True
    algorithm.adv_estimator=grpo algorithm.use_kl_in_reward=False
    actor_rollout_ref.model.path=XiaomiMiMo/MiMo-7B-SFT
    actor_rollout_ref.model.trust_remote_code=True
    actor_rollout_ref.actor.policy_loss.loss_mode=mimo
    actor_rollout_ref.actor.loss_agg_mode=token-mean
    actor_rollout_ref.actor.clip_ratio_low=0.2 actor_rollout_ref.actor.clip_ratio_high=0.28
    actor_rollout_ref.actor.use_kl_loss=False actor_rollout_ref.actor.entropy_coeff=0
    actor_rollout_ref.actor.ppo_mini_batch_size=32 actor_rollout_ref.actor.ppo_epochs=1
    actor_rollout_ref.actor.use_dynamic_bsz=True actor_rollout_ref.actor.optim.lr=1e-6
    actor_rollout_ref.actor.megatron.use_mbridge=True
    actor_rollout_ref.rollout.log_prob_use_dynamic_bsz=True
    "actor_rollout_ref.rollout.name=$engine" actor_rollout_ref.rollout.n=16
    actor_rollout_ref.rollout.temperature=1.0 actor_rollout_ref.rollout.top_p=1.0
    "trainer.nnodes=${NODES:-32}" "trainer.n_gpus_per_node=${GPUS:-8}" trainer.total_training_steps=1000
    "$@"
)
if $print; then
    printf '%s\n' "${arguments[@]}"
else
    exec "${PYTHON:-python}" -m verl.trainer.main_ppo "${arguments[@]}"
fi
