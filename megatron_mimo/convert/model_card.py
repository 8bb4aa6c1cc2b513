"""The README.md of an exported model, made from the checkpoint's record and the folder of its run."""

from pathlib import Path

from megatron_mimo.config import ModelConfig
from megatron_mimo.convert.card_results import CHAT_RESULTS, with_results
from megatron_mimo.convert.run_record import RunRecord
from megatron_mimo.model.serving import serving_limits
from megatron_mimo.training.checkpoint_record import CheckpointRecord, SourceRecord, StageRecord

CURVE_FILE = "training_curve.png"

LICENSE = "apache-2.0"
"""Of weights that this program made from nothing, unless their maker decides otherwise."""
QUESTION, TEXT = "What is 47+38?", "The capital of France is"

_CARD = """---
license: {license}
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
{prompt}
print(tokenizer.decode(model.generate(inputs.input_ids, max_new_tokens=128)[0]))
```

{kind}

`model(input_ids, output_mtp_logits=True).mtp_logits` gives the MTP layers' predictions.

With vLLM{drafting}, where megatron-mimo is installed:

```
megatron-mimo serve PATH    # OpenAI-compatible server
megatron-mimo chat PATH     # in the terminal
```

Without it, the same server is

```
python -m vllm.entrypoints.openai.api_server --model PATH --trust-remote-code{speculation}
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
_CHAT_PROMPT = """messages = [{{"role": "user", "content": {question!r}}}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)"""
_TEXT_PROMPT = """inputs = tokenizer({text!r}, return_tensors="pt")"""
_CHAT_KIND = "It was trained on conversations in the tokenizer's chat template."
_BASE_KIND = (
    "This is a base model: it continues text. It has not been trained on conversations, even if its tokenizer carries a"
    " chat template."
)
_SPECULATION = """ \\
    --speculative-config '{{"method": "mtp", "num_speculative_tokens": {drafts}}}'"""
_IMPORTED = (
    "Its weights are those of the Hugging Face folder `{name}`, converted with megatron-mimo and not trained since.\n"
)


def model_card(saved: CheckpointRecord, run: RunRecord) -> str:
    """Markdown text of a checkpoint; `run` is what else its run has left."""
    model, chats = saved.model, saved.chat_trained
    installed = {name: version for name, version in saved.versions.items() if version != "not installed"}
    notes = "".join(f"- {note}\n" for note in compatibility_notes(model))
    card = _CARD.format(
        license=saved.license or ("unknown" if saved.imported_from else LICENSE),
        name=saved.name,
        layers=model.num_layers,
        hidden=model.hidden_size,
        heads=model.num_attention_heads,
        groups=model.num_query_groups,
        vocab=model.vocab_size,
        mtp=model.mtp_num_layers,
        history=_history(saved, run),
        prompt=_prompt(chats, run),
        kind="" if chats is None else _CHAT_KIND if chats else _BASE_KIND,
        drafting=", drafting with the MTP layers" if model.mtp_num_layers else "",
        speculation=_speculation(model),
        notes=f"\n## Limits\n\n{notes}" if notes else "",
        versions="\n".join(f"- {name} {version}" for name, version in installed.items()),
    )
    # A fine-tuned model's answers may lie beside the run that it started from.
    results = {name: value for name, value in run.results.items() if chats or name not in CHAT_RESULTS}
    return with_results(card, results)


def _prompt(chats: bool | None, record: RunRecord) -> str:
    """Code that asks what the model knows: a question, a problem of the kind it was trained on, or any text."""
    return _CHAT_PROMPT.format(question=QUESTION) if chats else _TEXT_PROMPT.format(text=record.prompt or TEXT)


def _speculation(model: ModelConfig) -> str:
    return _SPECULATION.format(drafts=model.mtp_depths) if model.mtp_depths else ""


def _history(saved: CheckpointRecord, run: RunRecord) -> str:
    """Which tokens the weights have seen, as far as this project knows."""
    if saved.imported_from:
        return _IMPORTED.format(name=Path(saved.imported_from).name)
    start = saved.start_checkpoint
    started_from = "/".join(Path(start).parts[-3:])  # a published card does not name this machine's folders
    return _TRAINED.format(
        tokens=saved.progress.consumed_tokens,
        step=saved.progress.step,
        stage=saved.last_stage.name,
        start=f"Training started from the weights of `{started_from}`.\n" if start else "",
        stages="\n".join(_stage_row(stage) for stage in saved.stages),
        sources="\n".join(_source_row(name, source) for name, source in saved.data.items()),
        record=_record(run),
    )


def _record(record: RunRecord) -> str:
    """Loss curve, held-out losses and command, as far as the run folder still has them."""
    parts = []
    if record.curve:
        parts.append(f"\n![loss over consumed tokens]({CURVE_FILE})\n")
    if record.held_out_losses:
        rows = "\n".join(f"| {source} | {loss:.4f} |" for source, loss in record.held_out_losses.items())
        parts.append(f"\n## Held-out loss\n\n| source | nats per token |\n|---|---|\n{rows}\n")
    if record.command:
        parts.append(f"\n## Command\n\n```\n{record.command}\n```\n")
    return "".join(parts)


def _stage_row(stage: StageRecord) -> str:
    mixture = Path(stage.mixture).stem
    return f"| {stage.name} | {stage.length:,} | {stage.seq_length} | {stage.rotary_base:,} | {mixture} |"


def _source_row(name: str, source: SourceRecord) -> str:
    return f"| {name} | {source.domain} | {source.documents:,} | {source.tokens:,} |"


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
    return notes + serving_limits(model)
