#!/usr/bin/env bash
# Every form of drafts on MiMo-nano, measured in one table: the MTP layer as it is, used recursively and in copies; both
# fine-tuned, on given answers and on the model's own; and a draft vocabulary. Finished steps are kept when it is run again.
#   examples/nano/draft.sh [RUN] [key=value ...]
# RUN is a run with data/, chat/, sft/ and sft_hf/ as examples/nano/quickstart.sh leaves them (default runs/nano); what is
# made goes to RUN/draft. key=value overrides examples/nano/draft.yaml in every training: model.num_layers=12.
# SEEDS="1 2 3" repeats the trainings; PROMPTS is the number of training prompts (default 3000); BIN is the folder of
# megatron-mimo (default .venv/bin).
source "$(dirname "$0")/common.sh"

run=runs/nano
if [ $# -gt 0 ] && [[ $1 != *=* ]]; then run=$1; shift; fi
overrides=("$@")
draft=$run/draft tokenizer=$run/data/tokenizer
read -ra seeds <<< "${SEEDS:-1}"

settings() { # FORM
    case $1 in
        copies) echo "model.mtp_num_layers=3 start.train=new_mtp_layers" ;;
        recursive) echo "model.mtp_num_layers=1 model.mtp_recursive_steps=3 mtp_step_decay=0.6 start.train=mtp_layers" ;;
    esac
}

train() { # NAME FORM ANSWERS.jsonl [key=value ...]: RUN/sft -> RUN/draft/NAME, and its export RUN/draft/NAME/hf
    local form
    read -ra form <<< "$(settings "$2")"
    mimo sft examples/nano/draft.yaml "${form[@]}" output_dir="$draft/$1" start.checkpoint="$run/sft/checkpoints" \
        data.sources.0.path="$3" data.tokenizer="$tokenizer" data.prepared="$draft/$1/prepared" \
        ${overrides[@]+"${overrides[@]}"} "${@:4}" --nproc 2
    export_to "$draft/$1" "$draft/$1/hf" "$tokenizer"
}

step "1/6 prompts, and the answers that the corpus gives"
mkdir -p "$draft"
head -n "${PROMPTS:-3000}" "$run/chat/train.jsonl" > "$draft/given.jsonl"

step "2/6 the model's own answers to the same prompts"
mimo self-distill "$draft/given.jsonl" --model "$run/sft_hf" --output "$draft/own" --temperature 0 --max-new-tokens 256

step "3/6 the MTP layer as fine-tuning left it: in three copies, and to be used recursively"
models=()
for form in copies recursive; do
    train "$form-untrained" "$form" "$draft/given.jsonl" learning_rate=0 max_steps=1
    models+=("$form, untrained=$draft/$form-untrained/hf")
done

step "4/6 both forms, trained on given answers and on the model's own"
for seed in "${seeds[@]}"; do
    for form in copies recursive; do
        train "$form-given-$seed" "$form" "$draft/given.jsonl" seed="$seed"
        train "$form-own-$seed" "$form" "$draft/own/answers.jsonl" seed="$seed"
        models+=("$form, given $seed=$draft/$form-given-$seed/hf" "$form, own $seed=$draft/$form-own-$seed/hf")
    done
done

step "5/6 a draft vocabulary for the forms trained on the model's own answers"
for form in copies recursive; do
    small=$draft/$form-own-${seeds[0]}/hf_vocabulary
    rm -rf "$small"
    cp -r "$draft/$form-own-${seeds[0]}/hf" "$small"
    mimo draft-vocabulary "$small" --size 256 --texts "$draft/own/answers.jsonl"
    models+=("$form, own ${seeds[0]}, 256 tokens=$small")
done

step "6/6 all of them on held-out prompts, a prompt at a time, three drafts a step"
mimo compare-drafts "${models[@]}" --prompts "$run/chat/heldout.jsonl" --output "$draft/compared.json"

end_step
echo
echo "figures: $draft/compared.json"
