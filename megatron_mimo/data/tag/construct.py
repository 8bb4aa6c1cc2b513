"""Training pages with known tags, made without any model: composed from a lexicon, or cut from what Python installs.

The tags are those of the recipe: a page made of plain sentences has reasoning depth 1, one whose sentences argue from
each other 3 or 4. It is the offline stand-in for annotations by a large model (annotate.py), which are to be
preferred wherever there is an endpoint.
"""

import functools
import json
import random
from collections.abc import Callable

from megatron_mimo.data.nano.corpus_text import code_texts, prose_texts
from megatron_mimo.data.tag import lexicon, worked
from megatron_mimo.data.tag.labelled import LabelledPage
from megatron_mimo.data.tag.schema import KINDS, Tags

Made = tuple[str, str, tuple[float, float, float], str]
"""Kind, domain, (knowledge density, reasoning depth, educational value), text."""
_BY_DEPTH = {0: (2, 0, 1), 1: (3, 1, 2), 2: (3, 2, 3), 3: (4, 3, 4), 4: (4, 4, 4), 5: (4, 5, 5)}
CODE_LINES = (12, 45)
TEXT_CHARACTERS = (300, 1500)


def construct(num_pages: int, seed: int = 0) -> list[LabelledPage]:
    """`num_pages` labelled pages in random order; the same arguments give the same pages on the same Python."""
    generator = random.Random(seed)
    makers = _makers()
    pages = []
    for number in range(num_pages):
        maker, _ = generator.choices(makers, weights=[weight for _, weight in makers])[0]
        kind, domain, (density, depth, value), text = maker(generator)
        tags = Tags(
            domain=domain,
            knowledge_density=density,
            reasoning_depth=depth,
            educational_value=value,
            kinds=[domain] if domain in KINDS else [],
        )
        pages.append(LabelledPage(f"made{number:05d}", text, tags, kind))
    return pages


def _makers() -> list[tuple[Callable[[random.Random], Made], float]]:
    code, prose = _installed_texts()
    return [
        (_explaining_page, 10),
        (_chinese_page, 3),
        (_worked_mathematics, 3),
        (_worked_elsewhere, 1.5),
        (_number_list, 0.5),
        (lambda g: _code_page(g, code), 1.5),
        (lambda g: _installed_page(g, prose), 0.6),
        (_machine_text, 0.5),
        (_plain_page("news", lexicon.NEWS, (2, 1, 1)), 1.5),
        (_plain_page("fiction", lexicon.FICTION, (1, 1, 2)), 1.5),
        (_plain_page("advertisement", lexicon.ADVERTISEMENT, (1, 0, 0)), 2.2),
        (_plain_page("job_posting", lexicon.JOB_POSTING, (1, 0, 0)), 1.2),
        (_general_page, 2.2),
        (_table, 0.4),
    ]


@functools.cache
def _installed_texts() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    return list(code_texts()), list(prose_texts())


def _fill(frame: str, generator: random.Random, terms: list[str]) -> str:
    """The frame with its slots filled; every `{n}` gets its own number."""
    term, other = generator.sample(terms, 2) if len(terms) > 1 else ("", "")
    while "{n}" in frame:
        frame = frame.replace("{n}", str(generator.randrange(2, 10 ** generator.choice([1, 2, 2]))), 1)
    return frame.format(
        t=term,
        u=other,
        name=generator.choice(lexicon.NAMES),
        place=generator.choice(lexicon.PLACES),
        day=generator.choice(lexicon.DAYS),
        month=generator.choice(lexicon.MONTHS),
        item=generator.choice(lexicon.ITEMS),
        role=generator.choice(lexicon.ROLES),
    )


