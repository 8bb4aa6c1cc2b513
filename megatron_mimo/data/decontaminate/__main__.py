"""Make an index of benchmarks, or report what the step found.

megatron-mimo decontaminate BENCHMARKS.yaml [key=value ...]
megatron-mimo decontaminate --report FOLDER [REPORT.json]

FOLDER holds shards of documents that the step dropped or marked.
"""

import sys
from pathlib import Path

from megatron_mimo.config import UserError, load
from megatron_mimo.data.decontaminate.benchmarks import DecontaminateConfig, benchmark_texts
from megatron_mimo.data.decontaminate.index import build_index
from megatron_mimo.data.decontaminate.report import contamination_report, render
from megatron_mimo.data.pipeline.shards import read_documents, shard_paths
from megatron_mimo.platform.files import write_json


def main(arguments: list[str] | None = None) -> int:
    """Run one of the two commands; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments[:1] == ["--report"] and len(arguments) in (2, 3):
            _report(arguments[1], Path(arguments[2]) if len(arguments) == 3 else None)
        elif arguments and not arguments[0].startswith("-"):
            _build(load(DecontaminateConfig, arguments))
        else:
            print(__doc__)
            return 0 if arguments in (["-h"], ["--help"]) else 2
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _build(config: DecontaminateConfig) -> None:
    texts = [text for benchmark in config.benchmarks for text in benchmark_texts(benchmark)]
    index = build_index(texts, config.ngram_words)
    index.save(Path(config.output_dir))
    print(f"{config.output_dir}: {len(texts):,} texts, {index.num_ngrams:,} {config.ngram_words}-grams")


def _report(folder: str, output: Path | None) -> None:
    shards = shard_paths(folder)
    if not shards:
        raise UserError(f"no shards in {folder}: give the folder of a stage's dropped (or kept) documents")
    report = contamination_report(document for shard in shards for document in read_documents(shard))
    print(render(report))
    if output is not None:
        write_json(output, report)


if __name__ == "__main__":
    sys.exit(main())
