"""Greedy vLLM generation, with every draft written down.

Usage: record_drafts.py REQUESTS.json ANSWERS.json, both by name. Request: `model`, `prompts` (token ids),
`max_tokens`, `engine` (settings of `LLM`), `plugin` (whether to switch ours on), `times` (how often to generate).
Answer, of the last time: `outputs` (token ids of each prompt) and `drafts`, for each prompt a list of
`[position, [token, ...]]`: what was proposed once the token at `position` + 1 was known.

Every request has a process and an engine of its own, forked from this one, which has imported vLLM and no more.
"""

import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any


def main(requests: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    import vllm.v1.spec_decode.eagle
    import vllm.v1.worker.cpu_model_runner  # noqa: F401  what `LLM` imports late

    context, answers = multiprocessing.get_context("fork"), {}
    for name, request in requests.items():
        mine, its = context.Pipe()
        process = context.Process(target=lambda request=request, its=its: its.send(generate(request)))
        process.start()
        its.close()
        answers[name] = mine.recv()
        process.join()
    return answers


def generate(request: dict[str, Any]) -> dict[str, Any]:
    from vllm import LLM, SamplingParams
    from vllm.v1.spec_decode.eagle import EagleProposer

    if not request["plugin"]:
        os.environ["VLLM_PLUGINS"] = ""
    proposer: type = EagleProposer
    if request["plugin"]:
        from megatron_mimo.serve.mtp_proposer import ParallelMTPProposer
        from megatron_mimo.serve.vllm_plugin import register

        register()
        proposer = ParallelMTPProposer
    drafts = record(proposer)
    engine = LLM(
        request["model"], trust_remote_code=True, enforce_eager=True, disable_log_stats=False, **request["engine"]
    )
    sampling = SamplingParams(temperature=0.0, max_tokens=request["max_tokens"], ignore_eos=True)
    prompts = [{"prompt_token_ids": prompt} for prompt in request["prompts"]]
    for _ in range(request["times"]):
        outputs = engine.generate(prompts, sampling, use_tqdm=False)
    counters = {m.name: getattr(m, "values", getattr(m, "value", None)) for m in engine.get_metrics()}
    return {
        "outputs": [list(output.outputs[0].token_ids) for output in outputs],
        "drafts": [drafts.get(output.request_id, []) for output in outputs],
        "accepted_per_position": counters.get("vllm:spec_decode_num_accepted_tokens_per_pos"),
        "rounds": counters.get("vllm:spec_decode_num_drafts"),
    }


def record(proposer: type) -> dict[str, list]:
    """Every proposal from now on, by request id. The last accepted row is where vLLM samples the first draft."""
    drafts: dict[str, list] = {}
    propose = proposer.propose

    def recording(self, **settings):
        metadata, positions = settings["common_attn_metadata"], settings["target_positions"]
        rows = settings["token_indices_to_sample"]
        rows = metadata.query_start_loc[1:] - 1 if rows is None else rows
        proposed_after = positions[rows.long()].tolist()
        proposed = propose(self, **settings)
        request_ids = self.test_runner.input_batch.req_ids
        for name, position, tokens in zip(request_ids, proposed_after, proposed.tolist(), strict=True):
            drafts.setdefault(name.rsplit("-", 1)[0], []).append([position, tokens])
        return proposed

    def remembering_runner(self, vllm_config, device, runner=None):
        construct(self, vllm_config, device, runner)
        self.test_runner = runner

    construct = proposer.__init__
    proposer.propose, proposer.__init__ = recording, remembering_runner
    return drafts


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
