"""Records of other people's tools, in a template that inserts a system message of its own (support/xiaomi.py).

FORMATS is the table of docs/sft.md: what each record says is written out here, and rendered by Transformers from a
template that marks the assistant's words, for the tokens and the mask to be compared with.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from megatron_mimo.config import ChatDataConfig, ChatSourceConfig
from megatron_mimo.config.rl import RLDataConfig
from megatron_mimo.data.chat.conversation import BadRecord, read_conversation
from megatron_mimo.data.chat.prepare import prepare_chat_data
from megatron_mimo.data.chat.record_forms import ignored_fields
from megatron_mimo.data.chat.samples import SampleReader
from megatron_mimo.data.chat.template import ChatTemplate
from megatron_mimo.rl.prompts import PromptEncoder
from support.xiaomi import DEFAULT_SYSTEM, MARKED_TEMPLATE, write_tokenizer

TOOL = {"type": "function", "function": {"name": "tide", "parameters": {"type": "object", "properties": {}}}}
CALL = {"type": "function", "function": {"name": "tide", "arguments": {"port": "Brest"}}}
QUESTION, ANSWER = {"role": "user", "content": "2+3?"}, {"role": "assistant", "content": "5"}
THOUGHT = {"role": "assistant", "content": "<think>\nadd the digits\n</think>\n\n5"}
CALLED = [{"role": "user", "content": "High tide?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]},
          {"role": "tool", "content": "6:40"}, {"role": "assistant", "content": "At 6:40."}]  # fmt: skip
SYSTEM = {"role": "system", "content": "Be brief."}
SHAREGPT = [{"from": "human", "value": "2+3?"}, {"from": "gpt", "value": "5"}]
TEXT_CALL = '{"name": "tide", "arguments": {"port": "Brest"}}'
FORMATS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "ms-swift messages": ({"messages": [SYSTEM, QUESTION, ANSWER]}, [SYSTEM, QUESTION, ANSWER]),
    "ms-swift query and response": ({"system": "Be brief.", "query": "2+3?", "response": "5",
                                     "history": [["2+3?", "5"]]}, [SYSTEM, QUESTION, ANSWER, QUESTION, ANSWER]),
    "ms-swift tools": ({"tools": json.dumps([TOOL]), "messages": [CALLED[0],
                       {"role": "tool_call", "content": TEXT_CALL}, {"role": "tool_response", "content": "6:40"},
                       CALLED[3]]}, CALLED),
    "OpenAI messages": ({"messages": [{"role": "developer", "content": "Be brief."},
                         {"role": "user", "content": [{"type": "text", "text": "2+3?"}]}, ANSWER | {"weight": 1}]},
                        [SYSTEM, QUESTION, ANSWER]),
    "OpenAI tools": ({"tools": [TOOL], "parallel_tool_calls": False, "messages": [CALLED[0], {"role": "assistant",
                      "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "tide",
                      "arguments": '{"port": "Brest"}'}}]}, {"role": "tool", "tool_call_id": "c1", "content": "6:40"},
                      CALLED[3]]}, CALLED),
    "OpenAI functions": ({"functions": [TOOL["function"]], "messages": [CALLED[0], {"role": "assistant",
                          "content": None, "function_call": {"name": "tide", "arguments": '{"port": "Brest"}'}},
                          {"role": "function", "name": "tide", "content": "6:40"}, CALLED[3]]}, CALLED),
    "OpenAI reasoning": ({"messages": [QUESTION, ANSWER | {"reasoning_content": "add the digits"}]},
                         [QUESTION, THOUGHT]),
    "Anthropic thinking": ({"messages": [QUESTION, {"role": "assistant", "content": [{"type": "thinking",
                            "thinking": "add the digits", "signature": "s"}, {"type": "text", "text": "5"}]}]},
                           [QUESTION, THOUGHT]),
    "ShareGPT": ({"id": "a1", "conversations": SHAREGPT}, [QUESTION, ANSWER]),
    "ShareGPT with an empty system column": ({"system": "", "conversations": SHAREGPT},
                                             [{"role": "system", "content": ""}, QUESTION, ANSWER]),
    "Alpaca": ({"instruction": "2+3?", "input": "", "output": "5"}, [QUESTION, ANSWER]),
    "Alpaca with input": ({"instruction": "Add.", "input": "2 3", "output": "5"},
                          [{"role": "user", "content": "Add.\n2 3"}, ANSWER]),
    "LLaMA-Factory Alpaca": ({"system": "Be brief.", "instruction": "2+3?", "input": "", "output": "5",
                              "history": [["2+3?", "5"]]}, [SYSTEM, QUESTION, ANSWER, QUESTION, ANSWER]),
    "LLaMA-Factory tools": ({"tools": json.dumps([TOOL]), "conversations": [{"from": "human", "value": "High tide?"},
                             {"from": "function_call", "value": f"[{TEXT_CALL}]"},
                             {"from": "observation", "value": "6:40"}, {"from": "gpt", "value": "At 6:40."}]}, CALLED),
    "TRL messages": ({"messages": [QUESTION, ANSWER]}, [QUESTION, ANSWER]),
    "TRL prompt and completion": ({"prompt": "2+3?", "completion": "5"}, [QUESTION, ANSWER]),
    "TRL conversational prompt": ({"prompt": [SYSTEM, QUESTION], "completion": [ANSWER]}, [SYSTEM, QUESTION, ANSWER]),
    "reasoning beside a response": ({"question": "2+3?", "reasoning": "add the digits", "answer": "5"},
                                    [QUESTION, THOUGHT]),
    "reasoning before a call": ({"tools": [TOOL], "messages": [CALLED[0], {"role": "assistant", "content": None,
                                 "thinking": "look it up", "tool_calls": [CALL]}, CALLED[2], CALLED[3]]},
                                [CALLED[0], {**CALLED[1], "content": "<think>\nlook it up\n</think>\n\n"},
                                 *CALLED[2:]]),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("xiaomi"))


@pytest.fixture(scope="module")
def marked(folder: Path) -> Any:
    """Transformers' own tokenizer, whose template marks what the assistant says."""
    return PreTrainedTokenizerFast.from_pretrained(str(folder), chat_template=MARKED_TEMPLATE)


