"""Other extractors behind the same call: as a fall-back for pages on which ours finds nothing, or in its place."""

from collections.abc import Callable

from megatron_mimo.config import ConfigError

Extractor = Callable[[str, str], str]
"""(html, url) -> the main text, or an empty text."""


def _trafilatura() -> Extractor:
    from trafilatura import extract

    options = dict(output_format="markdown", include_formatting=True, include_tables=True)
    return lambda html, url: extract(html, url=url or None, **options) or ""


def _trafilatura_plain() -> Extractor:
    from trafilatura import extract

    return lambda html, url: extract(html, url=url or None, include_comments=False, fast=True) or ""


def _resiliparse() -> Extractor:
    from resiliparse.extract.html2text import extract_plain_text

    return lambda html, url: extract_plain_text(html, main_content=True)


def _readability() -> Extractor:
    from lxml.html import fromstring
    from readability import Document

    return lambda html, url: fromstring(Document(html, url=url).summary()).text_content()


PEERS: dict[str, Callable[[], Extractor]] = {
    "trafilatura": _trafilatura,
    "trafilatura_plain": _trafilatura_plain,
    "resiliparse": _resiliparse,
    "readability": _readability,
}
"""What loads each one; raises ImportError where it is not installed."""


def peer(name: str, key: str) -> Extractor:
    """The extractor of this name; raises ConfigError, naming the setting `key`, where there is none."""
    if name not in PEERS:
        raise ConfigError(key, name, f"unknown; known: {', '.join(PEERS)}")
    try:
        return PEERS[name]()
    except ImportError as error:
        raise ConfigError(
            key, name, f"is not installed ({error}): pip install {name.removesuffix('_plain')}"
        ) from error
