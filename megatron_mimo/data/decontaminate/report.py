"""What matched what: JSON and a table, from the documents that the step dropped or marked."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from megatron_mimo.data.decontaminate.step import METADATA_KEY
from megatron_mimo.data.document import Document


def contamination_report(documents: Iterable[Document]) -> dict[str, Any]:
    """Counts by benchmark, and each match: document, URL, benchmark, item, n-gram. Clean documents are passed over."""
    matches = [
        {"document": document.id, "url": document.url, **match}
        for document in documents
        for match in document.metadata.get(METADATA_KEY, [])
    ]
    benchmarks = sorted({match["benchmark"] for match in matches})
    return {"benchmarks": {name: _counts(name, matches) for name in benchmarks}, "matches": matches}


def _counts(benchmark: str, matches: list[dict[str, Any]]) -> dict[str, int]:
    own = [match for match in matches if match["benchmark"] == benchmark]
    return {"documents": len({match["document"] for match in own}), "items": len({match["item"] for match in own})}


def render(report: dict[str, Any], shown: int = 20) -> str:
    """The report as text: a table by benchmark, then the `shown` items that matched most documents."""
    lines = [f"{'benchmark':<24} {'documents':>10} {'items':>8}"]
    lines += [f"{name:<24} {c['documents']:>10,} {c['items']:>8,}" for name, c in report["benchmarks"].items()]
    often = Counter((match["benchmark"], match["item"]) for match in report["matches"])
    example = {(match["benchmark"], match["item"]): match for match in reversed(report["matches"])}
    lines += ["", f"{'benchmark item':<40} {'documents':>10}  first document and n-gram"]
    for key, number in often.most_common(shown):
        match = example[key]
        lines.append(f"{' '.join(key):<40} {number:>10,}  {match['document']}: {match['ngram']}")
    return "\n".join(lines)
