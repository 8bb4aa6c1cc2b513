"""Problems for RL from raw files, by the report's curation (section 3.1), a step at a time.

    megatron-mimo curate-problems form RAW.jsonl ... 1_form.jsonl --format math
    megatron-mimo curate-problems ngram_dedup   1_form.jsonl    2_dedup.jsonl
    megatron-mimo curate-problems decontaminate 2_dedup.jsonl   3_clean.jsonl  --index BENCHMARKS
    megatron-mimo curate-problems golden        3_clean.jsonl   4_golden.jsonl --slots 8
    megatron-mimo curate-problems difficulty    4_golden.jsonl  5_chosen.jsonl --config DIFFICULTY.yaml
    megatron-mimo curate-problems levels        5_chosen.jsonl  train.jsonl --rollouts 5_chosen.jsonl.rollouts.*

| step | what goes |
|---|---|
| form | proofs, multiple choice, mathematics without an answer, code without tests |
| ngram_dedup | repetitions over all problems |
| decontaminate | what shares an n-gram with a benchmark (index: megatron-mimo decontaminate) |
| golden | code whose golden solution fails a test |
| difficulty | what advanced models never solve, and what the model to be trained solves too often |
| levels | nothing: it gives code problems the difficulty levels of their tests |

Beside each output: what was dropped, with the reason, and a report with counts. `difficulty` asks models through
OpenAI-compatible endpoints and can be stopped and started again (rl/problems/difficulty_config.py has its settings).
"""

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from megatron_mimo.cli.command import exit_code, parser_of
from megatron_mimo.config import ConfigError
from megatron_mimo.platform.files import write_json
from megatron_mimo.rl.problems.readers import FORMATS


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    return exit_code(
        lambda: run(options), interrupted="interrupted; `difficulty` continues where it was when called again"
    )


def run(options: argparse.Namespace) -> None:
    """Run the step and print what it did; raises UserError."""
    *sources, output = (Path(path) for path in options.paths)
    if not sources:
        raise ConfigError("files", options.paths, "name the input and the output")
    if output in sources:
        raise ConfigError("output", str(output), "is an input too: name another file")
    if options.step != "form" and len(sources) > 1:
        raise ConfigError("files", options.paths, f"{options.step} reads one file; join raw files with `form`")
    report = STEPS[options.step](options, sources, output)
    print(f"{options.step}: " + ", ".join(f"{name} {value:,}" for name, value in report.items() if type(value) is int))
    print(f"-> {output}; next to it are what was dropped and the report")


def form(options: argparse.Namespace, sources: list[Path], output: Path) -> dict[str, Any]:
    from megatron_mimo.rl.problems.curate import beside, read_raw, run_step
    from megatron_mimo.rl.problems.curation import ProblemForm

    faults: list[tuple[str, str]] = []
    report = run_step(ProblemForm(), read_raw(sources, options.format, faults), output)
    report |= {"unreadable": len(faults)}
    write_json(beside(output, ".report.json"), report | {"unreadable_list": faults[:20]})
    return report


def pipeline_step(make: Callable[[argparse.Namespace], Any]) -> Callable[..., dict[str, Any]]:
    def run_it(options: argparse.Namespace, sources: list[Path], output: Path) -> dict[str, Any]:
        from megatron_mimo.rl.problems.curate import run_step
        from megatron_mimo.rl.problems.problem import read_problems

        return run_step(make(options), read_problems(sources[0]), output)

    return run_it


def ngram_dedup(options: argparse.Namespace) -> Any:
    from megatron_mimo.rl.problems.curation import NgramDedup

    return NgramDedup(ngram_words=options.ngram_words, max_share=options.max_share)


def decontaminate(options: argparse.Namespace) -> Any:
    from megatron_mimo.data.decontaminate.step import Decontaminate

    if not options.index:
        raise ConfigError("--index", "", "name the folder that megatron-mimo decontaminate made of the benchmarks")
    return Decontaminate(index=options.index)


def golden(options: argparse.Namespace) -> Any:
    from megatron_mimo.rl.problems.golden import GoldenSolution

    return GoldenSolution(num_slots=options.slots)


def difficulty(options: argparse.Namespace, sources: list[Path], output: Path) -> dict[str, Any]:
    from megatron_mimo.config.load import load
    from megatron_mimo.rl.problems.curate import difficulty as run_difficulty
    from megatron_mimo.rl.problems.difficulty_config import DifficultyConfig

    if not options.config:
        raise ConfigError("--config", "", "name a YAML file with the models to ask (docs/rl.md)")
    config = load(DifficultyConfig, [options.config, *options.set])
    return asyncio.run(run_difficulty(sources[0], output, config))


def levels(options: argparse.Namespace, sources: list[Path], output: Path) -> dict[str, Any]:
    from megatron_mimo.rl.problems.curate import levels as run_levels

    return run_levels(sources[0], output, [Path(path) for path in options.rollouts], options.scores)


STEPS: dict[str, Callable[..., dict[str, Any]]] = {
    "form": form,
    "ngram_dedup": pipeline_step(ngram_dedup),
    "decontaminate": pipeline_step(decontaminate),
    "golden": pipeline_step(golden),
    "difficulty": difficulty,
    "levels": levels,
}


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = parser_of(__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("paths", nargs="+", metavar="FILE", help="input (form: several), then the output")
    parser.add_argument("--format", default="native", choices=FORMATS, help="form: of the raw files (default native)")
    parser.add_argument("--ngram-words", type=int, default=8, help="ngram_dedup: words of an n-gram (default 8)")
    parser.add_argument("--max-share", type=float, default=0.5, help="ngram_dedup: share seen before (default 0.5)")
    parser.add_argument("--index", default="", help="decontaminate: folder with the index of the benchmarks")
    parser.add_argument("--slots", type=int, default=1, help="golden: programs judged at a time (default 1)")
    parser.add_argument("--config", default="", help="difficulty: YAML file with the models")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="difficulty: overrides")
    parser.add_argument("--rollouts", nargs="*", default=[], help="levels: rollout files that difficulty left")
    parser.add_argument(
        "--scores", nargs="+", type=float, default=[1.0, 1.0, 1.0], help="levels: score of each level, easiest first"
    )
    return parser
