"""Reading Megatron's `.bin/.idx` pairs: checks with errors that help, and the tokens as one memory-mapped stream.

`.idx` is a header of 34 bytes (magic, version, dtype code, number of sequences n, number of document bounds d), then
n lengths (int32), n byte offsets (int64) and d bounds (int64), little-endian, and of multimodal data n modes (int8);
`.bin` is the tokens of all sequences. Only the header is read here: a stage cuts its samples from the stream of tokens,
documents end with the EOD token. `peer_pair.py` reads the rest of an index.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from megatron_mimo.config import UserError
from megatron_mimo.platform.files import file_sha256

OWN_WAY_OUT = (
    "\nNothing was changed. Copy the data folder again from where it came, or make it anew:"
    "\n    megatron-mimo data DATA.yaml overwrite=true"
)
MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")
DTYPES = {
    1: np.dtype(np.uint8),
    2: np.dtype(np.int8),
    3: np.dtype(np.int16),
    4: np.dtype(np.int32),
    5: np.dtype(np.int64),
    8: np.dtype(np.uint16),
}
FLOATS = {6: "float64", 7: "float32"}
VERIFIED_BYTES = 64 * 2**20
"""Checksums of files up to this size are always compared: it takes a blink."""


@dataclass(frozen=True)
class IndexHeader:
    """What the first bytes of an `.idx` file say."""

    dtype: np.dtype
    num_sequences: int
    num_bounds: int
    has_modes: bool = False
    """Whether a modality per sequence follows the bounds, as `IndexedDatasetBuilder(multimodal=True)` writes it."""

    @property
    def modes_offset(self) -> int:
        """Where the modes begin: the size of an `.idx` file without them."""
        return HEADER.size + 12 * self.num_sequences + 8 * self.num_bounds


def read_index_header(path: Path, way_out: str = OWN_WAY_OUT) -> IndexHeader:
    """Read and check an `.idx` header; raises UserError when the file is missing, foreign, corrupt or truncated.

    `way_out` ends the message: what to do about it.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing.{way_out}")
    with path.open("rb") as stream:
        raw = stream.read(HEADER.size)
    if len(raw) < HEADER.size:
        raise UserError(f"{path} is truncated: {len(raw)} bytes, its header alone has {HEADER.size}.{way_out}")
    magic, version, code, num_sequences, num_bounds = HEADER.unpack(raw)
    if magic == MAGIC and version == 1 and code in FLOATS:
        raise UserError(f"{path} says that its tokens are {FLOATS[code]} numbers: those are no token ids.{way_out}")
    if magic != MAGIC or version != 1 or code not in DTYPES:
        raise UserError(
            f"{path} is corrupt or no Megatron index: it starts with {raw[:9]!r}, version {version}, dtype code {code};"
            f" expected {MAGIC!r}, version 1, dtype code {', '.join(map(str, DTYPES))}.{way_out}"
        )
    plain, size = IndexHeader(DTYPES[code], num_sequences, num_bounds), path.stat().st_size
    if size not in (plain.modes_offset, plain.modes_offset + num_sequences):
        raise UserError(
            f"{path} is truncated or corrupt: its header promises {num_sequences} sequences in {plain.modes_offset}"
            f" bytes, the file has {size}.{way_out}"
        )
    return IndexHeader(plain.dtype, num_sequences, num_bounds, has_modes=size > plain.modes_offset)


def check_pair(prefix: Path, tokens: int, sequences: int, sha256: dict[str, str], verify: bool = False) -> IndexHeader:
    """Check a `.bin/.idx` pair against the manifest's counts and, where small or asked for, its checksums.

    Raises UserError naming the file, what is wrong with it, and the way out.
    """
    idx, bin_ = Path(f"{prefix}.idx"), Path(f"{prefix}.bin")
    header = read_index_header(idx)
    if header.num_sequences != sequences:
        raise UserError(f"{idx} holds {header.num_sequences} sequences, the manifest says {sequences}.{OWN_WAY_OUT}")
    if not bin_.is_file():
        raise UserError(f"{bin_} is missing.{OWN_WAY_OUT}")
    expected_bytes, found_bytes = tokens * header.dtype.itemsize, bin_.stat().st_size
    if found_bytes != expected_bytes:
        what = "truncated" if found_bytes < expected_bytes else "longer than it should be"
        raise UserError(f"{bin_} is {what}: {found_bytes} bytes, the manifest says {expected_bytes}.{OWN_WAY_OUT}")
    for path, kind in ((idx, "idx"), (bin_, "bin")):
        if (verify or path.stat().st_size <= VERIFIED_BYTES) and file_sha256(path) != sha256[kind]:
            raise UserError(f"{path} is corrupt: its SHA-256 is not the one in the manifest.{OWN_WAY_OUT}")
    return header


class TokenStream:
    """Tokens as one endless, circular sequence, which one or several files hold."""

    def __init__(self, pieces: Sequence[np.ndarray]) -> None:
        """`pieces`: the tokens in order, each an array of whole numbers, at least one of them not empty."""
        self.pieces = [piece for piece in pieces if len(piece)]
        self._ends = np.cumsum([len(piece) for piece in self.pieces])

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def tokens(self) -> np.ndarray:
        """All tokens; mapped where one file holds them, copied to int64 where several do."""
        return self.pieces[0] if len(self.pieces) == 1 else self.read(0, len(self))

    def read(self, start: int, length: int) -> np.ndarray:
        """`length` tokens (int64) from position `start`, going on at the beginning after the last token."""
        start %= len(self)
        if length > len(self):
            return np.take(self.read(0, len(self)), np.arange(start, start + length), mode="wrap")
        tokens, done = np.empty(length, dtype=np.int64), 0
        number = int(np.searchsorted(self._ends, start, side="right"))
        while done < length:
            piece = self.pieces[number]
            offset = len(piece) - int(self._ends[number]) + start if not done else 0
            part = piece[offset : offset + length - done]
            tokens[done : done + len(part)] = part
            done += len(part)
            number = (number + 1) % len(self.pieces)
        return tokens


def map_tokens(prefix: Path, dtype: np.dtype) -> np.ndarray:
    """The tokens of a `.bin` file, which must not be empty, mapped into memory."""
    return np.memmap(f"{prefix}.bin", dtype=dtype, mode="r")