@pytest.mark.parametrize("name", FORMATS)
def test_tokens_and_mask_of_every_format(name: str, folder: Path, marked: Any) -> None:
    record, messages = FORMATS[name]
    sample = ChatTemplate(folder).encode(read_conversation(record))
    tools = [TOOL] if "tools" in record or "functions" in record else None
    expected = marked.apply_chat_template(messages, tools=tools, return_dict=True, return_assistant_tokens_mask=True)
    assert sample.tokens.tolist() == expected["input_ids"]
    assert sample.loss_mask.tolist() == [bool(bit) for bit in expected["assistant_masks"]]
    assert sample.loss_mask.any()


def rendered(folder: Path, record: dict[str, Any]) -> str:
    return ChatTemplate(folder).render(read_conversation(record))


def learned(folder: Path, record: dict[str, Any]) -> str:
    sample = ChatTemplate(folder).encode(read_conversation(record))
    return PreTrainedTokenizerFast.from_pretrained(str(folder)).decode(sample.tokens[sample.loss_mask].tolist())


def test_an_empty_system_message_stays_empty(folder: Path) -> None:
    empty = "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n2+3?<|im_end|>\n"
    for record in (
        {"system": "", "query": "2+3?", "response": "5"},
        {"messages": [SYSTEM | {"content": ""}, QUESTION, ANSWER]},
    ):
        assert rendered(folder, record).startswith(empty)
    assert rendered(folder, {"query": "2+3?", "response": "5"}).startswith(
        f"<|im_start|>system\n{DEFAULT_SYSTEM}<|im_end|>"
    )
    assert ChatTemplate(folder).own_system == DEFAULT_SYSTEM
    encoder = PromptEncoder(RLDataConfig(train=["-"], tokenizer=str(folder)))
    asked = PreTrainedTokenizerFast.from_pretrained(str(folder)).decode(list(encoder.encode("2+3?")))
    assert asked == empty + "<|im_start|>assistant\n"
    encoder = PromptEncoder(RLDataConfig(train=["-"], tokenizer=str(folder), system="Be brief."))
    assert encoder.encode("2+3?") != encoder.encode("2+3!")


