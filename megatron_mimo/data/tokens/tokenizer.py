"""Byte-level BPE in the form of the Qwen tokenizer: single digits, the Qwen special tokens, a ChatML template.

Unlike Qwen's there is no Unicode normalization: decoding gives the very bytes back.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from megatron_mimo.config import UserError
from megatron_mimo.platform.files import write_text

EOD_TOKEN = "<|endoftext|>"
TURN_END_TOKEN = "<|im_end|>"
SPECIAL_TOKENS = [
    EOD_TOKEN, "<|im_start|>", TURN_END_TOKEN, "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
    "<|repo_name|>", "<|file_sep|>",
]  # fmt: skip
_PRE_TOKENIZATION = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{%- for message in messages if message['role'] != 'system' or message['content'] %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn a byte-level BPE of exactly `vocab_size` tokens, special tokens (the last ids) included.

    Raises UserError when the texts are too few for that many merges.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(Regex(_PRE_TOKENIZATION), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    if tokenizer.get_vocab_size() != vocab_size:
        raise UserError(
            f"the texts gave a vocabulary of {tokenizer.get_vocab_size()} tokens instead of {vocab_size}:"
            " give more text, or ask for a smaller tokenizer.vocab_size"
        )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the Hugging Face folder that `AutoTokenizer.from_pretrained` and vLLM load; tokenizer.json comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": EOD_TOKEN,
        "pad_token": EOD_TOKEN,
        "bos_token": None,
        "unk_token": None,
        "additional_special_tokens": SPECIAL_TOKENS[1:],
        "model_max_length": 131072,
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
        "chat_template": CHAT_TEMPLATE,
    }
    write_text(folder / "tokenizer_config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True))


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Read `tokenizer.json` of a Hugging Face folder; raises UserError when it is missing or broken."""
    path = _tokenizer_file(folder)
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise UserError(
            f"{path} is not a tokenizer: {error}\nGet the folder again, or make it with megatron-mimo data"
        ) from error


def eod_token_id(tokenizer: Tokenizer) -> int:
    """Id of the end-of-document token; raises UserError when the tokenizer has none."""
    token = tokenizer.token_to_id(EOD_TOKEN)
    if token is None:
        raise UserError(f"the tokenizer has no {EOD_TOKEN} token, which ends every document: use a Qwen-style one")
    return token


def tokenizer_sha256(folder: str | Path) -> str:
    """SHA-256 of `tokenizer.json`: what ties tokenized data and checkpoints to their tokenizer."""
    return hashlib.sha256(_tokenizer_file(folder).read_bytes()).hexdigest()


def _tokenizer_file(folder: str | Path) -> Path:
    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"no tokenizer at {path}: point data.tokenizer at a Hugging Face tokenizer folder")
    return path


def encode_documents(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text with the end-of-document token behind; text that looks like a special token stays text."""
    eod = eod_token_id(tokenizer)
    previous, tokenizer.encode_special_tokens = tokenizer.encode_special_tokens, True
    try:
        return [[*encoding.ids, eod] for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    finally:
        tokenizer.encode_special_tokens = previous
