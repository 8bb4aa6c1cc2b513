"""The rules of C4 and Gopher, case by case from the papers' wording."""

import pytest

from megatron_mimo.config import ConfigError
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.step import Task
from megatron_mimo.data.tag.heuristics import HeuristicsStep, c4_clean, gopher_quality, gopher_repetition

SUBJECTS = ["river", "teacher", "window", "garden", "letter", "bridge", "doctor", "story", "market", "engine"]
PROSE = "\n".join(
    f"The {a} stood near the old {b} and it had a {a}-like shape."
    for a, b in zip(SUBJECTS, SUBJECTS[::-1], strict=True)
)


def test_prose_passes_everything() -> None:
    assert c4_clean(PROSE) == (PROSE, "")
    assert gopher_quality(PROSE) == ""


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("This line ends with a full stop.", True),
        ("This line has no end", False),
        ("Too short.", False),
        ("Please enable Javascript to see this page.", False),
        ("By going on you accept our use of cookies.", False),
        ("And so it went on and on...", False),
        ('He said that it was "all right."', True),
    ],
)
def test_c4_lines(line: str, kept: bool) -> None:
    text, reason = c4_clean(f"{PROSE}\n{line}")
    assert reason == "" and (line in text.splitlines()) == kept


def test_c4_pages() -> None:
    assert c4_clean(PROSE + "\nint main() { return 0; }")[1] == "curly bracket"
    assert c4_clean(PROSE + "\nLorem ipsum dolor.")[1] == "lorem ipsum"
    assert c4_clean("This is one whole sentence here.\nAnd this is the second one.")[1] == "too few sentences"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("the and to of " * 12, "number of words"),
        ("the and to of " * 13, "mean word length"),
        ("a b " + "incomprehensibilities " * 60, "mean word length"),
        (PROSE + " #" * 20, "symbols"),
        ("\n".join(f"- {line}" for line in PROSE.splitlines()), "bullets"),
        ("\n".join(f"{line}..." for line in PROSE.splitlines()[:6]) + PROSE, "ellipses"),
        (PROSE + " 1234567" * 40, "words without letters"),
        ("Haus Baum Garten Strasse Fenster " * 12, "stop words"),
    ],
)
def test_gopher_quality(text: str, reason: str) -> None:
    assert gopher_quality(text) == reason


def test_gopher_repetition() -> None:
    words = [f"word{i}" for i in range(200)]
    unique = " ".join(words)
    assert gopher_repetition(unique) == ""
    assert gopher_repetition("\n".join([*words[:6], *words[:4]])) == "duplicate lines"
    assert gopher_repetition(" ".join(f"new york {word}" for word in words[:40])) == "top 2-gram"
    twice = " ".join(words[:100] + words[:100])
    assert gopher_repetition(twice) == "duplicate 5-grams"
    a_tenth_twice = " ".join(words + words[:22])
    assert gopher_repetition(a_tenth_twice) == ""


def test_step() -> None:
    task = Task()
    documents = [Document("good", PROSE), Document("bad", "x { y }")]
    assert [document.id for document in HeuristicsStep(rules="c4").run(documents, task)] == ["good"]
    assert task.counts["heuristics/dropped/c4: curly bracket"] == 1
    with pytest.raises(ConfigError):
        HeuristicsStep(rules="other")  # type: ignore[arg-type]
