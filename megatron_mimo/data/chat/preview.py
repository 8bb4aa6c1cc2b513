"""A sample as the terminal shows it: learned tokens in green, the others dim."""

from tokenizers import Tokenizer

from megatron_mimo.data.chat.template import EncodedSample

LEARNED, NOT_LEARNED, PLAIN = "\x1b[32m", "\x1b[2m", "\x1b[0m"
LEGEND = f"{LEARNED}learned{PLAIN} {NOT_LEARNED}not learned{PLAIN}"


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


def _marked(text: str, learned: bool, colour: bool) -> str:
    if not colour:
        return f"[[{text}]]" if learned else text
    # A colour ends at a line's end in some pagers.
    code = LEARNED if learned else NOT_LEARNED
    return "\n".join(f"{code}{line}{PLAIN}" for line in text.split("\n"))
