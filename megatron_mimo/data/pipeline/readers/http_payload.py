"""The body of a stored HTTP response, out of its transfer and content encodings."""

import io
import zlib
from typing import Any


class BadPayload(Exception):
    """The body is not what its headers say."""


class TooLarge(Exception):
    """The body unpacks to more than the limit."""


def http_payload(raw: bytes, headers: Any, max_bytes: int) -> bytes:
    """The content itself; raises BadPayload, or TooLarge above `max_bytes` (a compression bomb is not unpacked)."""
    if "chunked" in (headers.get("Transfer-Encoding") or "").lower():
        raw = _dechunked(raw)
    for encoding in reversed((headers.get("Content-Encoding") or "").lower().split(",")):
        raw = _unpacked(raw, encoding.strip(), max_bytes)
    if len(raw) > max_bytes:
        raise TooLarge
    return raw


def _dechunked(raw: bytes) -> bytes:
    """RFC 9112 section 7.1. Many crawlers keep the header of a body that they have put together: then it stays."""
    parts, at = [], 0
    while True:
        end = raw.find(b"\r\n", at)
        try:
            size = int(raw[at:end].split(b";")[0], 16) if end >= 0 else -1
        except ValueError:
            size = -1
        if size < 0:
            if not parts:
                return raw
            raise BadPayload(f"broken chunk at byte {at} of the body")
        if size == 0:
            return b"".join(parts)
        parts.append(raw[end + 2 : end + 2 + size])
        at = end + 2 + size + 2


def _unpacked(raw: bytes, encoding: str, max_bytes: int) -> bytes:
    if encoding in ("gzip", "x-gzip", "deflate"):
        if encoding != "deflate" and not raw.startswith(b"\x1f\x8b"):
            return raw  # the crawler unpacked it and kept the header
        wbits = 31 if encoding != "deflate" else (15 if raw[:1] == b"\x78" else -15)
        decoder = zlib.decompressobj(wbits=wbits)
        try:
            data = decoder.decompress(raw, max_bytes + 1)
        except zlib.error as error:
            raise BadPayload(f"content encoding {encoding}: {error}") from error
    elif encoding == "br":
        data = _unbrotlied(raw, max_bytes)
    else:
        return raw  # identity, or what no crawler stores
    if len(data) > max_bytes:
        raise TooLarge
    return data


def _unbrotlied(raw: bytes, max_bytes: int) -> bytes:
    from fastwarc.stream_io import BrotliReader

    try:
        return BrotliReader(io.BytesIO(raw)).read(max_bytes + 1)
    except OSError as error:
        raise BadPayload(f"content encoding br: {error}") from error
