"""Train a page tagger: python tools/train_tagger.py OUTPUT --kind linear [--annotations pages.jsonl] [--pages 6000]

Training pages come from tools/annotate.py (a large model's labels), or, without --annotations, from construction.
"""

import argparse
import sys
from pathlib import Path

from megatron_mimo.config import UserError
from megatron_mimo.data.tag.annotate import annotated_pages
from megatron_mimo.data.tag.construct import construct
from megatron_mimo.data.tag.linear import LinearSettings, LinearTagger


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder of the tagger, for the step `tag`")
    parser.add_argument("--kind", choices=["linear", "language_model"], default="linear")
    parser.add_argument("--annotations", type=Path, help="JSONL of tools/annotate.py")
    parser.add_argument("--pages", type=int, default=6000, help="constructed pages, without --annotations")
    parser.add_argument("--initial", type=Path, help="Hugging Face folder that the language model starts from")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    settings = {"seed": args.seed} | ({"epochs": args.epochs} if args.epochs else {})
    try:
        pages = list(annotated_pages(args.annotations)) if args.annotations else construct(args.pages, args.seed)
        if args.kind == "linear":
            tagger = LinearTagger.train(pages, LinearSettings(**settings))
        else:
            from megatron_mimo.data.tag.language_model import LanguageModelSettings, LanguageModelTagger

            if args.initial:
                settings["learning_rate"] = 1e-4
            tagger = LanguageModelTagger.train(pages, LanguageModelSettings(**settings), args.initial, args.device)
            tagger.to("cpu")
        tagger.save(args.output)
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{args.output}: {args.kind} tagger of {len(pages):,} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
