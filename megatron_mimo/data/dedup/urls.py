"""One spelling for the URLs of one page.

What is taken for the same page (RFC 3986 sections 6.2.2 and 6.2.3, then conventions of the web):

- scheme: http and https are one; its case, the host's case, a dot at the host's end, `www.` (also `www2.`), user name
  and password, and the scheme's default port do not count; a host's Unicode and punycode spellings are one;
- path: `.` and `..` are resolved, repeated and trailing slashes dropped, session ids (`;jsessionid=...`) dropped;
- percent-encoding: `%7e` is `~`, `%2f` in a path is `/`, what must be encoded is encoded as UTF-8 with capital digits;
- query: tracking parameters, session ids and empty pieces are dropped, the rest is sorted; `+` is a space;
- fragment: dropped, except `#!...` and `#/...`, by which scripts address pages of their own.

The path's case and the query's values count: they are different pages on many hosts. Text that is no http(s) URL
comes back stripped and otherwise unchanged.
"""

import functools
import re
from urllib.parse import SplitResult, quote_from_bytes, unquote_to_bytes, urlsplit

TRACKING = re.compile(
    r"utm_\w+|ga_\w+|hsa_\w+|mtm_\w+|pk_\w+|oly_\w+|vero_\w+|_hs\w+|__hs\w+|at_(?:medium|campaign|source|custom\d)"
    r"|spm|scm|spm_id_from|share_\w+|from_source|vd_source"
    r"|[gdwy]clid|gclsrc|gbraid|wbraid|fbclid|msclkid|ttclid|twclid|igshid|igsh|li_fat_id|yclid|srsltid|epik"
    r"|mc_cid|mc_eid|mkt_tok|_ga|_gl|_openstat|ref_src|ref_url|cmpid|ocid|ncid|trk|trkcampaign|sc_campaign|ito",
    re.IGNORECASE,
)
"""Names of parameters that say where a reader came from."""
SESSION = re.compile(
    r"(?:php_?sess_?id|j_?session_?id|asp\.?net_?session_?id|aspsessionid\w*|cfid|cftoken|osc_?sid|zenid)(?:=.*)?"
    r"|(?:session_?id|sess_?id|sid)=[0-9a-z]{24,}",
    re.IGNORECASE | re.DOTALL,
)
"""Parameters that carry a reader's session; under the names that pages use for their own numbers, long ones only."""
_SESSION_IN_PATH = re.compile(r";(?:jsessionid|phpsessid|sid)=[^/;]*|\((?:S|A|F)\([0-9a-z]{24}\)\)/", re.IGNORECASE)
_WWW = re.compile(r"^www\d?\.(?=[^.]+\.)")
_PLAIN = re.compile(r"[A-Za-z0-9/\-._~]*")
_SIMPLE = re.compile(
    r"https?://([a-z0-9\-.]+)(/[A-Za-z0-9/\-._~]*)?(?:\?([A-Za-z0-9/\-._~&=]*))?(?:#[A-Za-z0-9\-._~]*)?"
)
"""Most URLs: nothing to decode, no port, no session in the path, no fragment that counts. Host, path, query."""
_UNRESERVED_IN_PATH = "/:@!$&'()*+,;=-._~"
_UNRESERVED_IN_QUERY = "/:@!$'()*,;?-._~"
_DEFAULT_PORTS = {"http": 80, "https": 443}


def canonical_url(url: str) -> str:
    """The URL's canonical spelling, without a scheme: `host[:port]/path[?query][#!...]`.

    It is a fixed point under a scheme: canonical_url("http://" + canonical_url(url)) == canonical_url(url).
    """
    url = url.strip()
    if simple := _SIMPLE.fullmatch(url):
        host, path, query = simple.groups("")
        return _WWW.sub("", host.rstrip(".")) + _path(path) + _query(query)
    try:
        parts = urlsplit(url)
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            return url
        return _host(parts) + _path(parts.path) + _query(parts.query) + _fragment(parts.fragment)
    except ValueError:  # an unclosed bracket, a port that is no number
        return url


def _host(parts: SplitResult) -> str:
    host = (parts.hostname or "").rstrip(".")
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            host = _encode(host, "")
    if ":" in host:
        host = f"[{host}]"
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return _WWW.sub("", host) + port


def _path(path: str) -> str:
    kept: list[str] = []
    path = _SESSION_IN_PATH.sub("", path)
    if not _PLAIN.fullmatch(path):
        path = _encode(path, _UNRESERVED_IN_PATH)
    for part in path.split("/"):
        if part == "..":
            kept[-1:] = []
        elif part not in ("", "."):
            kept.append(part)
    return "/" + "/".join(kept) if kept else ""


def _query(query: str) -> str:
    if not query:
        return ""
    kept = []
    for piece in query.split("&"):
        name, equals, value = piece.partition("=")
        if name and not _is_tracking(name) and not SESSION.fullmatch(piece):
            kept.append(_encode_query(name) + equals + _encode_query(value))
    return "?" + "&".join(sorted(kept)) if kept else ""


@functools.lru_cache(4096)
def _is_tracking(name: str) -> bool:
    return TRACKING.fullmatch(name) is not None


def _fragment(fragment: str) -> str:
    return "#" + _encode(fragment, _UNRESERVED_IN_QUERY) if fragment[:1] in ("!", "/") and len(fragment) > 1 else ""


def _encode_query(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else _encode(text.replace("+", "%20"), _UNRESERVED_IN_QUERY)


def _encode(text: str, safe: str) -> str:
    return quote_from_bytes(unquote_to_bytes(text.encode("utf-8", "surrogatepass")), safe)