@pytest.mark.parametrize("system", [None, "", "Be brief."])
def test_the_system_message_of_records_without_one(folder: Path, tmp_path: Path, system: str | None) -> None:
    """And what the template inserts, and which fields nobody reads, is counted for the person at the terminal."""
    file = tmp_path / "chat.jsonl"
    records = [
        {"query": "2+3?", "response": "5", "source": "book"},
        {"messages": [SYSTEM, QUESTION, ANSWER | {"name": "x"}]},
    ]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    config = ChatDataConfig(
        sources=[ChatSourceConfig(path=str(file))], tokenizer=str(folder), prepared=str(tmp_path / "prepared"),
        valid_share=0.0, system=system,
    )  # fmt: skip
    manifest = prepare_chat_data(config, 256, epochs=1, seed=0)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder))
    samples = SampleReader(tmp_path / "prepared" / "train")
    given = [tokenizer.decode(samples[index].tokens.tolist()).split("<|im_end|>")[0] for index in (0, 1)]
    expected = DEFAULT_SYSTEM if system is None else system
    assert given == [f"<|im_start|>system\n{expected}", "<|im_start|>system\nBe brief."]
    counts = manifest.sources[str(file)]
    assert (counts.template_system, manifest.template_system) == (int(system is None), DEFAULT_SYSTEM)
    assert counts.ignored == {"source": 1, "messages[].name": 1}


def two_answers(**first: Any) -> dict[str, Any]:
    return {"messages": [QUESTION, ANSWER | {"content": "first"} | first, QUESTION, ANSWER | {"content": "second"}]}


@pytest.mark.parametrize(
    "setting",
    [{"loss": 0}, {"loss": 0.0}, {"loss": False}, {"loss": "false"}, {"loss_scale": 0}, {"weight": 0}, {"train": False},
     {"step_loss_mask": 0}, {"loss": False, "weight": 0}],
)  # fmt: skip
def test_a_turn_marked_as_not_to_be_learned(folder: Path, setting: dict[str, Any]) -> None:
    assert learned(folder, two_answers(**setting)) == "second<|im_end|>"


@pytest.mark.parametrize("setting", [{"loss": 1}, {"loss": True}, {"weight": 1.0}, {"train": True}, {"loss": None}])
def test_a_turn_marked_as_learned(folder: Path, setting: dict[str, Any]) -> None:
    assert learned(folder, two_answers(**setting)) == "first<|im_end|>second<|im_end|>"


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (two_answers(weight=0.5), "weight 0.5: a turn is learned"),
        (two_answers(loss="last"), "loss last: a turn is learned"),
        (two_answers(train_detail=[{"begin_offset": 0, "train": False}]), "setting of a turn 'train_detail'"),
        (two_answers(loss_mask=[0, 1]), "setting of a turn 'loss_mask'"),
        (two_answers(loss=True, weight=0), "settings of the loss that disagree: loss=True, weight=0"),
        ({"messages": [QUESTION | {"train": True}, ANSWER]}, "a user turn is marked as to be learned"),
        ({"messages": [QUESTION, ANSWER], "weight": 0}, "marked as not to be learned"),
        ({"messages": [QUESTION, ANSWER], "weight": 3}, "weight 3"),
        ({"conversation": [{"human": "a", "assistant": "b", "loss": "x"}]}, "loss x"),
        ({"messages": [QUESTION | {"reasoning": "why"}, ANSWER]}, "a user turn with reasoning"),
        ({"messages": [QUESTION, THOUGHT | {"reasoning": "why"}]}, "beside the content and in it"),
        ({"messages": [QUESTION, ANSWER | {"reasoning": "a", "thinking": "b"}]}, "reasoning that differ"),
        ({"messages": [QUESTION, ANSWER | {"reasoning_content": {"text": "a"}}]}, "reasoning_content content is dict"),
        ({"messages": [QUESTION, ANSWER | {"content": []}]}, "a list without text"),
        ({"messages": [QUESTION, ANSWER | {"content": [{"type": "redacted_thinking"}]}]}, "redacted_thinking"),
        ({"system": "Be long.", "messages": [SYSTEM, QUESTION, ANSWER]}, "two system messages that differ"),
        ({"prompt": [QUESTION], "chosen": [ANSWER], "rejected": [ANSWER]}, "completion is not a list"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(record: dict[str, Any], text: str) -> None:
    with pytest.raises(BadRecord, match=text):
        read_conversation(record)


def test_not_learned_pairs(folder: Path) -> None:
    record = {"conversation": [{"human": "a", "assistant": "b", "loss": 0}, {"human": "c", "assistant": "d"}]}
    assert learned(folder, record) == "d<|im_end|>"


def test_fields_that_nothing_reads_are_named() -> None:
    record = {"id": 1, "question": "q", "answer": "a", "solution": "s", "images": [], "system": "", "difficulty": None}
    assert ignored_fields(record) == ["id", "solution"]
    assert ignored_fields({"prompt": [QUESTION | {"name": "x"}], "completion": [ANSWER]}) == ["prompt[].name"]
    assert ignored_fields({"text": "plain", "url": "u"}) == ["url"]
