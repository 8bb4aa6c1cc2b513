"""Problem files -> the prompts of a run, in the tokens the engines get."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.config.data import split_record_count
from megatron_mimo.config.rl import RLDataConfig
from megatron_mimo.data.chat.system_prompt import system_message
from megatron_mimo.rl.problems.problem import Problem, read_problems
from megatron_mimo.rl.sample import Prompt

Say = Callable[[str], None]


class PromptEncoder:
    """Text <-> tokens by the tokenizer folder of the run."""

    def __init__(self, config: RLDataConfig) -> None:
        """Raises UserError where the folder holds no tokenizer, or no chat template although one is asked for."""
        from transformers import PreTrainedTokenizerFast  # seconds to import

        # Not AutoTokenizer: in a model's folder it would ask, on the terminal, to run the model's code.
        try:
            self._tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(config.tokenizer)
        except (OSError, ValueError) as error:
            raise UserError(f"data.tokenizer = {config.tokenizer!r} is no tokenizer folder: {error}") from error
        if config.use_chat_template and not self._tokenizer.chat_template:
            raise UserError(
                f"{config.tokenizer} has no chat template: add one, or set data.use_chat_template=false to complete "
                "the problem's text as it is"
            )
        self._use_chat_template, self._system = config.use_chat_template, config.system

    def encode(self, text: str) -> tuple[int, ...]:
        """Tokens of a problem as the model is asked it."""
        if self._use_chat_template:
            asked = [*system_message(self._system), {"role": "user", "content": text}]
            text = self._tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of a response, without special tokens."""
        return self._tokenizer.decode(list(tokens), skip_special_tokens=True)


def load_problems(paths: list[str]) -> dict[str, Problem]:
    """Problems of the files by id; `PATH#1000` takes 1000 of one, the same ones whatever stands beside them.

    Raises UserError for a broken line and for an id that stands twice.
    """
    problems: dict[str, Problem] = {}
    for path in paths:
        file, count = split_record_count("data: problem file", path)
        found = list(read_problems(Path(file)))
        if count is not None:
            found = sorted(found, key=lambda problem: hashlib.sha256(problem.id.encode()).digest())[:count]
        for problem in found:
            if problem.id in problems:
                raise UserError(f"{path}: problem id {problem.id!r} stands twice; give every problem an id of its own")
            problems[problem.id] = problem
    return problems


def encode_problems(
    problems: Iterable[Problem], encoder: PromptEncoder, max_prompt_tokens: int, say: Say = print
) -> list[Prompt]:
    """Prompts of the problems that fit `max_prompt_tokens`; `say` tells how many did not."""
    prompts = [
        Prompt(id=problem.id, tokens=encoder.encode(problem.prompt), domain=problem.source or problem.kind)
        for problem in problems
    ]
    fitting = [prompt for prompt in prompts if len(prompt.tokens) <= max_prompt_tokens]
    if len(fitting) < len(prompts):
        longest = max(prompts, key=lambda prompt: len(prompt.tokens))
        say(
            f"{len(prompts) - len(fitting):,} of {len(prompts):,} problems left out: their prompts are longer than "
            f"{max_prompt_tokens:,} tokens (the longest, {longest.id}: {len(longest.tokens):,})"
        )
    return fitting
