"""What every character means to the shingles: part of a word, its own token, nothing, or a separator.

- Letters, marks and numbers make tokens; everything else separates them. Case, compatibility forms (full width,
  superscripts) and diacritics are folded; digits are kept, because in mathematics they are the content.
- Combining diacritics (U+0300..U+036F) and the soft hyphen and joiners inside words are passed over.
- Scripts written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese ...) have no words to cut at: there
  every character is a token, so a 5-gram is five characters, some two to three words of Chinese.

The table is made from Python's own Unicode data; `fingerprint` names it, since a saved index is only good for the
table it was made with.
"""

import functools
import hashlib
import itertools
import unicodedata

import numpy as np

TABLE_LENGTH = 0x40000
"""Code points from here on (tags, private use) are separators."""
FOLDED_MASK = 0x1FFFFF
WORD = 1 << 24
ALONE = 1 << 25
IGNORED = 1 << 27

UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x3005, 0x3007),  # ideographic iteration mark, zero
    (0x3040, 0x312F),  # Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0xA4CF),  # Han, Yi
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9D),
    (0x20000, TABLE_LENGTH - 1),
)
_IGNORED = (*range(0x0300, 0x0370), 0x00AD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF)


@functools.cache
def character_table() -> np.ndarray:
    """uint32 [TABLE_LENGTH]: folded code point | class; 0 for separators."""
    table = np.arange(TABLE_LENGTH, dtype=np.uint32) | np.uint32(WORD)
    characters = [chr(code) for code in range(TABLE_LENGTH)]
    words = np.array([category[0] in "LMN" for category in map(unicodedata.category, characters)])
    table[~words] = 0
    for character in itertools.compress(characters, words):
        if character.lower() != character or not unicodedata.is_normalized("NFKD", character):
            table[ord(character)] = ord(_fold(character)) | WORD
    for first, last in UNSPACED:
        part = slice(first, last + 1)
        table[part] = np.where(words[part], table[part] & FOLDED_MASK | ALONE, table[part])
    table[list(_IGNORED)] = IGNORED
    return table


@functools.cache
def fingerprint() -> str:
    """Hash of the table, in hexadecimal."""
    return hashlib.sha256(character_table().astype("<u4").tobytes()).hexdigest()[:16]


def _fold(character: str) -> str:
    if character < "\x80":
        return character.lower()
    parts = unicodedata.normalize("NFKD", character)
    if len(parts) > 1 and not all(unicodedata.combining(mark) for mark in parts[1:]):
        parts = character
    lower = parts[0].lower()
    return lower if len(lower) == 1 else parts[0]
