"""Small raw files of every kind, made on the spot."""

import gzip
from collections.abc import Callable

import pytest


def warc_record(number: int, body: bytes, headers: bytes = b"Content-Type: text/html; charset=utf-8\r\n") -> bytes:
    """A response record of a page, as a crawler stores it."""
    http = b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n" + body
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{number}>\r\n"
        f"WARC-Target-URI: http://example.org/{number}\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


def page_body(number: int) -> bytes:
    return f"<html><body><p>page {number}: {'word ' * (number % 5 + 20)}</p></body></html>".encode()


@pytest.fixture(scope="session")
def make_record() -> Callable[..., bytes]:
    return warc_record


@pytest.fixture(scope="session")
def members() -> list[bytes]:
    """Twelve gzip members of a WARC file, a page each."""
    return [gzip.compress(warc_record(number, page_body(number)), mtime=0) for number in range(12)]
