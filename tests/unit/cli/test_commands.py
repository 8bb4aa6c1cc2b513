"""The table of commands: names that a person knows, old ones, words that start like options."""

import ast
from pathlib import Path

import pytest

from megatron_mimo.claims.statements import CLAIMS
from megatron_mimo.cli import main
from megatron_mimo.cli.commands import COMMANDS, OLD_NAMES

ROOT = Path(__file__).parents[3]
PROMISED = """quickstart init data tokenize extract mixture plan pretrain sft rl export import push draft serve chat
evaluate compare judge claims checkpoints report gpu-check doctor"""


def test_every_promised_command_exists() -> None:
    assert set(PROMISED.split()) <= set(COMMANDS)


def test_every_command_has_a_module_with_main() -> None:
    for name, command in COMMANDS.items():
        path = ROOT / Path(*command.module.split(".")).with_suffix(".py")
        functions = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        assert "main" in functions, name


def test_old_names_work_and_say_the_new_one(capsys: pytest.CaptureFixture[str]) -> None:
    for old, new in OLD_NAMES.items():
        assert old not in COMMANDS and new[0] in COMMANDS
        try:
            code = main([old, "--help"])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        said = capsys.readouterr()
        assert code == 0
        assert f"megatron-mimo {old} is now: megatron-mimo {' '.join(new)}" in said.err
        assert f"megatron-mimo {' '.join(new)}" in said.out


@pytest.mark.parametrize("words", [["help"], ["--help"], ["-h"], []])
def test_help_lists_all(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in COMMANDS)


def test_help_of_a_command_by_either_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "--help"]) == main(["help", "pretrain"]) == 0
    first, second = capsys.readouterr().out.split("usage:")[1:]
    assert first.strip() == second.strip()


def test_mixture_names_its_three_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mixture", "sovle"]) == 2
    assert "choose measure, solve or check" in capsys.readouterr().err


def test_draft_refuses_to_train_the_whole_model(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(ROOT / "examples" / "nano" / "pretrain.yaml")
    for ranks in ([], ["--nproc", "2"]):
        assert main(["draft", recipe, *ranks]) == 2
        assert "start.train" in (said := capsys.readouterr().err) and "pretrain trains all" in said


def test_the_commands_of_claims_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims"]) == 0
    listed = capsys.readouterr().out
    assert listed.count("\n") == 2 * len(CLAIMS)
    for claim in CLAIMS:
        for command in claim.commands:
            words = command.split()
            if words[0] == "megatron-mimo":
                assert words[1] in COMMANDS
            else:
                assert words[0] == "python" and (ROOT / words[1]).is_file(), command
    assert main(["claims", "99"]) == 2
