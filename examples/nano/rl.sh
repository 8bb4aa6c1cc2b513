#!/usr/bin/env bash
# RL of MiMo-nano: problems, a policy that is right now and then, and RL that makes it right more often, with held-out
# pass@1 before, between and after. Finished steps are kept when it is run again; a run that was cut off continues.
#   examples/nano/rl.sh [RUN] [BASE]
# RUN holds everything that is made (default runs/nano); BASE is a run with data/ and pretrain/ as
# examples/nano/quickstart.sh leaves them (default: RUN). BIN is the folder of megatron-mimo (default .venv/bin).
source "$(dirname "$0")/common.sh"

run=${1:-runs/nano}
base=${2:-$run}
tokenizer=$base/data/tokenizer

step "1/3 problems of graded difficulty, held-out ones apart; conversations with careless and lazy answers"
mimo nano-problems "$run/problems"
mimo nano-chat "$run/chat"

step "2/3 the policy to start from: the base model, fine-tuned on these conversations"
mimo sft examples/nano/sft_for_rl.yaml --nproc 2 \
    output_dir="$run/rl_start" start.checkpoint="$base/pretrain/checkpoints" \
    data.sources.0.path="$run/chat/rl_start.jsonl" data.tokenizer="$tokenizer" data.prepared="$run/chat/rl_start"

step "3/3 RL: one trainer rank, one vLLM engine, Math-Verify and the judge"
mimo rl examples/nano/rl.yaml output_dir="$run/rl" start.checkpoint="$run/rl_start/checkpoints" \
    data.tokenizer="$tokenizer" data.train="[$run/problems/train_math.jsonl#500, $run/problems/train_code.jsonl]" \
    data.valid="[$run/problems/valid_math.jsonl, $run/problems/valid_code.jsonl]"

end_step
echo
echo "report: $run/rl/report.html"
