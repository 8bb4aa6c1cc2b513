"""Sentences in any writing system: where they end, and whether a text reads like one."""

import re

_ENDS = ".!?…‽。！？．｡।॥؟۔։።፧።၊။។៕᠃᠉꓿᭞᭟꩝꩞⸮჻"
"""Full stops of the scripts that have one: Latin, Greek, CJK, Devanagari, Arabic, Urdu, Armenian, Ethiopic, Burmese,
Khmer, Mongolian, Georgian and others (Unicode property Sentence_Terminal, without rare signs)."""
_CLOSERS = "\"'”’»›)\\]}」』）】》〉"
SENTENCE_END = re.compile(rf"[{_ENDS}][{_CLOSERS}]*(?=\s|$)|[。！？．｡।॥؟۔]")
"""The end of a sentence inside a text."""
ENDS_SENTENCE = re.compile(rf"[{_ENDS}][{_CLOSERS}\s]*$")
"""A text that ends like a sentence."""
ENDS_CLAUSE = re.compile(rf"[{_ENDS}:;,：；，、][{_CLOSERS}\s]*$")
"""A text that ends like a sentence or announces what follows."""
WITHOUT_STOPS = re.compile("[\u0e00-\u0eff\u0f00-\u0fff\u1980-\u19df]")
"""Thai, Lao, Tibetan and New Tai Lue: spaces or no sign at all end a sentence."""
_LONG_WITHOUT_STOP = 20
COMMA = re.compile("[,;:、，；：،؛]")


def reads_like_sentence(text: str) -> bool:
    """Whether a text ends like a sentence or a clause; always true of long texts in scripts without full stops."""
    if ENDS_CLAUSE.search(text[-12:]):
        return True
    return len(text) >= _LONG_WITHOUT_STOP and bool(WITHOUT_STOPS.search(text))
