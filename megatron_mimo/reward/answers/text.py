"""Answers as people and models write them, made one spelling: Unicode, LaTeX wrappers, spaces, plain functions."""

import re

from megatron_mimo.reward.boxed import closing_brace

CHARACTERS = str.maketrans(
    {
        "，": ",", "；": ";", "：": ":", "。": "", "（": "(", "）": ")", "［": "[", "］": "]", "｛": r"\{", "｝": r"\}",
        "％": r"\%", "＝": "=", "＋": "+", "－": "-", "−": "-", "–": "-", "—": "-", "＜": "<", "＞": ">", "、": ",",
        "×": r"\times ", "÷": r"\div ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "π": r"\pi ", "∞": r"\infty ",
        "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "∪": r"\cup ",
        "∩": r"\cap ", "∈": r"\in ", "±": r"\pm ", "∓": r"\mp ", "∅": r"\emptyset ", "°": r"^\circ ", "º": r"^\circ ",
        "…": r"\ldots ", "⋯": r"\ldots ", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
        "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "√": r"\sqrt ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ",
        "∠": r"\angle ", "△": r"\triangle ", "′": "'", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u3000": " ",
        "￥": "¥", "℃": r"^\circ C", "”": '"', "“": '"', "’": "'",
        **{chr(0xFF10 + digit): str(digit) for digit in range(10)},
        **{chr(0xFF21 + place): chr(65 + place) for place in range(26)},
        **{chr(0xFF41 + place): chr(97 + place) for place in range(26)},
    }
)  # fmt: skip
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
SIZES = re.compile(r"\\(?:left|right|bigl|bigr|Bigl|Bigr|biggl|biggr|big|Big|bigg|Bigg|middle)(?![a-zA-Z])\s*\.?")
NOTHING = re.compile(r"\\(?:displaystyle|textstyle|limits|nolimits|mathstrut|strut|boldsymbol)(?![a-zA-Z])")
WRAPPERS = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal|up)?|mbox|mathrm|mathbf|mathit|mathsf|hbox|textup|bf|rm)\s*\{"
)
ROMAN = re.compile(r"\{\\(?:rm|bf|it)\s+([^{}]*)\}")
ONLY_WRAPPED_MATH = re.compile(r"[-+]?[\d.,\s/]+")
BEFORE_ANSWER = re.compile(
    r"^(?:the\s+)?(?:final\s+|correct\s+)?(?:answer|result|value|solution)s?(?:\s+(?:is|are|equals)|\s*:)\s*:?|^(?:答案|解)"
    r"(?:是|为|:)",
    re.I,
)
FUNCTIONS = "arcsin arccos arctan sinh cosh tanh sin cos tan cot sec csc ln log"
GREEK = "alpha beta gamma delta theta lambda mu phi omega sigma pi infty"
TEXT_OPEN, TEXT_CLOSE = "\ue000", "\ue001"
"""Stand for the braces of `\\text{...}` in a cleaned answer: what lies between is words."""

ORDINAL = re.compile(rf"(?<=\d)\s*\^?\s*\{{?\s*{TEXT_OPEN}?(?:st|nd|rd|th)\s*{TEXT_CLOSE}?\s*\}}?(?![a-zA-Z])")
WORDED_NUMBER = re.compile(
    rf"^{TEXT_OPEN}\s*([-+]?\d[\d,]*(?:\.\d+)?)\s+((?:(?!\b(?:or|and|not)\b)[^\d{TEXT_CLOSE}])+){TEXT_CLOSE}$"
)
"""`\\text{5 apples}`: a number with a word, not the words that a hedge has."""


def clean(answer: str) -> str:
    """One spelling of an answer. Words that stood in `\\text{}` lie between TEXT_OPEN and TEXT_CLOSE."""
    text = answer.strip()
    text = re.sub(r"([⁰¹²³⁴-⁹⁻]+)", lambda found: "^{" + found[1].translate(SUPERSCRIPTS) + "}", text)
    text = re.sub(r"((?:\d[\u0305\u0304])+)", lambda found: rf"\overline{{{re.sub('[^0-9]', '', found[1])}}}", text)
    text = re.sub(r"([₀-₉]+)", lambda found: "_{" + found[1].translate(SUBSCRIPTS) + "}", text)
    text = text.translate(CHARACTERS)
    text = re.sub(r"\\begin\{align(?:ed)?\*?\}|\\end\{align(?:ed)?\*?\}", "", text)
    text = unwrap_dollars(text)
    text = SIZES.sub("", text)
    text = NOTHING.sub("", text)
    text = re.sub(r"\\(?:dfrac|tfrac|cfrac)", r"\\frac", text)
    text = ROMAN.sub(r"\\text{\1}", text)
    text = without_boxes(text)
    text = mark_words(text)
    text = re.sub(r"\{,\}|,\s*\\!\s*|(?<=\d)\\[,:;!](?=\d{3}(?!\d))", "\ue002", text)
    text = re.sub(r"\\[,:;!> ]|\\(?:quad|qquad|enspace|thinspace)(?![a-zA-Z])|~", " ", text)
    text = text.replace(r"\lbrace", r"\{").replace(r"\rbrace", r"\}").replace(r"\tfrac", r"\frac")
    text = re.sub(r"\\(?:degree|degrees)(?![a-zA-Z])", r"^\\circ", text)
    text = re.sub(r"\^\s*\{\s*\\circ\s*\}|\^\s*\\circ", r"^\\circ", text)
    text = re.sub(r"\\(?:leqslant|leq)(?![a-zA-Z])|<=|=<", r"\\le ", text)
    text = re.sub(r"\\(?:geqslant|geq)(?![a-zA-Z])|>=", r"\\ge ", text)
    text = re.sub(r"\\(?:neq)(?![a-zA-Z])|!=", r"\\ne ", text)
    text = re.sub(r"\\lt(?![a-zA-Z])", "<", re.sub(r"\\gt(?![a-zA-Z])", ">", text))
    text = re.sub(r"\\(?:dots|cdots|dotsc|dotsb)(?![a-zA-Z])|\.\.\.+", r"\\ldots ", text)
    text = re.sub(r"\\(?:varnothing)(?![a-zA-Z])", r"\\emptyset", text)
    text = re.sub(r"\+/-|(?<![\d)}\w])\s*\+-(?=\s*[\d\\])", r"\\pm ", text)
    text = re.sub(r"\bper\s+cent\b", "percent", text)
    text = ORDINAL.sub("", BEFORE_ANSWER.sub("", text.strip()))
    text = WORDED_NUMBER.sub(rf"\1 {TEXT_OPEN}\2{TEXT_CLOSE}", text)
    return plain_functions(text).strip().rstrip(".").strip()


