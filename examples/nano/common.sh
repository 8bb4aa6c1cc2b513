# shellcheck shell=bash
# What quickstart.sh, sft.sh and rl.sh share; each sources this file first. Sets the folder, the programs ($bin), the
# environment, and what is said when a script stops: the step, and the command that continues.
set -euo pipefail
again=("$0" "$@")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if [ -n "${BIN:-}" ]; then
    bin=$BIN
elif [ -f tools/setup_environment.sh ]; then
    bin=.venv/bin
else # a copy that `megatron-mimo examples` has made
    bin=$(dirname "$(command -v megatron-mimo)")
fi
export PYTHONWARNINGS=ignore HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

title="" started=0

step() { # TITLE: ends the step before it, with the time that it took
    end_step
    title=$1 started=$SECONDS
    printf '\n== %s\n' "$title"
}

end_step() {
    if [ -n "$title" ]; then printf '   (%s)\n' "$(duration $((SECONDS - started)))"; fi
    title=""
}

duration() { # SECONDS
    if [ "$1" -lt 60 ]; then echo "$1 s"; else echo "$(($1 / 60)) min $(($1 % 60)) s"; fi
}

stopped() { # EXIT_CODE, on leaving the script
    if [ "$1" != 0 ] && [ -n "$title" ]; then
        printf '\nstopped in "%s" (exit code %s); what is finished is kept. Continue with:  %s\n' \
            "$title" "$1" "$(printf '%q ' "${again[@]}")" >&2
    fi
}
trap 'stopped $?' EXIT
trap 'exit 130' INT # a program that saves and ends in order on Ctrl-C must not let the script go on

mimo() { "$bin/megatron-mimo" "$@"; }

newest() { find "$1/checkpoints" -maxdepth 1 -name 'step_????????' 2>/dev/null | sort | tail -n 1; } # RUN_FOLDER

export_to() { # RUN_FOLDER MODEL_FOLDER TOKENIZER: of the newest checkpoint
    local checkpoint
    checkpoint=$(newest "$1")
    if [ -z "$checkpoint" ]; then
        echo "there is no checkpoint in $1" >&2
        return 2
    elif [ -d "$2" ] && [ "$(cat "$2/.checkpoint" 2>/dev/null)" = "$checkpoint" ]; then
        echo "$2 is up to date"
    else
        rm -rf "$2"
        mimo export "$checkpoint" "$2" --tokenizer "$3"
        echo "$checkpoint" > "$2/.checkpoint"
    fi
}

is_current() { # FILE MODEL_FOLDER: whether the file was made after the model
    [ "$1" -nt "$2/.checkpoint" ] && echo "$1 is up to date"
}

fine_tune() { # RUN BASE [key=value ...]: BASE/pretrain on RUN/chat -> RUN/sft
    mimo sft examples/nano/sft.yaml output_dir="$1/sft" start.checkpoint="$2/pretrain/checkpoints" \
        data.sources.0.path="$1/chat/train.jsonl#4000" data.tokenizer="$2/data/tokenizer" \
        data.prepared="$1/chat/prepared" "${@:3}" --nproc 2
}
