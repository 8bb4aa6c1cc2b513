"""General-purpose compressors as yardsticks of held-out text.

All documents of a source are compressed as one stream, which favours the compressor: later documents profit from
earlier ones. The plain compressors have NOT seen the training text, a language model has; `zstd -19 + training text` is
the fairer peer: the whole training text is its dictionary.
"""

import gzip
import lzma
import math

import zstandard

ZSTD_LEVEL = 19
MAX_WINDOW_LOG = 27


def gzip_bytes(text: bytes) -> int:
    """Size of `gzip -9` (with its 10-byte header and 8-byte trailer)."""
    return len(gzip.compress(text, compresslevel=9, mtime=0))


def xz_bytes(text: bytes) -> int:
    """Size of `xz -9e`."""
    return len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))


def zstd_bytes(text: bytes) -> int:
    """Size of `zstd -19`."""
    return len(zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(text))


class PrimedZstd:
    """`zstd -19` with the training text as a raw-content dictionary, its window wide enough to reach all of it."""

    def __init__(self, training_text: bytes, longest_bytes: int) -> None:
        """Index the training text once, for texts of up to `longest_bytes`."""
        reach_bytes = len(training_text) + longest_bytes
        window_log = min(max(math.ceil(math.log2(reach_bytes + 1)), 17), MAX_WINDOW_LOG)
        parameters = zstandard.ZstdCompressionParameters.from_level(
            ZSTD_LEVEL, source_size=reach_bytes, window_log=window_log, enable_ldm=True
        )
        self.dictionary = zstandard.ZstdCompressionDict(training_text, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        self.dictionary.precompute_compress(compression_params=parameters)
        self._compressor = zstandard.ZstdCompressor(dict_data=self.dictionary, compression_params=parameters)

    def compress(self, text: bytes) -> bytes:
        """One frame; `zstandard.ZstdDecompressor` with the same dictionary restores `text`."""
        return self._compressor.compress(text)

    def size_bytes(self, text: bytes) -> int:
        """Size of `text` compressed; the dictionary itself is not counted."""
        return len(self.compress(text))
