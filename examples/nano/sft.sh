#!/usr/bin/env bash
# From a base checkpoint to numbers: generated conversations, fine-tuning on two processes, export, evaluation of base
# and tuned model on held-out questions through vLLM, paired comparison. Finished steps are kept when it is run again.
#   examples/nano/sft.sh [RUN] [BASE]
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

newest() { find "$1/checkpoints" -maxdepth 1 -name 'step_????????' | sort | tail -n 1; }

export_to() { # CHECKPOINT FOLDER
    if [ -d "$2" ] && [ "$(cat "$2/.checkpoint" 2>/dev/null)" = "$1" ]; then
        echo "$2 is up to date"
    else
        rm -rf "$2"
        $bin/python tools/convert_checkpoint.py export --megatron-path "$1" --hf-path "$2" --tokenizer "$tokenizer"
        echo "$1" > "$2/.checkpoint"
    fi
}

evaluate() { # NAME MODEL QUESTIONS [key=value ...]
    $bin/python tools/evaluate.py examples/nano/evaluate_sft.yaml --model "$2" --output "$run/evaluation/$1" \
        model_name="$1" tasks.0.path="$run/chat/$3" "${@:4}"
}

step "1/5 conversations: arithmetic in many wordings, worked in a think block; held-out problems apart"
$bin/python -m megatron_mimo.data.chat.nano "$run/chat"

step "2/5 fine-tuning: one epoch over 6,000 conversations, two processes"
$bin/torchrun --nproc-per-node 2 --master-port "${MASTER_PORT:-29500}" -m megatron_mimo.sft examples/nano/sft.yaml \
    output_dir="$run/sft" start.checkpoint="$base/pretrain/checkpoints" \
    data.sources.0.path="$run/chat/train.jsonl#6000" data.tokenizer="$tokenizer" data.prepared="$run/chat/prepared"

step "3/5 export of base and tuned model to Hugging Face format"
export_to "$(newest "$base/pretrain")" "$run/base_hf"
export_to "$(newest "$run/sft")" "$run/sft_hf"

step "4/5 evaluation on held-out questions: the base in the form of its corpus, the tuned model in the chat template"
evaluate base "$run/base_hf" heldout_corpus.jsonl generation.template=plain
evaluate tuned "$run/sft_hf" heldout.jsonl

step "5/5 paired comparison, question by question"
$bin/python tools/evaluate.py compare "$run/evaluation/base" "$run/evaluation/tuned" \
    --output "$run/evaluation/base-tuned.html"

step "done"
echo "answers: $run/evaluation/tuned/report/index.html"
echo "model:   $run/sft_hf"
