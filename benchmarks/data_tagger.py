"""Page taggers on hand-labelled pages, beside the rules of C4 and Gopher.

python benchmarks/data_tagger.py

Trains the linear and the language-model tagger on constructed pages (megatron_mimo/data/tag/construct.py), tags the
held-out pages of tests/tagged_pages (written by hand, trained on by nobody), and prints domain accuracy, Spearman rank
correlation of the scores, and what each filter drops: a page is dropped by the rules, or by the tagger when it is an
advertisement or a job posting or when its educational value is low. Speed is in CPU seconds of one core.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from megatron_mimo.data.tag.construct import construct
from megatron_mimo.data.tag.heuristics import apply_rules
from megatron_mimo.data.tag.labelled import LabelledPage, read_labelled
from megatron_mimo.data.tag.language_model import LanguageModelSettings, LanguageModelTagger
from megatron_mimo.data.tag.linear import LinearSettings, LinearTagger
from megatron_mimo.data.tag.schema import SCORES, Tags
from megatron_mimo.data.tag.tagger import Tagger, load_tagger

HELD_OUT = Path(__file__).parents[1] / "tests/tagged_pages/pages.jsonl"
UNWANTED = ("advertisement", "job_posting")
MIN_EDUCATIONAL_VALUE = 1.0


def main() -> int:
    args = _arguments()
    torch.set_num_threads(1)
    pages = read_labelled(HELD_OUT)
    print(f"{len(pages)} held-out pages, {args.pages} constructed pages to train on, seed {args.seed}\n")
    taggers = _taggers(args)
    found = {name: tagger.tag([page.text for page in pages]) for name, tagger in taggers.items()}
    _print_quality(pages, found)
    _print_filters(pages, found)
    _print_speed(pages, taggers)
    accuracy = max(_accuracy(pages, tags) for tags in found.values())
    return 0 if accuracy >= args.bar else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=6000, help="constructed training pages")
    parser.add_argument("--epochs", type=int, default=4, help="of the language-model tagger")
    parser.add_argument("--initial", type=Path, help="Hugging Face folder that the language model starts from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--bar", type=float, default=0.0, help="exit code 1 below this domain accuracy of the better tagger"
    )
    return parser.parse_args()


def _taggers(args: argparse.Namespace) -> dict[str, Tagger]:
    """Both taggers, trained, saved and read back."""
    made = construct(args.pages, args.seed)
    language_model = LanguageModelSettings(epochs=args.epochs, seed=args.seed)
    train: dict[str, Callable[[], Tagger]] = {
        "linear": lambda: LinearTagger.train(made, LinearSettings(seed=args.seed)),
        "language model": lambda: LanguageModelTagger.train(made, language_model, args.initial),
    }
    taggers = {}
    for name, run in train.items():
        started = time.process_time()
        tagger = run()
        print(f"{name}: trained in {time.process_time() - started:.0f} CPU s")
        with tempfile.TemporaryDirectory() as folder:
            tagger.save(Path(folder))
            taggers[name] = load_tagger(folder)
    return taggers


def _print_quality(pages: Sequence[LabelledPage], found: dict[str, list[Tags]]) -> None:
    print(f"\n{'':<36} {'domain':>8} {'  '.join(f'{score:>17}' for score in SCORES)}")
    print(f"{'':<36} {'accuracy':>8} {'  '.join(f'{chr(961):>17}' for _ in SCORES)}")
    for name, tags in found.items():
        for part_name in ("all", "en", "zh", "untouched half"):
            kept = [i for i, page in enumerate(pages) if _belongs(page, i, part_name)]
            part, got = [pages[i] for i in kept], [tags[i] for i in kept]
            row = [
                f"{spearman([getattr(t, s) for t in got], [getattr(p.tags, s) for p in part]):>17.3f}" for s in SCORES
            ]
            print(f"{name + ', ' + part_name + f' ({len(part)})':<36} {_accuracy(part, got):>8.1%} {'  '.join(row)}")
    for name, tags in found.items():
        wrong = [f"{p.tags.domain}->{t.domain}" for p, t in zip(pages, tags, strict=True) if p.tags.domain != t.domain]
        common = sorted(((wrong.count(pair), pair) for pair in set(wrong)), reverse=True)[:6]
        print(f"{name}: most frequent confusions: {', '.join(f'{pair} {number}' for number, pair in common)}")


def _belongs(page: LabelledPage, index: int, part_name: str) -> bool:
    """The other half of the pages had a say in the taggers' settings (tests/tagged_pages/README.md)."""
    if part_name == "untouched half":
        return index % 2 == 1
    return part_name in ("all", page.tags.language)


