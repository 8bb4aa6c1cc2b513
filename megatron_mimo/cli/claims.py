"""What the report claims, what is shown of it here, and the studies that re-test it.

    megatron-mimo claims                     the list
    megatron-mimo claims 10                  one claim: what is shown here, what measures it, and what that cannot show
    megatron-mimo claims run mtp [--seeds 1,2,3] [--jobs 2]      run a study of claims/, or go on with it
    megatron-mimo claims report              verdicts from the results alone: an HTML page, and docs/claims.md
    megatron-mimo claims measure MODEL DATA OUTCOMES.json [--samples 16]
                                             a step of the studies: a model's numbers per problem, with pass@16
    megatron-mimo claims measure RL_RUN OUTCOMES.json            the same of an RL run

A command shows what holds at the size and on the machine where it runs.
"""

import argparse
import re
from pathlib import Path

from megatron_mimo.claims.statements import CLAIMS, NOT_YET
from megatron_mimo.cli.command import exit_code, parser_of
from megatron_mimo.config import UserError

LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")
FOLDER, WORK = Path("claims"), Path("runs/claims")
PAGE, DOC = "report.html", Path("docs/claims.md")


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = parser_of(__doc__)
    found.add_argument("action", nargs="?", default="list", help="a claim's number, run, report or measure")
    found.add_argument("names", nargs="*", help="of run: studies; of measure: files, see above")
    found.add_argument("--seeds", type=numbers, help="of run, with commas between (default: those of the study)")
    found.add_argument("--jobs", type=int, default=2, help="of run: runs at the same time, a core each (default 2)")
    found.add_argument("--samples", type=int, default=0, help="of measure: answers per problem, for pass@k (default 0)")
    found.add_argument("--folder", type=Path, default=FOLDER, help=f"of the studies (default {FOLDER})")
    found.add_argument("--work", type=Path, default=WORK, help=f"of the runs and the page (default {WORK})")
    return found


def numbers(text: str) -> list[int]:
    """`1,2,3`."""
    return [int(part) for part in text.split(",")]


def main(arguments: list[str] | None = None) -> int:
    """Do what is asked; returns the exit code."""
    options = parser().parse_args(arguments)
    actions = {"list": lambda: print(table()), "run": run, "report": report, "measure": measure_run}
    if options.action.isdigit():
        return exit_code(lambda: print(details(int(options.action))))
    if options.action not in actions:
        return exit_code(lambda: refuse(options.action, list(actions)))
    action = actions[options.action]
    return exit_code(action if options.action == "list" else lambda: action(options))


def refuse(action: str, known: list[str]) -> None:
    """Raise the UserError of an action that does not exist."""
    raise UserError(f"{action} is no action of claims: give a claim's number, or one of {', '.join(known)}")


def run(options: argparse.Namespace) -> None:
    """Run studies one after the other; raises UserError."""
    from megatron_mimo.claims.runs import Places, run_study
    from megatron_mimo.claims.study import studies_in

    studies = studies_in(options.folder)
    unknown = [name for name in options.names if name not in studies]
    if unknown or not options.names:
        raise UserError(f"name the studies to run; there are: {', '.join(studies)}")
    for name in options.names:
        study, places = studies[name], Places(options.folder / f"{name}.yaml", options.work)
        print(f"{name}: {study.title}; planned for {study.budget_core_minutes:.0f} core-minutes", flush=True)
        run_study(study, places, options.seeds or study.seeds, options.jobs, lambda line: print(line, flush=True))


def report(options: argparse.Namespace) -> None:
    """Write the page, and the verdicts into docs/claims.md where it is there; raises UserError."""
    from megatron_mimo.claims.page import html_page, markdown, replace_verdicts
    from megatron_mimo.claims.study import studies_in
    from megatron_mimo.claims.verdicts import judge
    from megatron_mimo.platform.files import write_text

    judged = judge(studies_in(options.folder), options.folder)
    options.work.mkdir(parents=True, exist_ok=True)
    write_text(options.work / PAGE, html_page(judged))
    if DOC.is_file():
        write_text(DOC, replace_verdicts(DOC, markdown(judged)))
    for one in judged:
        old = f"   ({one.num_stale} results of another version are not used)" if one.num_stale else ""
        print(f"{one.word:12} {one.name:24} {one.core_hours:6.2f} core-hours{old}")
    print(f"page: {options.work / PAGE}")


def measure_run(options: argparse.Namespace) -> None:
    """Write the outcomes of a model, or of an RL run; raises UserError."""
    from megatron_mimo.claims import measure, rl_outcomes

    paths = [Path(name) for name in options.names]
    if len(paths) == 3:
        measure.run(paths[0], paths[1], paths[2], options.samples)
    elif len(paths) == 2:
        rl_outcomes.run(paths[0], paths[1])
    else:
        raise UserError("give MODEL DATA OUTCOMES.json, or RL_RUN OUTCOMES.json")


def table() -> str:
    """A line for each claim, its command below."""
    lines = []
    for number, claim in enumerate(CLAIMS, 1):
        lines += [f"{number:>2}  ({claim.section}) {claim.text}", f"    {claim.command or NOT_YET}"]
    return "\n".join(lines)


def details(number: int) -> str:
    """Everything about one claim; raises UserError where there is none of this number."""
    if not 1 <= number <= len(CLAIMS):
        raise UserError(f"there are the claims 1 to {len(CLAIMS)}; {number} is none of them")
    claim = CLAIMS[number - 1]
    shown = LINK.sub(r"\1 (docs/\2)", claim.shown)
    lines = [
        f"{number}. {claim.text}",
        f"   report: section {claim.section}",
        f"   shown here: {shown}",
        f"   measured by: {claim.command or NOT_YET}",
    ]
    return "\n".join([*lines, *([f"   limits: {claim.limits}"] if claim.limits else [])])
