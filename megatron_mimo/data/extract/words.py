"""Sets of words, written as text."""


def words(text: str) -> frozenset[str]:
    """The words of a text as a set."""
    return frozenset(text.split())


def word_list(text: str) -> list[str]:
    """The words of a text in their order."""
    return text.split()
