"""Studies: what is refused, what is run, what is kept, and that the page says what the results say."""

import json
import os
import re
import signal
from pathlib import Path

import pytest
import yaml

from megatron_mimo.claims.commands import SAMPLING_SECONDS, execute, words
from megatron_mimo.claims.page import END, START, html_page, markdown, replace_verdicts
from megatron_mimo.claims.results import read_runs
from megatron_mimo.claims.runs import Places, run_study
from megatron_mimo.claims.study import Study, read_study, studies_in
from megatron_mimo.claims.verdicts import judge
from megatron_mimo.config.errors import UserError
from support.paths import ROOT

PROGRAM = """
import json, random, sys
run, seed, shift = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
chance = random.Random(seed)
problems = {f"p{n}": chance.random() for n in range(20)}
noise = random.Random(f"{seed} {shift}")
found = {name: value + shift + 0.02 * noise.random() for name, value in problems.items()}
open(f"{run}/times.txt", "a").write("once\\n")
json.dump({"precision": "fp32", "outcomes": {"score": found}}, open(f"{run}/outcomes.json", "w"))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one study, whose arm `b` is better by 0.1 by construction."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    study = {
        "claim": 4,
        "title": "Is b better than a",
        "design": "Numbers.",
        "can_say": "Whether b is better.",
        "cannot_say": "Anything else.",
        "arms": [
            {"name": "a", "text": "the one", "settings": ["0"]},
            {"name": "b", "text": "the other", "settings": ["0.1"]},
        ],
        "steps": [f"python {program} {{run}} {{seed}} {{settings}}"],
        "questions": [
            {"text": "Is it higher?", "outcome": "score", "arm": "b", "baseline": "a", "expected": "more"},
            {
                "text": "Is it the same?",
                "outcome": "score",
                "arm": "b",
                "baseline": "a",
                "expected": "equal",
                "margin": 0.05,
            },
        ],
        "stopping_rule": "Three seeds.",
        "budget_core_minutes": 1,
    }
    studies = tmp_path / "claims"
    studies.mkdir()
    (studies / "example.yaml").write_text(yaml.safe_dump(study))
    return studies


def run(folder: Path, seeds: list[int]) -> list[str]:
    said: list[str] = []
    run_study(read_study(folder / "example.yaml"), places(folder), seeds, 2, said.append)
    return said


def places(folder: Path) -> Places:
    return Places(folder / "example.yaml", folder.parent / "work")


def test_a_study_is_run_kept_and_judged(folder: Path) -> None:
    run(folder, [1, 2, 3])
    runs = read_runs(places(folder).results)
    assert sorted((one.arm, one.seed) for one in runs) == [(arm, seed) for arm in "ab" for seed in (1, 2, 3)]
    assert all(one.core_seconds > 0 and one.cpu for one in runs)
    assert run(folder, [1, 2, 3]) == ["every run is there already"]
    assert "2 runs to go" in " ".join(run(folder, [3, 4]))
    (judged,) = judge(studies_in(folder), folder)
    assert judged.seeds == [1, 2, 3, 4]
    higher, same = judged.answers
    assert higher.effect.mean == pytest.approx(0.1, abs=0.02)
    assert (higher.word, same.word, judged.word) == ("agrees", "disagrees", "disagrees")


def test_a_run_that_another_study_has_made_is_taken_over(folder: Path) -> None:
    run(folder, [1, 2, 3])
    study = yaml.safe_load((folder / "example.yaml").read_text())
    study["arms"] = [study["arms"][1] | {"name": "better"}, {"name": "best", "text": "a third", "settings": ["0.2"]}]
    study["questions"] = [study["questions"][0] | {"arm": "best", "baseline": "better"}]
    (folder / "other.yaml").write_text(yaml.safe_dump(study))
    said: list[str] = []
    other = Places(folder / "other.yaml", folder.parent / "work")
    run_study(read_study(other.study), other, [1, 2, 3], 2, said.append)
    assert "3 runs to go: best/1, best/2, best/3" in said
    assert {(one.arm, one.seed) for one in read_runs(other.results)} == {
        (arm, seed) for arm in ("better", "best") for seed in (1, 2, 3)
    }
    before = {one.seed: one.outcomes for one in read_runs(places(folder).results) if one.arm == "b"}
    assert before == {one.seed: one.outcomes for one in read_runs(other.results) if one.arm == "better"}


def test_what_a_command_leaves_behind_is_counted(tmp_path: Path) -> None:
    """A process of its own session, which is no child any more when the command ends."""
    worked = tmp_path / "worked"
    work = (
        "import os, pathlib, time\nwhile time.process_time() < 2: pass\n"
        f"pathlib.Path({str(worked)!r}).write_text(str(os.getpid()))\ntime.sleep(600)"
    )
    program = tmp_path / "program.py"
    program.write_text(
        "import os, subprocess, sys, time\n"
        f"subprocess.Popen(['setsid', '--fork', sys.executable, '-c', {work!r}]).wait()\n"
        f"while not os.path.exists({str(worked)!r}): time.sleep(0.1)\n"
        f"time.sleep({1.5 * SAMPLING_SECONDS})\n"
    )
    try:
        assert execute(words(f"python {program}", {}), tmp_path / "log.txt") > 1
    finally:
        os.kill(int(worked.read_text()), signal.SIGKILL)


def test_before_all_runs_are_there_nothing_is_judged(folder: Path) -> None:
    run(folder, [1, 2])
    (judged,) = judge(studies_in(folder), folder)
    assert judged.word == "runs missing" and not judged.answers
    assert "runs missing" in html_page([judged]) and "difference" not in markdown([judged]).split("core-hours")[-1]


def test_a_changed_study_does_not_use_old_results(folder: Path) -> None:
    run(folder, [1, 2, 3])
    path = folder / "example.yaml"
    path.write_text(path.read_text().replace("'0.1'", "'0.3'"))
    (judged,) = judge(studies_in(folder), folder)
    assert judged.num_stale == 3 and judged.word == "runs missing"
    assert "3 runs to go: b/1, b/2, b/3" in run(folder, [1, 2, 3])
    (judged,) = judge(studies_in(folder), folder)
    assert judged.answers[0].effect.mean == pytest.approx(0.3, abs=0.02)


def test_an_outcome_is_compared_with_another_one_of_the_same_arm(folder: Path) -> None:
    run(folder, [1, 2, 3])
    path, results = folder / "example.yaml", places(folder).results
    study = yaml.safe_load(path.read_text())
    before = {"arm": "b", "baseline": "b", "outcome": "score", "baseline_outcome": "first", "expected": "more"}
    study["questions"] = [{"text": "Did it rise?", **before}]
    path.write_text(yaml.safe_dump(study))
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    for line in lines:
        line["outcomes"]["first"] = {name: value - 0.5 for name, value in line["outcomes"]["score"].items()}
    results.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (judged,) = judge(studies_in(folder), folder)
    (answer,) = judged.answers
    assert answer.effect.mean == pytest.approx(0.5) and answer.word == "agrees"
    assert "for b's first" in markdown([judged]) and "for b's score" in markdown([judged])


def test_a_failed_run_says_why_and_the_others_stay(folder: Path) -> None:
    run(folder, [1, 2])
    program = folder.parent / "program.py"
    program.write_text("raise SystemExit('no luck')")
    with pytest.raises(UserError, match=r"(?s)exit code 1.*no luck"):
        run(folder, [1, 2, 3])
    assert len(read_runs(places(folder).results)) == 4
    program.write_text("pass")
    with pytest.raises(UserError, match=r"left no .*outcomes\.json"):
        run(folder, [1, 2, 3])


def test_runs_with_other_problems_are_not_compared(folder: Path) -> None:
    run(folder, [1, 2, 3])
    results = places(folder).results
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    del lines[0]["outcomes"]["score"]["p3"]
    results.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match="other problems"):
        judge(studies_in(folder), folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"questions": [{"text": "", "outcome": "s", "arm": "c", "baseline": "a", "expected": "more"}]}, "one of a, b"),
        ({"questions": [{"text": "", "outcome": "s", "arm": "b", "baseline": "a", "expected": "equal"}]}, "margin"),
        ({"questions": [{"text": "", "outcome": "s", "arm": "b", "baseline": "b", "expected": "more"}]}, "differ"),
        ({"seeds": [1]}, "two or more"),
        ({"steps": ["python x.py {run}"]}, "settings"),
        ({"arms": [{"name": "a", "text": "alone"}]}, "two or more"),
    ],
)
def test_a_study_that_decides_nothing_is_refused(folder: Path, change: dict, message: str) -> None:
    path = folder / "example.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        read_study(path)


def test_commands_are_words_not_a_shell(folder: Path) -> None:
    command = words("python x.py {run} {settings}", {"run": "a b; rm c"}, ["k=$(v)", "l={run}"])
    assert command[1:] == ["x.py", "a b; rm c", "k=$(v)", "l=a b; rm c"]
    with pytest.raises(UserError, match="starts with"):
        words("curl {run}", {"run": "a"})


def test_the_page_holds_what_the_results_say(folder: Path, tmp_path: Path) -> None:
    run(folder, [1, 2, 3])
    judged = judge(studies_in(folder), folder)
    html, text = html_page(judged), markdown(judged)
    assert "Is b better than a" in html and html.count("<circle") == 6
    assert "| 4 | Is b better than a | disagrees | 3 |" in text
    assert re.search(r"difference \+0\.(09|10|11)", text) and "`megatron-mimo claims run example --seeds 1,2,3`" in text
    page = tmp_path / "claims.md"
    page.write_text(f"# before\n{START}\nold\n{END}\nafter\n")
    assert replace_verdicts(page, text) == f"# before\n{text}\nafter\n"
    page.write_text("nothing")
    with pytest.raises(UserError, match="has no part"):
        replace_verdicts(page, text)


STUDIES = studies_in(ROOT / "claims")


def test_the_committed_verdicts_are_those_of_the_committed_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    doc = ROOT / "docs" / "claims.md"
    assert replace_verdicts(doc, markdown(judge(STUDIES, ROOT / "claims"))) == doc.read_text(encoding="utf-8"), (
        "megatron-mimo claims report writes it anew"
    )


@pytest.mark.parametrize("name", STUDIES)
def test_the_questions_of_a_study_are_measured_by_its_last_step(name: str) -> None:
    study: Study = STUDIES[name]
    assert "outcomes.json" in study.steps[-1]
    assert all(len(text) > 30 for text in (study.design, study.can_say, study.cannot_say, study.stopping_rule))
    assert len(study.seeds) >= 3
    for step in [*study.world, *study.steps]:
        assert words(step, {"run": "R", "world": "W", "seed": "1"})
