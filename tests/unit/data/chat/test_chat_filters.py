"""Which responses are mixed in language or cut off, and which only look it."""

import pytest

from megatron_mimo.data.chat.conversation import Conversation, Message
from megatron_mimo.data.chat.filters import incomplete_response, mixed_language
from megatron_mimo.data.chat.prose import prose, split_fences

CHINESE = "今天天气很好,我们去公园散步,大家都很开心,孩子们也很高兴,晚上回家吃饭。"
ENGLISH = "The weather is nice today and all of us go to the park with the children."
RUSSIAN = "Сегодня хорошая погода, и мы все идём гулять в парк вместе с детьми."
JAPANESE = "今日はとても良い天気なので、みんなで公園へ散歩に行きました。"


def asked(query: str, response: str, system: str = "") -> Conversation:
    return Conversation([Message("system", system), Message("user", query), Message("assistant", response)])


@pytest.mark.parametrize(
    ("query", "response"),
    [
        (f"Translate into Chinese: {ENGLISH}", CHINESE),
        (f"请翻译: {CHINESE}", ENGLISH),
        ("把下面的句子翻译成英文: " + CHINESE, ENGLISH),
        ("Write a short story about the weather in Russian, please.", RUSSIAN),
        ("How do people say that the weather is nice, in Japanese?", JAPANESE),
        ("请用英文写一段关于天气和公园的短文,要求语言生动,不少于二十个单词", ENGLISH),
        ("Переведи на английский: " + RUSSIAN, ENGLISH),
        (CHINESE, f"```python\ndef add(first, second): ...\n```\n{CHINESE[:12]}"),
        (CHINESE, r"由 $x^2 + \alpha x + b = 0$ 得 \(x = \frac{-b \pm \sqrt{d}}{2a}\),所以答案是正确的,我们很高兴"),
        (CHINESE, "命令 `find . -name example -exec grep pattern {} +` 用来在文件夹里查找我们需要的文件"),
        ("Why?", CHINESE),
    ],
)  # fmt: skip
def test_languages_that_the_query_uses_or_asks_for(query: str, response: str) -> None:
    assert mixed_language(asked(query, response)) is None


def test_the_system_message_may_ask_for_a_language() -> None:
    assert mixed_language(asked(ENGLISH, CHINESE, system="Always answer in Chinese.")) is None
    assert mixed_language(asked(ENGLISH, CHINESE, system="Always answer at length.")) is not None


@pytest.mark.parametrize(
    ("query", "response", "named"),
    [
        (ENGLISH, CHINESE, "han, unasked for"),
        (ENGLISH, f"The park is open, {CHINESE}", "han, unasked for"),
        (CHINESE, f"我们去公园。{ENGLISH}", "latin, unasked for"),
        (f"Write it in Russian: {ENGLISH}", CHINESE, "han, unasked for"),
        (ENGLISH, RUSSIAN, "cyrillic, unasked for"),
        ("Methaine is the name of a gas that nobody knows of.", "ภาษาไทยเป็นภาษาที่สวยงามมากและมีผู้พูดจำนวนมาก", "thai"),
    ],
)
def test_languages_that_nothing_asks_for(query: str, response: str, named: str) -> None:
    reason = mixed_language(asked(query, response))
    assert reason is not None
    assert reason.startswith("mixed language: ")
    assert named in reason


@pytest.mark.parametrize(
    "response",
    [
        "Write ``` to open a fence.",
        "Use the `<think>` tag.",
        "A model writes <think> first and never says why.",
        "Close it with </think>",
        "Use `<think>` and `</think>`.",
        "````markdown\n```python\nprint(1)\n````\nThat is an open fence in a closed one.",
        "~~~\n```\n~~~\nTildes close it.",
        "```one line``` of code",
        "- a list\n\n  ```sh\n  ls\n  ```\n\n> ```\n> quoted\n> ```\n",
        "```\na ``` b\n```",
        "<think>\nmaybe `<think>` again\n</think>\n\n5",
        "reasoning without its first mark\n</think>\n\n5",
        "Put the answer into `\\boxed{`, please.",
        "\\boxed{\\left\\{ x \\right.}",
        "\\boxed{\\frac{1}{2}}",
        "```tex\n\\boxed{\n```\nis open on purpose",
    ],
)
def test_complete_responses(response: str) -> None:
    assert incomplete_response(asked("How?", response)) is None


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("<think>never ends", "open think block"),
        ("\n<think>\nfirst\n</think>\n<think>second", "open think block"),
        ("<think>\nthought\n</think>\n", "no answer"),
        ("thought\n</think>\n", "no answer"),
        ("Look:\n```python\nprint(1)", "open code fence '```python'"),
        ("````md\n```\ncode\n```\n", "open code fence '````md'"),
        ("So x is \\boxed{12", "open \\boxed"),
        ("So x is \\boxed{\\}", "open \\boxed"),
    ],
)
def test_responses_that_were_cut_off(response: str, reason: str) -> None:
    assert incomplete_response(asked("How?", response)) == f"incomplete response: {reason}"


@pytest.mark.parametrize(
    "text",
    [
        "before\n```\ncode\n```\nafter",
        "a\n~~~ruby\n```\nb\n~~~~\nc",
        "x\n````\n```\n````\ny ``` z\n```py\nlast",
        "``` a ` b\nprose\n```\ncode",
        "p\n\n- item\n\n  ```sh\n  ls\n  ```\n\nq",
    ],
)
def test_fences_against_markdown_it(text: str) -> None:
    """What a library that parses CommonMark takes for fenced code is what is left out here."""
    markdown_it = pytest.importorskip("markdown_it")
    lines = text.splitlines()
    fenced = {
        number
        for token in markdown_it.MarkdownIt().parse(text)
        if token.type == "fence"
        for number in range(*token.map)
    }
    expected = [line for number, line in enumerate(lines) if number not in fenced]
    assert split_fences(text).outside.splitlines() == expected


def test_prose_has_no_code_formulas_or_addresses() -> None:
    text = "See https://example.org/page and `code` in\n```py\nx = 1\n```\nwhere $a+b$ is \\alpha or \\[c\\]."
    assert prose(text).split() == ["See", "and", "in", "where", "is", "or", "."]
