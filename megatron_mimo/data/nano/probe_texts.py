"""Texts that make tokenizers disagree: every kind of split, normalization and special token, in many scripts."""

import random

_HARD = [
    "",
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t\t x",
    "a",
    " a",
    "a ",
    "  a  b   c    ",
    "x\n\n\n y\r\n\r\n\tz \n",
    "def f(x: int) -> int:\n    if x == 0:\n\treturn 1\n        # Übung\n    return x * f(x - 1)\n",
    "I'm you'RE we'Ve THEY'LL it's 'Tis o'clock ''s 's'S ’s don'Tell x'Sad o'LLama d'mart y'vex",
    "1 12 123 1234567890 3.14 1e-9 0xFF ½ Ⅷ ² ٣٤ १२ 一二",
    "$\\frac{a_1^2}{\\sqrt{b}}$ \\(x \\le y\\) \\begin{align} a &= b \\\\ c &= d \\end{align}",
    "人工智能是计算机科学的一个分支。你好，世界！“引号”《书》１２３ＡＢＣ",
    "日本語のテキスト、カタカナ、ﾊﾝｶｸ。",
    "한국어 텍스트입니다.",
    "Привет, мир! Ёжик",
    "مرحبا بالعالم ١٢٣",
    "שלום עולם",
    "नमस्ते दुनिया क्षत्रिय",
    "สวัสดีชาวโลก",
    "Xin chào thế giới",
    "😀😃 👩‍👩‍👧‍👦 🏳️‍🌈 🇨🇳🇩🇪 👍🏽 ✈️ ©™ 1️⃣",
    "e\u0301 é A\u030a Å ﬁ ﬀ Å \u1100\u1161\u11a8 각",
    "\u200b\u200d\ufeff\u00a0\u3000\u2028\u0085",
    "\x00\x01\x1b[0m\x7f",
    "\ud7ff\ue000\ufffd\uffff\U0001f9ff\U00020000\U0010ffff",
    "----====____....!!!???~~~``` ;;;",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "ab" * 300,
    " " * 500 + "x",
    "\n" * 300,
    "é" * 200,
    "a<|endoftext|>b <|im_start|>user\nhi<|im_end|>\n<|im_end|><|fim_prefix|> <|endoftext|",
    "<think>\nx\n</think>\n<tool_call>{}",
    "camelCaseHTTPServer snake_case_name kebab-case https://example.org/a?b=c&d=%20#e user@example.org C:\\a.txt",
]
_ALPHABETS = [
    range(0x20, 0x7F), range(0x00, 0x250), range(0x300, 0x370), range(0x370, 0x600), range(0x900, 0xE00),
    range(0x2000, 0x2C00), range(0x3000, 0x3100), range(0x4E00, 0x9FA6), range(0xAC00, 0xD7A4), range(0x1F300, 0x1FB00),
    range(0xA000, 0xD800), range(0xE000, 0x30000),
]  # fmt: skip
RANDOM_TEXTS = 400


def probe_texts() -> list[str]:
    """A fixed list of some hundred texts: the hard cases, and random ones that mix the scripts of Unicode."""
    source = random.Random("probe")
    return _HARD + [_random_text(source) for _ in range(RANDOM_TEXTS)]


def _random_text(source: random.Random) -> str:
    pieces = []
    for _ in range(source.randrange(1, 12)):
        alphabet = source.choice(_ALPHABETS)
        pieces.append("".join(chr(source.choice(alphabet)) for _ in range(source.randrange(1, 16))))
        pieces.append(source.choice(["", "", " ", "  ", "\n", "'s", "7", "<|im_end|>"]))
    return "".join(pieces)
