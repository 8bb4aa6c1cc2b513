"""The README.md of an exported model, made from the checkpoint's run.json and the record of its run."""

from pathlib import Path
from typing import Any

from megatron_mimo.config import ModelConfig
from megatron_mimo.convert.run_record import RunRecord

CURVE_FILE = "training_curve.png"

_CARD = """---
library_name: transformers
pipeline_tag: text-generation
tags: [mimo, multi-token-prediction]
---

# {name}

A MiMo model: {layers} layers, hidden size {hidden}, {heads} attention heads in {groups} groups, vocabulary {vocab},
{mtp} multi-token prediction (MTP) layer(s).
{history}
## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(PATH, trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained(PATH, trust_remote_code=True)
inputs = tokenizer("One plus one is", return_tensors="pt")
print(tokenizer.decode(model.generate(inputs.input_ids, max_new_tokens=32)[0]))
```

`model(input_ids, output_mtp_logits=True).mtp_logits` gives the MTP layers' predictions.

With vLLM, drafting with the MTP layer:

```
vllm serve PATH --trust-remote-code --speculative-config '{{"method": "mtp", "num_speculative_tokens": 1}}'
```
{notes}
## Made with

{versions}
"""

_TRAINED = """It was trained with megatron-mimo and has seen {tokens:,} tokens in {step:,} steps;
the last stage was `{stage}`.
{start}
## Training stages

| stage | tokens | sequence length | RoPE base | mixture |
|---|---|---|---|---|
{stages}

## Training data

| source | domain | documents | tokens |
|---|---|---|---|
{sources}
{record}"""
_IMPORTED = (
    "Its weights are those of the Hugging Face folder `{name}`, converted with megatron-mimo and not trained since.\n"
)


def model_card(run: dict[str, Any], model: ModelConfig, stage_name: str, record: RunRecord) -> str:
    """Markdown text from a run.json that `export.read_settings` has accepted; `stage_name` saw the last step."""
    config = run["config"]
    installed = {name: version for name, version in run.get("versions", {}).items() if version != "not installed"}
    notes = "".join(f"- {note}\n" for note in compatibility_notes(model))
    return _CARD.format(
        name=config.get("name", "MiMo"),
        layers=model.num_layers,
        hidden=model.hidden_size,
        heads=model.num_attention_heads,
        groups=model.num_query_groups,
        vocab=model.vocab_size,
        mtp=model.mtp_num_layers,
        history=_history(run, stage_name, record),
        notes=f"\n## Limits\n\n{notes}" if notes else "",
        versions="\n".join(f"- {name} {version}" for name, version in installed.items()),
    )


def _history(run: dict[str, Any], stage_name: str, record: RunRecord) -> str:
    """Which tokens the weights have seen, as far as this project knows."""
    if "imported_from" in run:
        return _IMPORTED.format(name=Path(run["imported_from"]).name)
    start = (run["config"].get("start") or {}).get("checkpoint", "")
    started_from = "/".join(Path(start).parts[-3:])  # a published card does not name this machine's folders
    return _TRAINED.format(
        tokens=run.get("consumed_tokens", 0),
        step=run.get("step", 0),
        stage=stage_name,
        start=f"Training started from the weights of `{started_from}`.\n" if start else "",
        stages="\n".join(_stage_row(stage) for stage in run["config"]["stages"]),
        sources="\n".join(_source_row(name, source) for name, source in run.get("data", {}).items()),
        record=_record(record),
    )


def _record(record: RunRecord) -> str:
    """Loss curve, held-out losses and command, as far as the run folder still has them."""
    parts = []
    if record.curve:
        parts.append(f"\n![loss over consumed tokens]({CURVE_FILE})\n")
    if record.held_out_losses:
        rows = "\n".join(f"| {source} | {loss:.4f} |" for source, loss in record.held_out_losses.items())
        parts.append(f"\n## Held-out loss\n\n| source | nats a token |\n|---|---|\n{rows}\n")
    if record.command:
        parts.append(f"\n## Command\n\n```\n{record.command}\n```\n")
    return "".join(parts)


def _stage_row(stage: dict[str, Any]) -> str:
    mixture = Path(stage["mixture"]).stem
    return f"| {stage['name']} | {stage['tokens']:,} | {stage['seq_length']} | {stage['rotary_base']:,} | {mixture} |"


def _source_row(name: str, source: dict[str, Any]) -> str:
    train = source["train"]
    return f"| {name} | {source['domain']} | {train['documents']:,} | {train['tokens']:,} |"


def compatibility_notes(model: ModelConfig) -> list[str]:
    """What inference engines will not do with this model as it was trained, one sentence each."""
    notes = []
    if model.mtp_num_layers and (model.mtp_hidden_state != "before_final_norm" or not model.mtp_zero_first_embedding):
        notes.append(
            f"The MTP layers were trained with mtp_hidden_state={model.mtp_hidden_state} and mtp_zero_first_embedding="
            f"{model.mtp_zero_first_embedding}; vLLM computes them otherwise, so its drafts will rarely be accepted."
        )
    if model.mtp_num_layers > 1:
        notes.append(f"Stock vLLM drafts with the first of the {model.mtp_num_layers} MTP layers only.")
    if model.kv_channels * model.num_attention_heads != model.hidden_size:
        notes.append("vLLM requires kv_channels x num_attention_heads == hidden_size, which does not hold here.")
    return notes
