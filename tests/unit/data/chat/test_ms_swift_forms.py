"""Records in every text form of ms-swift's documentation (4.6: custom data sets, agent support) train unchanged.

`CASES`: what ms-swift reads as the same conversation, and the texts its labels hold.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from megatron_mimo.config import ChatDataConfig, ChatSourceConfig
from megatron_mimo.data.chat.conversation import read_conversation
from megatron_mimo.data.chat.prepare import prepare_chat_data
from megatron_mimo.data.chat.samples import SampleReader
from megatron_mimo.data.chat.template import ChatTemplate

TOOL = {"type": "function", "function": {"name": "tide", "parameters": {"type": "object", "properties": {}}}}
CALL = {"type": "function", "function": {"name": "tide", "arguments": {"port": "Brest"}}}
CALL_TEXT = '\n<tool_call>{"name": "tide", "arguments": {"port": "Brest"}}</tool_call>'


def chat(*turns: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns], **more}


TWO_ROUNDS = [("system", "Be brief."), ("user", "2+2?"), ("assistant", "4"), ("user", "and 1?"), ("assistant", "5")]
ONE_ROUND = [("user", "Name a sea."), ("assistant", "The Baltic.")]
WITH_SYSTEM = [("system", "Be brief."), *ONE_ROUND]
WITH_TOOL = [("user", "High tide?"), ("assistant", ""), ("tool", "6:40"), ("assistant", "At 6:40.")]
CUT = [("user", "High tide?"), ("assistant", "")]
CASES: dict[str, tuple[dict[str, Any], list[tuple[str, str]], list[str]]] = {
    "messages": (chat(*TWO_ROUNDS), TWO_ROUNDS, ["4", "5"]),
    "pre-training": (chat(("assistant", "Gulls nest on cliffs.")), [("assistant", "Gulls nest on cliffs.")],
                     ["Gulls nest on cliffs."]),
    "pairs": ({"system": "Be brief.", "conversation": [{"human": "2+2?", "assistant": "4"},
               {"human": "and 1?", "assistant": "5"}]}, TWO_ROUNDS, ["4", "5"]),
    "from and value": ({"conversations": [{"from": "human", "value": "Name a sea."}, {"from": "gpt",
                        "value": "The Baltic."}], "system": "Be brief."}, WITH_SYSTEM, ["The Baltic."]),
    "alpaca": ({"system": "Be brief.", "instruction": "Name a sea.", "input": "", "output": "The Baltic."},
               WITH_SYSTEM, ["The Baltic."]),
    "alpaca with input": ({"instruction": "Add.", "input": "2 2", "output": "4"},
                          [("user", "Add.\n2 2"), ("assistant", "4")], ["4"]),
    "query and response": ({"system": "Be brief.", "query": "and 1?", "response": "5", "history": [["2+2?", "4"]]},
                           TWO_ROUNDS, ["4", "5"]),
    "problem and solution": ({"system_prompt": "Be brief.", "problem": "Name a sea.", "solution": "The Baltic."},
                             WITH_SYSTEM, ["The Baltic."]),
    "prompt and completion": ({"prompt": "Name a sea.", "completion": "The Baltic."}, ONE_ROUND, ["The Baltic."]),
    "question and answers": ({"question": "Name a sea.", "answers": ["The Baltic.", "The Med."]}, ONE_ROUND,
                             ["The Baltic."]),
    "preference": (chat(*ONE_ROUND, rejected_response="Snow."), ONE_ROUND, ["The Baltic."]),
    "label": (chat(*ONE_ROUND, label=True), ONE_ROUND, ["The Baltic."]),
    "a channel": (chat(*ONE_ROUND, channel="seas"), ONE_ROUND, ["The Baltic."]),
    "loss of a turn": ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho",
                        "loss": False}, {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4",
                        "loss": True}]}, [("user", "Hi"), ("assistant", "Ho"), ("user", "2+2?"), ("assistant", "4")],
                       ["4"]),
    "assistant in two goes": (chat(("user", "2+2?"), ("assistant", "<think>\neasy\n</think>\n"), ("assistant", "4")),
                              [("user", "2+2?"), ("assistant", "<think>\neasy\n</think>\n4")],
                              ["<think>\neasy\n</think>\n4"]),
    "tool_call": (chat(("user", "High tide?"), ("tool_call", '{"name": "tide", "arguments": {"port": "Brest"}}'),
                       ("tool_response", "6:40"), ("assistant", "At 6:40."), tools=json.dumps([TOOL])),
                  WITH_TOOL, [CALL_TEXT, "At 6:40."]),
    "words before a call": (chat(("user", "High tide?"), ("assistant", "I look."),
                                 ("tool_call", '{"name": "tide", "arguments": {"port": "Brest"}}'),
                                 ("tool", "6:40"), ("assistant", "At 6:40."), tools=json.dumps([TOOL])),
                            [("user", "High tide?"), ("assistant", "I look."), *WITH_TOOL[2:]],
                            ["I look." + CALL_TEXT, "At 6:40."]),
    "OpenAI's calls": ({"messages": [{"role": "user", "content": "High tide?"}, {"role": "assistant", "content": None,
                        "tool_calls": [{"type": "function", "function": {"name": "tide",
                        "arguments": '{"port": "Brest"}'}}]}, {"role": "tool", "content": "6:40"}]}, CUT, [CALL_TEXT]),
    "Anthropic's blocks": ({"messages": [
        {"role": "user", "content": [{"type": "text", "text": "High "}, {"type": "text", "text": "tide?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "I look."}, {"type": "tool_use", "id": "t1",
         "name": "tide", "input": {"port": "Brest"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "6:40"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "At 6:40."}]}]},
        [("user", "High tide?"), ("assistant", "I look."), *WITH_TOOL[2:]], ["I look." + CALL_TEXT, "At 6:40."]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_conversation_and_what_is_learned(name: str, plain_tokenizer: Path) -> None:
    record, turns, learned = CASES[name]
    conversation = read_conversation(record)
    assert [(message.role, message.content) for message in conversation.messages] == turns
    calls = [call for message in conversation.messages for call in message.tool_calls]
    assert all(call == CALL for call in calls)
    assert bool(calls) == (CALL_TEXT in "".join(learned))
    assert conversation.tools == ([TOOL] if "tools" in record else None)
    sample = ChatTemplate(plain_tokenizer).encode(conversation)
    tokenizer = AutoTokenizer.from_pretrained(str(plain_tokenizer))
    assert tokenizer.decode(sample.tokens[sample.loss_mask].tolist()) == "".join(
        f"{text}<|im_end|>" for text in learned
    )


def test_a_file_of_all_of_them_is_prepared(tmp_path: Path, plain_tokenizer: Path) -> None:
    file = tmp_path / "all.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record, _, _ in CASES.values()))
    config = ChatDataConfig(
        sources=[ChatSourceConfig(path=str(file)), ChatSourceConfig(path=f"{file}#1000")],
        tokenizer=str(plain_tokenizer),
        prepared=str(tmp_path / "prepared"),
        valid_share=0.0,
        max_responses_per_query=10_000,
    )
    manifest = prepare_chat_data(config, 512, epochs=1, seed=0)
    whole, drawn = (manifest.sources[source.path] for source in config.sources)
    assert (whole.records, whole.train_samples, whole.refused) == (len(CASES), len(CASES), {})
    assert (drawn.train_samples, drawn.refused) == (1000, {})
    # Beyond the file's length every record comes equally often, but for the rest.
    samples = SampleReader(tmp_path / "prepared" / "train")
    seen: dict[bytes, int] = {}
    for index in range(len(CASES), len(CASES) + 1000):
        content = samples[index].tokens.tobytes()
        seen[content] = seen.get(content, 0) + 1
    same = {samples[index].tokens.tobytes() for index in range(len(CASES))}
    assert set(seen) == same
    least = 1000 // len(CASES)
    assert all(count >= least for count in seen.values())


def test_tools_that_the_template_does_not_write_are_refused(tmp_path: Path, plain_tokenizer: Path) -> None:
    """A template without tools would train the model on questions whose tools it cannot see."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((plain_tokenizer / name).read_bytes())
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    plain = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": plain}))
    template = ChatTemplate(tmp_path)
    assert template.encode(read_conversation(CASES["messages"][0])).loss_mask.any()
    with pytest.raises(ValueError, match="leaves out the tools"):
        template.encode(read_conversation(CASES["tool_call"][0]))
    with pytest.raises(ValueError, match="leaves out the tool calls"):
        template.encode(read_conversation(CASES["OpenAI's calls"][0]))
