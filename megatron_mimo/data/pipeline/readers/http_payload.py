"""The body of a stored HTTP response: its head, and its transfer and content encodings undone."""

import io
import re
import zlib
from typing import Any

import zstandard

_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?\s+(\d{3})")


class BadPayload(Exception):
    """The body is not what its headers say."""


class TooLarge(Exception):
    """The body unpacks to more than the limit."""


def split_response(raw: bytes) -> tuple[int, dict[str, str], bytes] | None:
    """(status, headers by name in title case, body) of a whole HTTP response; None when it is none."""
    status = _STATUS.match(raw)
    if status is None:
        return None
    head, _, body = raw.partition(b"\r\n\r\n") if b"\r\n\r\n" in raw else raw.partition(b"\n\n")
    headers = {}
    for line in head.splitlines()[1:]:
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            headers.setdefault(name.strip().title(), value.strip())
    return int(status.group(1)), headers, body


def http_payload(raw: bytes, headers: Any, max_bytes: int) -> tuple[bytes, bool]:
    """(the content itself, whether it was cut off).

    A body without its end, chunked or packed, is kept up to the cut. Raises BadPayload, or TooLarge above `max_bytes`
    (a compression bomb is not unpacked).
    """
    is_cut = False
    if "chunked" in (headers.get("Transfer-Encoding") or "").lower():
        raw, is_cut = _dechunked(raw)
    for encoding in reversed((headers.get("Content-Encoding") or "").lower().split(",")):
        raw, is_packed_cut = _unpacked(raw, encoding.strip(), max_bytes, is_cut)
        is_cut = is_cut or is_packed_cut
    if len(raw) > max_bytes:
        raise TooLarge
    return raw, is_cut


def _dechunked(raw: bytes) -> tuple[bytes, bool]:
    """RFC 9112 section 7.1. Many crawlers keep the header of a body that they have put together: then it stays."""
    parts, at = [], 0
    while at < len(raw):
        end = raw.find(b"\r\n", at)
        try:
            size = int(raw[at:end].split(b";")[0], 16) if end >= 0 else -1
        except ValueError:
            size = -1
        if size < 0:
            if not parts:
                return raw, False
            if end < 0 and len(raw) - at < 12:  # the size of the next chunk is cut
                return b"".join(parts), True
            raise BadPayload(f"broken chunk at byte {at} of the body")
        if size == 0:
            return b"".join(parts), False
        parts.append(raw[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return b"".join(parts), bool(parts)


def _unpacked(raw: bytes, encoding: str, max_bytes: int, is_cut: bool) -> tuple[bytes, bool]:
    if encoding in ("", "identity", "none", "utf-8", "binary", "8bit"):
        return raw, False
    try:
        data, is_packed_cut = _unpack(raw, encoding, max_bytes, is_cut)
    except (zlib.error, zstandard.ZstdError, OSError) as error:
        raise BadPayload(f"content encoding {encoding}: {error}") from error
    if len(data) > max_bytes:
        raise TooLarge
    return data, is_packed_cut


def _unpack(raw: bytes, encoding: str, max_bytes: int, is_cut: bool) -> tuple[bytes, bool]:
    """(content, whether its end is missing; brotli and zstd do not say)."""
    if encoding in ("gzip", "x-gzip"):
        if not raw.startswith(b"\x1f\x8b"):
            return raw, False  # the crawler unpacked it and kept the header
        return _inflated(raw, 31, max_bytes)
    if encoding == "deflate":
        return _inflated(raw, 15 if raw[:1] == b"\x78" else -15, max_bytes)
    if encoding == "br":
        from fastwarc.stream_io import BrotliReader

        return BrotliReader(io.BytesIO(raw)).read(max_bytes + 1), False
    if encoding == "zstd":
        if not raw.startswith(b"\x28\xb5\x2f\xfd"):
            return raw, False
        data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(raw)).read(max_bytes + 1)
        if not data and not is_cut:
            raise BadPayload("content encoding zstd: nothing in it")
        return data, False
    raise BadPayload(f"content encoding {encoding} is not known")


def _inflated(raw: bytes, wbits: int, max_bytes: int) -> tuple[bytes, bool]:
    decoder = zlib.decompressobj(wbits=wbits)
    data = decoder.decompress(raw, max_bytes + 1)
    return data, not decoder.eof and len(data) <= max_bytes
