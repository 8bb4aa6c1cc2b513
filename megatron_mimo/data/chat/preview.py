"""Samples as a person checks them: learned tokens in green, the others dim, in the terminal or as a page."""

from collections.abc import Sequence

from tokenizers import Tokenizer

from megatron_mimo.data.chat.template import EncodedSample
from megatron_mimo.platform.page import escape, page, section

LEARNED, NOT_LEARNED, PLAIN = "\x1b[32m", "\x1b[2m", "\x1b[0m"
LEGEND = f"{LEARNED}learned{PLAIN} {NOT_LEARNED}not learned{PLAIN}"
BROKEN = "\ufffd"
"""What a part of a letter decodes to."""
PAGE_STYLE = """<style>
.tokens { font: 13px/1.9 ui-monospace, Consolas, monospace; overflow-wrap: anywhere; }
.tokens b, .tokens i { font-style: normal; font-weight: 400; border-radius: 3px; padding: 1px 0; white-space: pre-wrap;
  border-right: 1px solid var(--paper); }
.tokens b { background: color-mix(in srgb, var(--good) 26%, var(--card)); }
.tokens i { background: color-mix(in srgb, var(--rule) 45%, var(--card)); color: var(--ink-soft); }
</style>"""
EXPLANATION = "Every token with its label: green is learned, grey is read only. The mouse shows place and number."


def coloured(sample: EncodedSample, tokenizer: Tokenizer, colour: bool = True) -> str:
    """The text of a sample; every run of learned or other tokens in its colour, or in `[[...]]` without colours."""
    parts = []
    start = 0
    for end in range(1, len(sample.tokens) + 1):
        if end == len(sample.tokens) or sample.loss_mask[end] != sample.loss_mask[start]:
            text = tokenizer.decode(sample.tokens[start:end].tolist(), skip_special_tokens=False)
            parts.append(_marked(text, bool(sample.loss_mask[start]), colour))
            start = end
    return "".join(parts)


def preview_page(title: str, samples: Sequence[EncodedSample], tokenizer: Tokenizer) -> str:
    """A self-contained HTML page: each token of each sample in a box of the colour of its label."""
    sections = [
        section(
            f"Sample {number}",
            f'<div class="card tokens">{_boxes(sample, tokenizer)}</div>',
            note=f"{len(sample.tokens):,} tokens, {int(sample.loss_mask.sum()):,} of them learned",
        )
        for number, sample in enumerate(samples)
    ]
    return page(title, [PAGE_STYLE, f"<h1>{escape(title)}</h1><p class='soft'>{EXPLANATION}</p>", *sections])


def _boxes(sample: EncodedSample, tokenizer: Tokenizer) -> str:
    parts = []
    for place, (token, learned) in enumerate(zip(sample.tokens.tolist(), sample.loss_mask.tolist(), strict=True)):
        text = tokenizer.decode([token], skip_special_tokens=False)
        if BROKEN in text:  # part of a letter: its bytes, as the vocabulary spells them
            text = tokenizer.id_to_token(token) or text
        # A line break is a sign in its box, then a break.
        shown = escape(text).replace("\n", "\u21b5") or "\u2205"
        tag, label = ("b", "learned") if learned else ("i", "not learned")
        parts.append(f'<{tag} title="{place}: token {token}, {label}">{shown}</{tag}>{"<br>" * text.count(chr(10))}')
    return "".join(parts)


def _marked(text: str, learned: bool, colour: bool) -> str:
    if not colour:
        return f"[[{text}]]" if learned else text
    # A colour ends at a line's end in some pagers.
    code = LEARNED if learned else NOT_LEARNED
    return "\n".join(f"{code}{line}{PLAIN}" for line in text.split("\n"))
