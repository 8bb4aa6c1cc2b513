"""Push an exported model: python tools/push_to_hub.py FOLDER OWNER/NAME [--hub modelscope] [--private] [--dry-run]

Log in first with the hub's own command (`hf auth login`, `ms login`).
"""

import argparse
import sys
from pathlib import Path

from megatron_mimo.config import UserError
from megatron_mimo.convert.hub import ADDRESSES, files_to_push, push


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("repo_id", metavar="OWNER/NAME")
    parser.add_argument("--hub", choices=ADDRESSES, default="huggingface")
    parser.add_argument("--private", action="store_true")
    parser.add_argument("--message", default="Upload model")
    parser.add_argument("--dry-run", action="store_true", help="examine the folder and list what would be pushed")
    options = parser.parse_args()
    if options.repo_id.count("/") != 1:
        parser.error(f"{options.repo_id!r} is not of the form OWNER/NAME")
    try:
        files = files_to_push(options.folder)
        print(f"{ADDRESSES[options.hub]}/{options.repo_id}{' (private)' if options.private else ''}:")
        for path in files:
            print(f"  {path.stat().st_size:>14,}  {path.name}")
        if not options.dry_run:
            print(push(options.folder, options.repo_id, options.hub, options.private, options.message))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
