"""Record by record: read, filter, tokenize, and write to the train or the held-out set; or refuse with a reason."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from megatron_mimo.config import ChatDataConfig, UserError
from megatron_mimo.data.chat.conversation import BadRecord, Conversation, read_conversation
from megatron_mimo.data.chat.filters import (
    THINK,
    BenchmarkOverlap,
    ResponsesPerQuery,
    incomplete_response,
    mixed_language,
)
from megatron_mimo.data.chat.record_forms import ignored_fields
from megatron_mimo.data.chat.samples import SampleWriter
from megatron_mimo.data.chat.template import ChatTemplate, EncodedSample
from megatron_mimo.data.document import Split, is_held_out

Filter = Callable[[Conversation], str | None]
DETAILS = re.compile(r"[:;,]| ['\"]")
"""Where a reason's details begin: records are counted by what stands before."""


@dataclass
class SourceCounts:
    """What became of one source's records."""

    records: int = 0
    train_samples: int = 0
    valid_samples: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """Number of records left out, by reason."""
    ignored: dict[str, int] = field(default_factory=dict)
    """Number of records with a field that nothing reads, by its name."""
    thinking: int = 0
    """Of the samples, those whose last answer begins with a think block."""
    template_system: int = 0
    """Conversations without a system message, where the chat template writes one of its own."""


class Refused(Exception):
    """A record that is left out; the message is the reason."""


class Intake:
    """Writes `train.*`, `valid.*` and `refused.jsonl` (place and reason of every record left out) into a folder."""

    def __init__(self, config: ChatDataConfig, folder: Path, seq_length: int) -> None:
        self._config, self._seq_length = config, seq_length
        self._template = ChatTemplate(config.tokenizer, config.ignore_empty_think)
        self._filters = filters_of(config)
        self._writers: dict[Split, SampleWriter] = {
            "train": SampleWriter(folder / "train"),
            "valid": SampleWriter(folder / "valid"),
        }
        self._refused = (folder / "refused.jsonl").open("w", encoding="utf-8")

    def take(self, place: str, record: Any, source: int, counts: SourceCounts) -> None:
        """One record of source number `source`; raises UserError for an unusable one where the settings say stop."""
        counts.records += 1
        try:
            conversation = self._conversation(record)
            sample = self._sample(conversation)
        except BadRecord as error:
            if self._config.on_bad_record == "stop":
                raise UserError(f"{place}: {error}; correct it, or set data.on_bad_record=skip") from error
            self._refuse(place, str(error), counts)
        except Refused as error:
            self._refuse(place, str(error), counts)
        else:
            held_out = is_held_out(json.dumps(record, sort_keys=True), self._config.valid_share)
            counts.train_samples += not held_out
            counts.valid_samples += held_out
            self._writers["valid" if held_out else "train"].add(sample, source)
            for name in ignored_fields(record):
                counts.ignored[name] = counts.ignored.get(name, 0) + 1
            counts.thinking += conversation.response.lstrip().startswith(THINK)
            counts.template_system += bool(self._template.own_system) and conversation.lacks_system

    def finish(self) -> None:
        """Close every file."""
        for writer in self._writers.values():
            writer.finish()
        self._refused.close()

    @property
    def own_system(self) -> str:
        """The system message that the chat template writes where a conversation has none; empty for none."""
        return self._template.own_system

    def _conversation(self, record: Any) -> Conversation:
        if isinstance(record, Exception):
            raise BadRecord(f"not JSON: {record}")
        return read_conversation(record).with_system(self._config.system)

    def _sample(self, conversation: Conversation) -> EncodedSample:
        for check in self._filters:
            if reason := check(conversation):
                raise Refused(reason)
        sample = self._template.encode(conversation)
        if len(sample.tokens) > self._seq_length:
            raise Refused(f"longer than seq_length={self._seq_length}: {len(sample.tokens)} tokens")
        if not sample.loss_mask.any():
            raise Refused("nothing to learn")
        return sample

    def _refuse(self, place: str, reason: str, counts: SourceCounts) -> None:
        kind = DETAILS.split(reason)[0]
        counts.refused[kind] = counts.refused.get(kind, 0) + 1
        self._refused.write(json.dumps({"place": place, "reason": reason}, ensure_ascii=False) + "\n")


def filters_of(config: ChatDataConfig) -> list[Filter]:
    """The filters that the settings ask for, in the order they are applied."""
    filters: list[Filter] = []
    if config.drop_incomplete:
        filters.append(incomplete_response)
    if config.drop_mixed_language:
        filters.append(mixed_language)
    if config.decontamination_index:
        filters.append(BenchmarkOverlap(config.decontamination_index))
    return [*filters, ResponsesPerQuery(config.max_responses_per_query)]
