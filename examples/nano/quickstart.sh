#!/usr/bin/env bash
# shellcheck disable=SC2154 # $bin is common.sh's
# The whole chain on a laptop: environment, corpus, forecast, three-stage pre-training on two processes, fine-tuning on
# conversations, export to Hugging Face, evaluation against baselines, serving in vLLM with MTP drafting, chat, report.
#   ./examples/nano/quickstart.sh [--run FOLDER] [key=value ...]
# FOLDER holds everything that is made (default: $RUN, or runs/nano). key=value overrides examples/nano/pretrain.yaml:
# seed=7 precision.dtype=fp32 stages.0.tokens=1e6. Finished steps are kept when it is run again. BIN is the folder of
# megatron-mimo (default: .venv/bin, which is made).
source "$(dirname "$0")/common.sh"

run=${RUN:-runs/nano} overrides=() for_sft=() places=0
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '3,/^source/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
        --run) run=${2:?--run needs a folder}; shift ;;
        --run=*) run=${1#--run=} ;;
        output_dir=* | data.path=* | data.tokenizer=*)
            echo "$1: every folder of the quick start lies in one; name it with --run FOLDER" >&2; exit 2 ;;
        *=*) overrides+=("$1") ;;
        -*) echo "$1 is no option: ./examples/nano/quickstart.sh [--run FOLDER] [key=value ...]" >&2; exit 2 ;;
        *) run=$1 places=$((places + 1)) ;;
    esac
    # Fine-tuning must build the same model on the same machine.
    case $1 in model.*=* | precision.*=* | parallel.*=* | num_threads=* | seed=*) for_sft+=("$1") ;; esac
    shift
done
if [ "$places" -gt 1 ]; then echo "one folder at most, then key=value" >&2; exit 2; fi

data=$run/data training=$run/pretrain base=$run/hf chat=$run/sft_hf
train=(pretrain examples/nano/pretrain.yaml output_dir="$training" data.path="$data" data.tokenizer="$data/tokenizer")
train+=(${overrides[@]+"${overrides[@]}"})

step "1/8 environment: the packages that requirements/cpu.txt names, in .venv"
if [ "$bin" = .venv/bin ]; then tools/setup_environment.sh; fi
mimo "${train[@]}" --print-config > /dev/null # a wrong key ends it here, not after the corpus

step "2/8 corpus: text and code of this Python installation, generated arithmetic -> tokenizer and .bin/.idx"
mimo data examples/nano/data.yaml output_dir="$data"

# Beside pre-training, roughly: fine-tuning takes FINE_TUNING_PERCENT of its time (the ratio of their tokens); export,
# evaluation and serving, mostly starts of programs, take REST_SECONDS where the forecast's takes START_SECONDS to start.
FINE_TUNING_PERCENT=20 REST_SECONDS=170 START_SECONDS=12

forecast_rest() { # FILE: what `pretrain --forecast` said
    awk -v share=$FINE_TUNING_PERCENT -v rest=$REST_SECONDS -v start=$START_SECONDS '
        function words(s) { return s < 60 ? sprintf("%d s", s) : sprintf("%d min", s / 60 + 0.5) }
        /start-up/ { for (i = 1; i < NF; i++) here += $i * ($(i + 1) == "min" ? 60 : $(i + 1) == "s") }
        /^forecast:/ { sub(/.*\(/, ""); training = $1 }
        END {
            if (!training || !here) { print "no forecast: its program said nothing"; exit }
            tuning = training * share / 100; others = rest * here / start; total = training + tuning + others
            printf "forecast of all steps from here on: %s (pre-training %s, fine-tuning %s, the rest %s)\n",
                words(total), words(training), words(tuning), words(others)
            print total > "/dev/stderr"
        }' "$1"
}

step "3/8 forecast: a few real steps of each stage, to say how long the rest takes here"
forecast=""
settings="$training ${overrides[*]-}"
if [ "$(cat "$run/.trained" 2>/dev/null)" = "$settings" ] && [ -n "$(newest "$training")" ]; then
    echo "the training is finished already"
else
    rm -f "$run/.trained"
    mimo "${train[@]}" --nproc 2 --forecast | tee "$run/forecast.txt"
    forecast_rest "$run/forecast.txt" 2> "$run/.forecast"
    forecast=$(cat "$run/.forecast") forecast_start=$SECONDS

    step "4/8 pre-training: three stages, megatron-core on two processes"
    mimo "${train[@]}" --nproc 2
    echo "$settings" > "$run/.trained"
fi

step "5/8 fine-tuning on conversations, so that it answers questions"
mimo nano-chat "$run/chat"
fine_tune "$run" "$run" ${for_sft[@]+"${for_sft[@]}"}

step "6/8 export to Hugging Face format: the base model and the chat model"
export_to "$training" "$base" "$data/tokenizer"
export_to "$run/sft" "$chat" "$data/tokenizer"

step "7/8 evaluation of the base model: bits per byte beside Kneser-Ney, gzip and zstd; arithmetic and drafts in vLLM"
is_current "$training/evaluation.json" "$base" ||
    mimo evaluate-pretraining --model "$base" --data "$data" --output "$training/evaluation.json"

step "8/8 chat: the chat model in vLLM's OpenAI-compatible server with MTP drafting, asked sums in three wordings"
is_current "$training/chat.json" "$chat" || mimo chat-check "$chat" --output "$training/chat.json"
mimo report "$training"
end_step

echo
if [ -n "$forecast" ]; then
    echo "forecast: $(duration "${forecast%.*}"); took: $(duration $((SECONDS - forecast_start)))"
fi
cat << END
report:       $training/report.html (open it in a browser: results first, then curves)
chat:         $bin/megatron-mimo chat $chat        and type, for example: What is 47+38?
serve:        $bin/megatron-mimo serve $chat       (the base model: $base)
TensorBoard:  $bin/tensorboard --logdir $training/tensorboard
END
