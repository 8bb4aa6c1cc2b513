#!/usr/bin/env bash
# RL of MiMo-nano: problems, a policy that is right now and then, and RL that makes it right more often, with held-out
# pass@1 before, between and after. Finished steps are kept when it is run again; a run that was cut off goes on.
#   examples/nano/rl.sh [RUN] [BASE]
# RUN holds everything that is made (default runs/nano); BASE is a run with data/ and pretrain/ as
# examples/nano/quickstart.sh leaves them (default: RUN). BIN is the folder of python and torchrun (default .venv/bin).
set -euo pipefail
cd "$(dirname "$0")/../.."

run=${1:-runs/nano}
base=${2:-$run}
tokenizer=$base/data/tokenizer
bin=${BIN:-.venv/bin}
export PYTHONWARNINGS=ignore HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

step() { printf '\n== %s (%d s so far)\n' "$1" "$SECONDS"; }

step "1/3 problems of graded difficulty, held-out ones apart; conversations with careless and lazy answers"
$bin/python -m megatron_mimo.rl.problems.nano "$run/problems"
$bin/python -m megatron_mimo.data.chat.nano "$run/chat"

step "2/3 the policy to start from: the base model, fine-tuned on these conversations"
$bin/torchrun --nproc-per-node 2 --master-port "${MASTER_PORT:-29500}" -m megatron_mimo.sft \
    examples/nano/sft_for_rl.yaml output_dir="$run/rl_start" start.checkpoint="$base/pretrain/checkpoints" \
    data.sources.0.path="$run/chat/rl_start.jsonl" data.tokenizer="$tokenizer" data.prepared="$run/chat/rl_start"

step "3/3 RL: one trainer rank, one vLLM engine, Math-Verify and the judge"
$bin/python -m megatron_mimo.rl examples/nano/rl.yaml output_dir="$run/rl" start.checkpoint="$run/rl_start/checkpoints" \
    data.tokenizer="$tokenizer" data.train="[$run/problems/train_math.jsonl#500, $run/problems/train_code.jsonl]" \
    data.valid="[$run/problems/valid_math.jsonl, $run/problems/valid_code.jsonl]"

step "done"
echo "report: $run/rl/report.html"