def unwrap_dollars(text: str) -> str:
    """Without mathematics delimiters; an escaped dollar is money."""
    text = text.replace(r"\$", "\ue003")
    text = re.sub(r"\\[()\[\]]", "", text)
    inner = text.replace("$", "")
    if text.count("$") == 1 and re.match(r"\s*-?\$\s*\d", text):
        inner = text.replace("$", "\ue003")
    return inner


def without_boxes(text: str) -> str:
    while match := re.search(r"\\(?:boxed|fbox)\s*\{", text):
        end = closing(text, match.end() - 1)
        text = text[: match.start()] + text[match.end() : end] + text[end + 1 :]
    return text


def mark_words(text: str) -> str:
    """Text commands to marks; what they wrap is plain mathematics where it is a number alone, or the inside of one."""
    while match := WRAPPERS.search(text):
        end = closing(text, match.end() - 1)
        inside = mark_words(text[match.end() : end])
        stripped = inside.strip(" \ue000\ue001")
        constant = "math" in match[0] and stripped in ("i", "e")
        if stripped and not constant and not ONLY_WRAPPED_MATH.fullmatch(stripped):
            lead = BEFORE_ANSWER.match(stripped)
            inside = TEXT_OPEN + (stripped[lead.end() :] if lead else inside.strip("\ue000\ue001")) + TEXT_CLOSE
            if lead and not stripped[lead.end() :].strip():
                inside = " "
        text = text[: match.start()] + inside + text[end + 1 :]
    return text


def closing(text: str, opening: int) -> int:
    """Place of the brace that closes the one at `opening`; the end of the text where none does."""
    end = closing_brace(text, opening)
    return len(text) if end is None else end


def plain_functions(text: str) -> str:
    """`sqrt(2)`, `2*pi`, `exp(16)`, `x**2`, `6e23` in LaTeX; inside of words nothing changes."""
    return "".join(
        part if part.startswith(TEXT_OPEN) else plain_to_latex(part)
        for part in re.split(f"({TEXT_OPEN}[^{TEXT_CLOSE}]*{TEXT_CLOSE})", text)
    )


def plain_to_latex(text: str) -> str:
    text = text.replace("**", "^")
    text = re.sub(r"(?<![\\a-zA-Z])(?:exp)\s*(?=[({])|\\exp\s*(?=[({])", "e^", text)
    text = re.sub(r"(?<![\\a-zA-Z])sqrt(?![a-zA-Z])", r"\\sqrt", text)
    text = re.sub(rf"(?<![\\a-zA-Z])({'|'.join(FUNCTIONS.split())})(?![a-z])", r"\\\1", text)
    text = re.sub(rf"(?<![\\a-zA-Z])({'|'.join(GREEK.split())})(?![a-zA-Z])", r"\\\1 ", text)
    text = re.sub(r"(?<![\\a-zA-Z])(?:inf|infinity|oo)(?![a-zA-Z])", r"\\infty ", text)
    text = re.sub(r"(?<=[\d.])[eE]([+-]?\d+)(?![\d.])", r"\\cdot 10^{\1}", text)
    text = re.sub(r"(?<=[\w)}])\s*\*\s*(?=[-\w(\\])", r" \\cdot ", text)
    text = braces_for_parentheses(text, r"\sqrt")
    text = braces_for_parentheses(text, "^")
    text = re.sub(r"\\sqrt\s+(\d)", r"\\sqrt{\1}", text)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{", text)
    text = re.sub(r"(\\frac\s*\{[^{}]*\})\s*(\d)", r"\1{\2}", text)
    text = re.sub(r"\+\s*-", "-", text)
    return re.sub(r"-\s*-(?=\s*\d)", "+", text)


def braces_for_parentheses(text: str, command: str) -> str:
    """`\\sqrt(2)` and `e^(x+1)` with braces."""
    for match in reversed(list(re.finditer(re.escape(command) + r"\s*\(", text))):
        depth = 0
        for place in range(match.end() - 1, len(text)):
            depth += {"(": 1, ")": -1}.get(text[place], 0)
            if depth == 0:
                text = f"{text[: match.start()]}{command}{{{text[match.end() : place]}}}{text[place + 1 :]}"
                break
    return text


def words_of(text: str) -> str:
    """A cleaned answer as plain words, for answers that are no formula."""
    return re.sub(r"\s+", " ", text.replace(TEXT_OPEN, "").replace(TEXT_CLOSE, "").replace("\\", " ")).strip()
