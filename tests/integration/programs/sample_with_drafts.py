"""Shares of the tokens that vLLM samples with MTP drafts at temperatures 0.6, 0.2 and 0 (arguments: model, output)."""

import json
import sys
from collections import Counter
from pathlib import Path

PROMPTS, TOKENS = 30, 20
TEMPERATURES = (0.6, 0.2, 0.0)


def main(folder: str, output: Path) -> None:
    from vllm import LLM, SamplingParams

    from megatron_mimo.serve.vllm_plugin import register

    register()
    llm = LLM(
        folder,
        trust_remote_code=True,
        enforce_eager=True,
        max_num_seqs=16,
        seed=0,
        speculative_config={"method": "mtp", "num_speculative_tokens": 1},
    )
    requests = [(temperature, number) for number in range(PROMPTS) for temperature in TEMPERATURES]
    answers = llm.generate(
        [{"prompt_token_ids": [5, 6, 7 + number]} for _, number in requests],
        [SamplingParams(temperature=t, top_p=0.999, max_tokens=TOKENS, ignore_eos=True) for t, _ in requests],
        use_tqdm=False,
    )
    counts = {temperature: Counter() for temperature in TEMPERATURES}
    for (temperature, _), answer in zip(requests, answers, strict=True):
        counts[temperature].update(answer.outputs[0].token_ids)
    shares = [{token: n / (PROMPTS * TOKENS) for token, n in counts[t].items()} for t in TEMPERATURES]
    output.write_text(json.dumps(shares))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
