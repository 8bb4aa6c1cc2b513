#!/usr/bin/env bash
# The whole chain on a laptop: environment, corpus, three-stage pre-training on two processes, export to Hugging Face,
# vLLM with MTP drafting, evaluation against baselines, report. Finished steps are kept when it is run again.
set -euo pipefail
cd "$(dirname "$0")/../.."

run=${1:-runs/nano}
data=$run/data
training=$run/pretrain
model=$run/hf

step() { printf '\n== %s (%d s so far)\n' "$1" "$SECONDS"; }

step "1/6 environment"
tools/setup_environment.sh
bin=.venv/bin
export PYTHONWARNINGS=ignore HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

step "2/6 corpus: text and code of this Python installation, generated arithmetic -> tokenizer and .bin/.idx"
$bin/python tools/preprocess_data.py examples/nano/data.yaml output_dir="$data"

step "3/6 pre-training: three stages, megatron-core on two processes"
$bin/torchrun --nproc-per-node 2 --master-port "${MASTER_PORT:-29500}" -m megatron_mimo.pretrain \
    examples/nano/pretrain.yaml output_dir="$training" data.path="$data" data.tokenizer="$data/tokenizer"

step "4/6 export the newest checkpoint to Hugging Face format"
checkpoint=$(find "$training/checkpoints" -maxdepth 1 -name 'step_????????' | sort | tail -n 1)
if [ -d "$model" ] && [ "$(cat "$model/.checkpoint" 2>/dev/null)" = "$checkpoint" ]; then
    echo "$model is up to date"
else
    rm -rf "$model"
    $bin/python tools/convert_checkpoint.py export --megatron-path "$checkpoint" --hf-path "$model" --tokenizer "$data/tokenizer"
    echo "$checkpoint" > "$model/.checkpoint"
fi

step "5/6 evaluation: bits per byte beside Kneser-Ney, gzip and zstd; arithmetic and MTP acceptance through vLLM"
$bin/python tools/evaluate_pretraining.py --model "$model" --data "$data" --output "$training/evaluation.json"
$bin/python tools/report.py "$training"

step "6/6 serving: OpenAI-compatible server with MTP speculative decoding, one request"
$bin/python tools/serve.py "$model" --check

step "done"
echo "report:     $training/report.html"
echo "model:      $model  (serve it: $bin/python tools/serve.py $model)"
echo "TensorBoard: $bin/tensorboard --logdir $training/tensorboard"
