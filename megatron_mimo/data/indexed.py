"""Reading Megatron's `.bin/.idx` pairs: checks with errors that help, and the tokens as one memory-mapped stream.

`.idx` is a header of 34 bytes (magic, version, dtype code, number of sequences n, number of document bounds d), then
n lengths (int32), n byte offsets (int64) and d bounds (int64), little-endian; `.bin` is the tokens of all sequences.
Only the header is read here: a stage cuts its samples from the stream of tokens, documents end with the EOD token.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from megatron_mimo.config import UserError
from megatron_mimo.platform.files import file_sha256

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")
DTYPES = {4: np.dtype(np.int32), 8: np.dtype(np.uint16)}
VERIFIED_BYTES = 64 * 2**20
"""Checksums of files up to this size are always compared: it takes a blink."""


@dataclass(frozen=True)
class IndexHeader:
    """What the first bytes of an `.idx` file say."""

    dtype: np.dtype
    num_sequences: int
    num_bounds: int

    @property
    def file_bytes(self) -> int:
        """Size the whole `.idx` file must have."""
        return HEADER.size + 12 * self.num_sequences + 8 * self.num_bounds


def read_index_header(path: Path) -> IndexHeader:
    """Read and check an `.idx` header; raises UserError when the file is missing, foreign, corrupt or truncated."""
    if not path.is_file():
        raise UserError(f"{path} is missing.{_WAY_OUT}")
    with path.open("rb") as stream:
        raw = stream.read(HEADER.size)
    if len(raw) < HEADER.size:
        raise UserError(f"{path} is truncated: {len(raw)} bytes, its header alone has {HEADER.size}.{_WAY_OUT}")
    magic, version, code, num_sequences, num_bounds = HEADER.unpack(raw)
    if magic != MAGIC or version != 1 or code not in DTYPES:
        raise UserError(
            f"{path} is corrupt or no Megatron index: it starts with {raw[:9]!r}, version {version}, dtype code {code};"
            f" expected {MAGIC!r}, version 1, dtype code {' or '.join(map(str, DTYPES))}.{_WAY_OUT}"
        )
    header = IndexHeader(DTYPES[code], num_sequences, num_bounds)
    if path.stat().st_size != header.file_bytes:
        raise UserError(
            f"{path} is truncated or corrupt: its header promises {num_sequences} sequences in {header.file_bytes}"
            f" bytes, the file has {path.stat().st_size}.{_WAY_OUT}"
        )
    return header


def check_pair(prefix: Path, tokens: int, documents: int, sha256: dict[str, str], verify: bool = False) -> IndexHeader:
    """Check a `.bin/.idx` pair against the manifest's counts and, where small or asked for, its checksums.

    Raises UserError naming the file, what is wrong with it, and the way out.
    """
    idx, bin_ = Path(f"{prefix}.idx"), Path(f"{prefix}.bin")
    header = read_index_header(idx)
    if header.num_sequences != documents:
        raise UserError(f"{idx} holds {header.num_sequences} documents, the manifest says {documents}.{_WAY_OUT}")
    if not bin_.is_file():
        raise UserError(f"{bin_} is missing.{_WAY_OUT}")
    expected_bytes, found_bytes = tokens * header.dtype.itemsize, bin_.stat().st_size
    if found_bytes != expected_bytes:
        what = "truncated" if found_bytes < expected_bytes else "longer than it should be"
        raise UserError(f"{bin_} is {what}: {found_bytes} bytes, the manifest says {expected_bytes}.{_WAY_OUT}")
    for path, kind in ((idx, "idx"), (bin_, "bin")):
        if (verify or path.stat().st_size <= VERIFIED_BYTES) and file_sha256(path) != sha256[kind]:
            raise UserError(f"{path} is corrupt: its SHA-256 is not the one in the manifest.{_WAY_OUT}")
    return header


class TokenStream:
    """All tokens of a `.bin` file as one endless, circular sequence."""

    def __init__(self, prefix: Path, dtype: np.dtype) -> None:
        self.tokens = np.memmap(f"{prefix}.bin", dtype=dtype, mode="r")

    def __len__(self) -> int:
        return len(self.tokens)

    def read(self, start: int, length: int) -> np.ndarray:
        """`length` tokens (int64) from position `start`, going on at the beginning behind the last token."""
        start %= len(self.tokens)
        piece = self.tokens[start : start + length]
        if len(piece) < length:
            piece = np.take(self.tokens, np.arange(start, start + length), mode="wrap")
        return piece.astype(np.int64)


_WAY_OUT = (
    "\nNothing was changed. Copy the data folder again from where it came, or make it anew:"
    "\n    megatron-mimo preprocess DATA.yaml overwrite=true"
)
