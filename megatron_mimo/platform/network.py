"""Addresses on this machine."""

import socket


def free_port(host: str = "127.0.0.1") -> int:
    """A port of `host` ("": of every interface) that nobody listens on now; another process may still take it first."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]