def _accuracy(pages: Sequence[LabelledPage], tags: Sequence[Tags]) -> float:
    return sum(page.tags.domain == tag.domain for page, tag in zip(pages, tags, strict=True)) / len(pages)


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation; equal values share their mean rank."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    return (array[:, None] > array).sum(1) + (array[:, None] == array).sum(1) / 2


def _print_filters(pages: Sequence[LabelledPage], found: dict[str, list[Tags]]) -> None:
    """Shares dropped: by default settings, then with the taggers dropping as many unwanted pages as the rules."""
    groups = {
        "mathematics": [p.tags.domain == "mathematics" for p in pages],
        "of it depth>=3": [p.tags.domain == "mathematics" and p.tags.reasoning_depth >= 3 for p in pages],
        "code": [p.tags.domain == "code" for p in pages],
        "of it value>=2": [p.tags.domain == "code" and p.tags.educational_value >= 2 for p in pages],
        "other, value>=3": [
            p.tags.domain not in ("mathematics", "code", *UNWANTED) and p.tags.educational_value >= 3 for p in pages
        ],
        "ads and jobs": [p.tags.domain in UNWANTED for p in pages],
    }
    for language in ("all", "en"):
        shown = [language in ("all", page.tags.language) for page in pages]
        print(f"\n{f'share dropped, {language}':<36}" + "".join(f"{name:>17}" for name in groups))
        dropped = {
            f"rules: {rules}": [bool(apply_rules(p.text, rules)[1]) for p in pages]
            for rules in ("c4", "gopher", "both")
        }
        unwanted = [a and b for a, b in zip(groups["ads and jobs"], shown, strict=True)]
        target = _share(dropped["rules: both"], unwanted)
        for name, tags in found.items():
            dropped[f"{name}: default"] = [unworthiness(tag) >= -MIN_EDUCATIONAL_VALUE for tag in tags]
            scores = np.array([unworthiness(tag) for tag in tags])
            limit = np.sort(scores[unwanted])[::-1][max(0, round(target * sum(unwanted)) - 1)]
            dropped[f"{name}: as many ads as the rules"] = list(scores >= limit)
        for name, flags in dropped.items():
            shares = [
                _share(flags, [a and b for a, b in zip(members, shown, strict=True)]) for members in groups.values()
            ]
            print(f"{name:<36}" + "".join(f"{share:>17.1%}" for share in shares))


def unworthiness(tags: Tags) -> float:
    """Higher is dropped earlier: low educational value; advertisements and job postings before everything else."""
    return (10.0 if tags.domain in UNWANTED else 0.0) - tags.educational_value


def _share(flags: Sequence[bool], members: Sequence[bool]) -> float:
    return sum(flag for flag, member in zip(flags, members, strict=True) if member) / max(sum(members), 1)


def _print_speed(pages: Sequence[LabelledPage], taggers: dict[str, Tagger]) -> None:
    texts = [page.text for page in pages] * 4
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    print(
        f"\n{'speed of one core':<36} {'pages/s':>10} {'MB/s':>8}   ({megabytes / len(texts) * 1e6:.0f} bytes per page)"
    )
    runs: dict[str, Callable[[], object]] = {
        name: lambda tagger=tagger: [tagger.tag(texts[i : i + 64]) for i in range(0, len(texts), 64)]
        for name, tagger in taggers.items()
    }
    runs["rules: both"] = lambda: [apply_rules(text, "both") for text in texts]
    for name, run in runs.items():
        started = time.process_time()
        run()
        seconds = time.process_time() - started
        print(f"{name:<36} {len(texts) / seconds:>10,.0f} {megabytes / seconds:>8.2f}")


if __name__ == "__main__":
    sys.exit(main())
