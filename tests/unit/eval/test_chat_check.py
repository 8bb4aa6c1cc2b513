"""The questions of the chat check, and its score, on a server that gets one wording wrong."""

import json

from megatron_mimo.eval import chat_check
from support.chat_server import ChatServer, chat_server

WORDINGS = ("What is {id}?", "{id}=?", "Compute {id}.", "Sum {id}.")


def held_out(wording: str) -> list[dict[str, str]]:
    ids = ["9*9", *(f"{n}+20" for n in range(12))]
    return [{"id": each, "prompt": wording.format(id=each), "answer": str(eval(each))} for each in ids]


def test_ten_sums_in_three_wordings() -> None:
    asked = chat_check.questions(held_out, WORDINGS)
    assert len(asked) == 30
    assert {question.wording for question in asked} == set(WORDINGS[:3])
    assert asked[0] == chat_check.Question("What is {id}?", "What is 0+20?", "20")
    assert not [question for question in asked if "*" in question.question]


def test_answers_are_counted_by_wording() -> None:
    def say(body: dict) -> str:
        question = body["messages"][-1]["content"]
        if question == "5+20=?":
            return "I do not know."
        number = int(question.removesuffix("=?").split("+")[0].split()[-1])
        return f"<think>\n{number}+20\n</think>\nAnswer: \\boxed{{{number + 20 + question.startswith('Compute 3')}}}"

    with chat_server(ChatServer(say)) as server:
        answers = chat_check.ask(server.url.removesuffix("/v1"), "mimo", chat_check.questions(held_out, WORDINGS))
    for body in server.bodies:
        system, _ = body["messages"]
        assert system == {"role": "system", "content": ""} and body["temperature"] == 0
    results = json.loads(json.dumps(chat_check.summary(answers)))
    assert (results["right"], results["total"]) == (28, 30)
    assert results["wordings"]["{id}=?"] == {"right": 9, "total": 10}
    text = chat_check.table(results)
    assert "5+20=? no result, not 25" in text
    assert "Compute 3+20. 24, not 23" in text
    assert "28 of 30 right" in text
