"""Conversations through the tokenizer's chat template, with the mask of the tokens to learn.

The template renders the whole conversation once, as inference engines would. An assistant's turn begins behind the
header that the template's generation prompt ends with, and ends with the token that closes a turn; both are special
tokens, and texts that contain special tokens are refused, so no message can forge a turn.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from megatron_mimo.config import UserError
from megatron_mimo.data.chat.conversation import BadRecord, Conversation
from megatron_mimo.data.chat.system_prompt import system_message
from megatron_mimo.data.tokens.tokenizer import eod_token_id

EMPTY_THINK = re.compile(r"<think>\s*</think>(\n\n)?")
_PROBE = "x"


@dataclass(frozen=True)
class EncodedSample:
    """Token ids int32 [n] and which of them are learned, bool [n]."""

    tokens: np.ndarray
    loss_mask: np.ndarray


class ChatTemplate:
    """The chat template of a Hugging Face tokenizer folder."""

    def __init__(self, folder: str | Path, ignore_empty_think: bool = False) -> None:
        """`ignore_empty_think`: an answer's empty think block is not learned.

        Raises UserError where the folder has no template, or one whose turns cannot be told apart.
        """
        from transformers import PreTrainedTokenizerFast  # seconds to import

        # Not AutoTokenizer: in a model's folder it would ask, on the terminal, to run the model's code.
        try:
            self._renderer: Any = PreTrainedTokenizerFast.from_pretrained(str(folder))
        except (OSError, ValueError) as error:
            raise UserError(f"{folder} holds no tokenizer: it needs tokenizer.json, tokenizer_config.json") from error
        if not self._renderer.chat_template:
            raise UserError(f"{folder} has no chat template: add chat_template to its tokenizer_config.json")
        self._tokenizer: Tokenizer = self._renderer.backend_tokenizer
        self._eod = eod_token_id(self._tokenizer)
        self._specials = [str(token) for token in self._renderer.all_special_tokens]
        self._ignore_empty_think = ignore_empty_think
        self._header, self._end = self._find_bounds(str(folder))
        self.own_system = self._find_own_system()
        """The system message that the template writes where a conversation has none; empty where it writes none."""

    def encode(self, conversation: Conversation) -> EncodedSample:
        """Tokens and loss mask; raises BadRecord for special tokens in a text and for what the template refuses."""
        if conversation.text is not None:
            self._refuse_special_tokens("plain", conversation.text)
            ids = [*self._tokenizer.encode(conversation.text, add_special_tokens=False).ids, self._eod]
            return EncodedSample(np.array(ids, dtype=np.int32), np.ones(len(ids), dtype=bool))
        text = self.render(conversation)
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        starts = np.array([start for start, _ in encoding.offsets])
        mask = np.zeros(len(starts), dtype=bool)
        for start, end in self.learned_spans(conversation, text):
            mask |= (starts >= start) & (starts < end)
        return EncodedSample(np.array(encoding.ids, dtype=np.int32), mask)

    def render(self, conversation: Conversation) -> str:
        """The text that an engine would see."""
        for message in conversation.messages:
            self._refuse_special_tokens(f"{message.role} turn's", message.content)
        messages = [message.for_template() for message in conversation.messages]
        text = self._apply(messages, conversation.tools)
        if conversation.tools and self._apply(messages, None) == text:
            raise BadRecord("the chat template leaves out the tools")
        without_calls = [{**message, "tool_calls": None} for message in messages]
        if (
            any("tool_calls" in message for message in messages)
            and self._apply(without_calls, conversation.tools) == text
        ):
            raise BadRecord("the chat template leaves out the tool calls")
        return text

    def _apply(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> str:
        try:
            return self._renderer.apply_chat_template(messages, tools=tools, tokenize=False)
        except Exception as error:  # templates raise whatever they like
            raise BadRecord(f"the chat template refuses it: {error}") from error

    def _refuse_special_tokens(self, whose: str, text: str) -> None:
        found = [token for token in self._specials if token in text]
        if found:
            raise BadRecord(f"the {whose} text contains the special token {found[0]}")

    def learned_spans(self, conversation: Conversation, text: str) -> list[tuple[int, int]]:
        """Characters [start, end) of every learned answer in the rendered text, its closing token included."""
        answers = [message for message in conversation.messages if message.role == "assistant"]
        starts = [match.end() for match in re.finditer(re.escape(self._header), text)]
        if len(starts) != len(answers):
            raise BadRecord(f"the chat template wrote {len(starts)} assistant turns for {len(answers)}")
        spans = []
        for start, answer in zip(starts, answers, strict=True):
            end = text.find(self._end, start)
            end = len(text) if end < 0 else end + len(self._end)
            if self._ignore_empty_think and (block := EMPTY_THINK.match(text, start, end)):
                start = block.end()
            if answer.learned:
                spans.append((start, end))
        return spans

    def _find_own_system(self) -> str:
        """What a conversation without a system message has more than one with an empty one."""
        user = [{"role": "user", "content": _PROBE}]
        try:
            without = self._apply(user, None)
            empty = self._apply([*system_message(""), *user], None)
        except BadRecord:  # it takes no system message, or no empty one
            return ""
        start = _common_length(without, empty)
        end = _common_length(without[start:][::-1], empty[start:][::-1])
        return without[start : len(without) - end]

    def _find_bounds(self, folder: str) -> tuple[str, str]:
        """The header of an assistant's turn and the special token that ends it, as the template writes them."""
        user = [{"role": "user", "content": _PROBE}]
        asked = self._renderer.apply_chat_template(user, tokenize=False)
        prompted = self._renderer.apply_chat_template(user, tokenize=False, add_generation_prompt=True)
        answered = self._renderer.apply_chat_template([*user, {"role": "assistant", "content": _PROBE}], tokenize=False)
        # A generation prompt may open or skip the thinking: in a whole conversation that is part of the answer.
        header = prompted[len(asked) :].split("<think>")[0]
        if not prompted.startswith(asked) or not header or header not in answered:
            raise UserError(f"{folder}: its chat template has no generation prompt that marks the assistant's turn")
        after = answered[answered.index(header) + len(header) :].split(_PROBE, 1)[-1]
        ends = [token for token in self._specials if token in after]
        if not ends:
            raise UserError(f"{folder}: its chat template ends the assistant's turn without a special token")
        return header, min(ends, key=after.index)


def _common_length(left: str, right: str) -> int:
    """Letters of the beginning that two texts share."""
    differing = (place for place, (one, other) in enumerate(zip(left, right, strict=False)) if one != other)
    return next(differing, min(len(left), len(right)))
