"""The forms of ms-swift's documentation for custom data sets, and records that are none of them."""

import pytest

from megatron_mimo.data.chat.conversation import BadRecord, read_conversation

TURNS = [("system", "S"), ("user", "q1"), ("assistant", "r1"), ("user", "q2"), ("assistant", "r2")]
PAIRS = [{"human": "q1", "assistant": "r1"}, {"human": "q2", "assistant": "r2"}]
SHAREGPT_ROLES = {"system": "system", "user": "human", "assistant": "gpt"}
FORMS = {
    "messages": {"messages": [{"role": role, "content": content} for role, content in TURNS]},
    "pairs": {"system": "S", "conversation": PAIRS},
    "sharegpt": {"conversations": [{"from": SHAREGPT_ROLES[role], "value": content} for role, content in TURNS]},
    "query and response": {"system": "S", "query": "q2", "response": "r2", "history": [["q1", "r1"]]},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_conversation(form: str) -> None:
    assert [(m.role, m.content) for m in read_conversation(FORMS[form]).messages] == TURNS


def test_alpaca_joins_instruction_and_input() -> None:
    conversation = read_conversation({"instruction": "Add.", "input": "1 2", "output": "3"})
    assert [(m.role, m.content) for m in conversation.messages] == [("user", "Add.\n1 2"), ("assistant", "3")]


def test_an_answer_alone_is_a_conversation() -> None:
    """ms-swift's form of pre-training data."""
    assert read_conversation({"messages": [{"role": "assistant", "content": "text"}]}).response == "text"


def test_tool_calls_become_one_assistant_message() -> None:
    record = {
        "tools": '[{"name": "look"}]',
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "tool_call", "content": '{"name": "look", "arguments": {"a": 1}}'},
            {"role": "tool_call", "content": '{"name": "look", "arguments": {"a": 2}}'},
            {"role": "tool_response", "content": "[1, 2]"},
            {"role": "assistant", "content": "r"},
        ],
    }
    conversation = read_conversation(record)
    assert [message.role for message in conversation.messages] == ["user", "assistant", "tool", "assistant"]
    assert [call["function"]["arguments"]["a"] for call in conversation.messages[1].tool_calls] == [1, 2]
    assert conversation.tools == [{"name": "look"}]


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ([1], "not a JSON object"),
        ({"answer": "x"}, "its fields are answer"),
        ({"messages": []}, "not a list with turns"),
        ({"messages": [{"role": "user", "content": "q"}]}, "no assistant turn"),
        ({"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "q"}]}, "nothing answers"),
        ({"messages": [{"role": "narrator", "content": "q"}]}, "unknown role 'narrator'"),
        ({"messages": [{"role": "assistant", "content": 3}]}, "content is int"),
        ({"query": "q", "response": None}, "nor a query with a response"),
        ({"query": "q", "response": 5}, "content is int"),
        ({"query": "q", "response": "r", "history": [["q"]]}, "not a list of .query, response."),
        ({"messages": [{"role": "assistant", "content": "a"}], "images": ["a.png"]}, "it has images"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "block of type 'image'"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "user content is NoneType"),
        ({"messages": [{"role": "assistant", "content": "a", "loss_scale": 2.0}]}, "loss_scale 2.0"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"type": "function"}]}]}, "without a name"),
        ({"messages": [{"role": "assistant", "content": "a", "loss": False}, {"role": "assistant", "content": "b"}]},
         "differ in loss"),
        ({"messages": [{"role": "tool_call", "content": "{"}]}, "tool_call is not JSON"),
    ],
)  # fmt: skip
def test_what_is_no_conversation(record: object, text: str) -> None:
    with pytest.raises(BadRecord, match=text):
        read_conversation(record)