def _explaining_page(generator: random.Random) -> Made:
    """Statements of one domain and links up to the page's depth, in one of several layouts."""
    domain, depth = generator.choice(list(lexicon.TERMS)), generator.choice([1, 1, 2, 2, 3, 3, 4, 4, 5])
    terms = generator.sample(lexicon.TERMS[domain], generator.randrange(5, 16))
    sentences = [
        _fill(generator.choice(lexicon.STATEMENTS[domain]), generator, terms) for _ in range(_length(generator))
    ]
    if depth >= 2:
        levels = [level for level in lexicon.LINKS if depth - 2 <= level <= depth]
        number = max(2, len(sentences) * depth // 4)
        links = [
            _fill(generator.choice(lexicon.LINKS[generator.choice(levels)]), generator, terms) for _ in range(number)
        ]
        sentences = _interleave(generator, sentences[: max(2, len(sentences) * (6 - depth) // 5)], links)
    return "explaining", domain, _BY_DEPTH[depth], _lay_out(generator, sentences, bullets=depth <= 1, terms=terms)


def _length(generator: random.Random) -> int:
    return generator.randrange(4, 14)


def _interleave(generator: random.Random, sentences: list[str], links: list[str]) -> list[str]:
    places = sorted(generator.randrange(1, len(sentences) + 1) for _ in links)
    for place, link in reversed(list(zip(places, links, strict=True))):
        sentences.insert(place, link)
    return sentences


def _lay_out(generator: random.Random, sentences: list[str], bullets: bool, terms: list[str]) -> str:
    layout = generator.choice(["plain", "plain", "titled", "forum", "paragraphs", "list" if bullets else "plain"])
    if layout == "list":
        return "\n".join(
            generator.choice(["- ", "* ", "", f"{i}. "]) + text for i, text in enumerate(sentences, start=1)
        )
    body = " ".join(sentences)
    if layout == "titled":
        return f"{generator.choice(terms).capitalize()}\n\n{body}"
    if layout == "forum":
        first = _fill("How does the {t} depend on the {u}? I don't understand it.", generator, terms)
        mark = generator.choice([("Q: ", "A: "), ("", "> "), ("", "Reply: "), ("Question: ", "Answer: ")])
        return f"{mark[0]}{first}\n\n{mark[1]}{body}"
    if layout == "paragraphs":
        middle = len(sentences) // 2
        return " ".join(sentences[:middle]) + "\n\n" + " ".join(sentences[middle:])
    return body


def _chinese_page(generator: random.Random) -> Made:
    if generator.random() < 0.4:
        domain = generator.choice(list(lexicon.CHINESE_PLAIN))
        frames = lexicon.CHINESE_PLAIN[domain]
        scores = {"news": (2, 1, 1), "fiction": (1, 1, 2), "general": (1, 1, 1)}.get(domain, (1, 0, 0))
        sentences = [_fill(generator.choice(frames), generator, []) for _ in range(_length(generator))]
        return "zh_plain", domain, scores, generator.choice(["", "\n"]).join(sentences)
    domain, depth = generator.choice(list(lexicon.CHINESE_TERMS)), generator.choice([1, 2, 3, 4])
    terms = lexicon.CHINESE_TERMS[domain].split(" ")
    sentences = [
        _fill(generator.choice(lexicon.CHINESE_STATEMENTS), generator, terms) for _ in range(_length(generator))
    ]
    if depth >= 2:
        frames = [frame for level in (depth - 1, depth) for frame in lexicon.CHINESE_LINKS.get(level, [])]
        links = [_fill(generator.choice(frames), generator, terms) for _ in range(2 * depth)]
        sentences = _interleave(generator, sentences, links)
    return "zh_explaining", domain, _BY_DEPTH[depth], "".join(sentences)


def _worked_mathematics(generator: random.Random) -> Made:
    """One or two solved problems with right numbers, sometimes among sentences about the subject."""
    depth = generator.choice([3, 4, 4, 5])
    parts = [generator.choice(worked.PROBLEMS)(generator) for _ in range(2 if depth == 3 else depth - 2)]
    if generator.random() < 0.6:
        links = lexicon.LINKS[3 if depth == 3 else 4]
        parts += [_fill(generator.choice(links), generator, lexicon.TERMS["mathematics"]) for _ in range(depth)]
    return "worked", "mathematics", _BY_DEPTH[depth], generator.choice([" ", "\n", "\n\n"]).join(parts)


def _worked_elsewhere(generator: random.Random) -> Made:
    """A calculation with quantities of a domain, and sentences that argue from it."""
    domain = generator.choice(["science", "engineering", "finance", "medicine"])
    terms = lexicon.TERMS[domain]
    parts = [worked.quantities(generator, generator.sample(terms, 3)) for _ in range(generator.randrange(1, 3))]
    frames = lexicon.LINKS[3] + lexicon.LINKS[4]
    parts += [_fill(generator.choice(frames), generator, terms) for _ in range(generator.randrange(2, 6))]
    parts.insert(1, _fill(generator.choice(lexicon.STATEMENTS[domain]), generator, terms))
    return "worked_quantities", domain, _BY_DEPTH[4], " ".join(parts)


def _number_list(generator: random.Random) -> Made:
    """Arithmetic without a word: one-step answers."""
    lines, chinese = [], generator.random() < 0.2
    sign, operation = generator.choice([("+", int.__add__), ("-", int.__sub__), ("x", int.__mul__), ("*", int.__mul__)])
    for number in range(1, generator.randrange(8, 30)):
        a, b = generator.randrange(2, 100), generator.randrange(2, 100)
        lines.append(generator.choice(["", f"{number}) "]) + f"{a} {sign} {b} = {operation(a, b)}")
    title = generator.choice(
        ["口算练习", "计算题"] if chinese else ["Practice sheet", "Answers", "Mental arithmetic", ""]
    )
    return "number_list", "mathematics", (1, 1, 1), "\n".join([title, *lines]).strip()


def _code_page(generator: random.Random, modules: list[tuple[str, str]]) -> Made:
    """A stretch of the standard library, bare or explained."""
    lines = generator.choice(modules)[1].splitlines()
    number = generator.randrange(*CODE_LINES)
    start = generator.randrange(max(1, len(lines) - number))
    code = "\n".join(lines[start : start + number])
    if generator.random() < 0.6:
        return "code_dump", "code", (2, 1, 1), code
    depth = generator.choice([3, 3, 4])
    terms = lexicon.TERMS["code"]
    frames = lexicon.LINKS[2] + lexicon.LINKS[3] + (lexicon.LINKS[4] if depth == 4 else [])
    links = [_fill(generator.choice(frames), generator, terms) for _ in range(generator.randrange(4, 10))]
    code = "\n".join(code.splitlines()[: generator.randrange(3, 12)])
    fence = generator.choice(["```\n{}\n```", "\n{}\n", "{}"])
    return (
        "code_explained",
        "code",
        _BY_DEPTH[depth],
        f"{' '.join(links[:2])}\n{fence.format(code)}\n{' '.join(links[2:])}",
    )


def _installed_page(generator: random.Random, prose: list[tuple[str, str]]) -> Made:
    """Language reference, docstrings, package descriptions; licences are law."""
    name, text = generator.choice(prose)
    size = generator.randrange(*TEXT_CHARACTERS)
    start = generator.randrange(max(1, len(text) - size))
    text = text[start : start + size]
    if name.startswith("topics/"):
        return "reference", "code", (4, 2, 3), text
    if name.startswith("docstrings/"):
        return "docstring", "code", (3, 1, 2), text
    if "/description" in name:
        return "readme", "code", (2, 1, 2), text
    return "licence", "law", (2, 1, 1), text


def _machine_text(generator: random.Random) -> Made:
    """Logs and settings."""
    term = lambda: generator.choice(lexicon.TERMS["code"]).replace(" ", "_")  # noqa: E731
    if generator.random() < 0.5:
        levels = ["INFO", "WARN", "DEBUG", "ERROR", "[error]", "notice:"]
        lines = [
            f"20{generator.randrange(10, 27)}-0{generator.randrange(1, 10)}-{generator.randrange(10, 29)} "
            f"{generator.randrange(10, 24)}:{generator.randrange(10, 60)}:{generator.randrange(10, 60)} "
            f"{generator.choice(levels)} {term()}.{term()} {generator.choice(['started', 'failed', 'took', 'retry'])} "
            f"{generator.randrange(1000)}"
            for _ in range(generator.randrange(5, 20))
        ]
        return "log", "code", (1, 0, 0), "\n".join(lines)
    settings = {term(): {term(): generator.randrange(100), term(): term()} for _ in range(generator.randrange(3, 9))}
    if generator.random() < 0.5:
        return "settings", "code", (2, 1, 1), json.dumps(settings, indent=2)
    rows = [
        f"{key}:\n" + "\n".join(f"  {name}: {value}" for name, value in part.items()) for key, part in settings.items()
    ]
    return "settings", "code", (2, 1, 1), "\n".join(rows)


def _plain_page(domain: str, frames: list[str], scores: tuple[float, float, float]) -> Callable[[random.Random], Made]:
    def make(generator: random.Random) -> Made:
        sentences = [
            _fill(frame, generator, []) for frame in generator.sample(frames, min(len(frames), _length(generator)))
        ]
        return "plain", domain, scores, generator.choice([" ", " ", "\n", "\n\n"]).join(sentences)

    return make


def _general_page(generator: random.Random) -> Made:
    sort = generator.choice(list(lexicon.GENERAL))
    frames = lexicon.GENERAL[sort]
    scores = {"recipe": (2, 1, 2), "household": (2, 2, 3), "notice": (1, 0, 0)}.get(sort, (1, 1, 1))
    sentences = [
        _fill(frame, generator, []) for frame in generator.sample(frames, generator.randrange(4, len(frames) + 1))
    ]
    return sort, "general", scores, generator.choice([" ", "\n"]).join(sentences)


def _table(generator: random.Random) -> Made:
    """Columns of numbers; what they are about shows in the header alone."""
    domain = generator.choice(["general", "science", "finance", "engineering"])
    words = lexicon.TERMS.get(
        domain, ["Team", "Points", "Goals", "Rank", "Day", "Rain", "Wind", "Time", "Name", "Stop"]
    )
    header = generator.sample(words, generator.randrange(3, 6))
    rows = [
        "  ".join(f"{generator.uniform(0, 10 ** generator.randrange(1, 4)):.{generator.randrange(3)}f}" for _ in header)
        for _ in range(generator.randrange(6, 16))
    ]
    return "table", domain, (2 if domain != "general" else 1, 0, 1), "\n".join(["  ".join(header), *rows])
