#!/usr/bin/env bash
# The presets `base` and `report` at nano size: every task whose files are there, the first problems of each.
#   examples/nano/evaluate.sh DATA [RUN] [LIMIT]
# DATA is a folder of benchmark files; RUN has hf/ (base) and sft_hf/ (chat) as examples/nano/quickstart.sh and
# examples/nano/sft.sh leave them (default runs/nano); LIMIT is the number of problems of each task (default 10). BIN is
# the folder of megatron-mimo (default .venv/bin). Run again after an interruption: no answer is asked for twice.
if [ $# -lt 1 ]; then
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
data=$(realpath "$1")
source "$(dirname "$0")/common.sh"

run=${2:-runs/nano}
limit=${3:-10}

presets() { # NAME MODEL
    mimo evaluate --preset "$1" --model "$2" --data "$data" --output "$run/evaluation/$1" \
        skip_missing=true limit="$limit" generation.max_concurrent_requests=32
}

step "1/2 preset base: 29 rows of the report's Table 1, those whose files are in $data"
presets base "$run/hf"

step "2/2 preset report: the trained model as a chat"
presets report "$run/sft_hf"

end_step
echo
echo "answers: $run/evaluation/base/report/index.html"
echo "         $run/evaluation/report/report/index.html"
