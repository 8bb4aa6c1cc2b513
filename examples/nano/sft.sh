#!/usr/bin/env bash
# From a base checkpoint to numbers: generated conversations, fine-tuning on two processes, export, evaluation of base
# and tuned model on held-out questions through vLLM, paired comparison. Finished steps are kept when it is run again.
#   examples/nano/sft.sh [RUN] [BASE] [key=value ...]
# RUN holds everything that is made (default runs/nano); BASE is a run with data/ and pretrain/ as
# examples/nano/quickstart.sh leaves them (default: RUN). key=value overrides examples/nano/sft.yaml, for example
# learning_rate=1e-3. BIN is the folder of megatron-mimo (default .venv/bin).
source "$(dirname "$0")/common.sh"

run=runs/nano
if [ $# -gt 0 ] && [[ $1 != *=* ]]; then run=$1; shift; fi
base=$run
if [ $# -gt 0 ] && [[ $1 != *=* ]]; then base=$1; shift; fi
tokenizer=$base/data/tokenizer

evaluate() { # NAME MODEL QUESTIONS [key=value ...]
    mimo evaluate examples/nano/evaluate_sft.yaml --model "$2" --output "$run/evaluation/$1" \
        model_name="$1" tasks.0.path="$run/chat/$3" "${@:4}"
}

step "1/5 conversations: arithmetic in many wordings, worked in a think block; held-out problems apart"
mimo nano-chat "$run/chat"

step "2/5 fine-tuning: one epoch over 4,000 conversations, two processes"
fine_tune "$run" "$base" "$@"

step "3/5 export of base and tuned model to Hugging Face format"
export_to "$base/pretrain" "$run/hf" "$tokenizer"
export_to "$run/sft" "$run/sft_hf" "$tokenizer"

step "4/5 evaluation on held-out questions: the base in the form of its corpus, the tuned model in the chat template"
evaluate base "$run/hf" heldout_corpus.jsonl generation.template=plain
evaluate tuned "$run/sft_hf" heldout.jsonl

step "5/5 paired comparison, question by question"
mimo compare "$run/evaluation/base" "$run/evaluation/tuned" \
    --output "$run/evaluation/base-tuned.html"

end_step
echo
echo "answers: $run/evaluation/tuned/report/index.html"
echo "model:   $run/sft_hf"
