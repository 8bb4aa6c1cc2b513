"""Peak memory and CPU time of an output head with its loss at MiMo-7B's vocabulary, forward and backward.

    python benchmarks/cross_entropy.py [--tokens 1024] [--hidden 1024] [--rounds 2]

Cases: the whole head (linear layer, then torch's cross entropy in fp32), the head that keeps its gradient in the place
of the logits (what training on a CPU does otherwise), torch's own fused `linear_cross_entropy` where this torch has it,
and the chunked head. Every case runs in its own process, in bf16, on one thread. "above inputs" is the growth of
the process's peak resident memory over hidden states, weight and the libraries; the weight's gradient is part of it.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

VOCAB_SIZE = 151_680
"""MiMo-7B's."""
MIB = 2**20
LIMIT_SECONDS = 600
CASES = {
    "whole": "linear, then cross_entropy in fp32",
    "in_place": "gradient overwrites the logits",
    "torch": "torch linear_cross_entropy, chunked by tokens",
    "chunked_16384": "chunked, 16 384 entries a slab",
    "chunked_4096": "chunked, 4 096 entries a slab",
    "chunked_1024": "chunked, 1 024 entries a slab",
}


def head(case: str) -> Callable:
    """hidden [r, h], weight [v, h], labels [r] -> losses [r], or None where this torch lacks the case."""
    import torch.nn.functional as F

    from megatron_mimo.model.chunked_cross_entropy import chunked_cross_entropy
    from megatron_mimo.model.torch_functions import CrossEntropyFunction

    if case == "whole":
        return lambda hidden, weight, labels: F.cross_entropy((hidden @ weight.t()).float(), labels, reduction="none")
    if case == "in_place":
        return lambda hidden, weight, labels: CrossEntropyFunction.apply(hidden @ weight.t(), labels)
    if case == "torch":
        return torch_head()
    slab = int(case.partition("_")[2])
    return lambda hidden, weight, labels: chunked_cross_entropy(hidden, weight, labels, slab)


def torch_head() -> Callable:
    """It gives a sum, for its gradient is made in the forward pass."""
    import torch
    import torch.nn.functional as F

    try:
        options = torch.nn.LinearCrossEntropyOptions()
        function = F.linear_cross_entropy
    except AttributeError:
        raise SystemExit(f"torch {torch.__version__} has no linear_cross_entropy") from None
    return lambda hidden, weight, labels: function(hidden, weight, labels, reduction="sum", options=options)


def measure(case: str, tokens: int, hidden_size: int) -> dict[str, float]:
    """Seconds of CPU time, bytes of peak resident memory above the inputs, and the loss, which all cases must share."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    hidden = torch.randn(tokens, hidden_size, dtype=torch.bfloat16).requires_grad_()
    weight = torch.randn(VOCAB_SIZE, hidden_size, dtype=torch.bfloat16).mul_(0.02).requires_grad_()
    labels = torch.randint(0, VOCAB_SIZE, (tokens,))
    run = head(case)
    # A few tokens first: libraries load and threads start before the measurement.
    run(hidden[:2].detach(), weight[:64].detach(), labels[:2] % 64)
    before, start = peak_bytes(), time.process_time()
    loss = run(hidden, weight, labels).sum()
    loss.backward()
    seconds = time.process_time() - start
    return {"seconds": seconds, "bytes": peak_bytes() - before, "loss": loss.item() / tokens}


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=2, help="the fastest round counts")
    parser.add_argument("--case", choices=CASES, help="measure one case and print JSON")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.case, options.tokens, options.hidden)))
        return
    logits = options.tokens * VOCAB_SIZE * 4 / MIB
    gradient = VOCAB_SIZE * options.hidden * 2 / MIB
    print(f"{options.tokens} tokens, hidden size {options.hidden}, vocabulary {VOCAB_SIZE}, bf16:")
    print(f"fp32 logits {logits:,.0f} MiB; the weight's gradient, which every case makes, {gradient:,.0f} MiB")
    print(f"{'head':<48}{'above inputs':>14}{'CPU time':>12}{'loss':>9}")
    for case, title in CASES.items():
        found = best_of(case, options)
        line = f"{found['bytes'] / MIB:>10,.0f} MiB{found['seconds']:>10.1f} s{found['loss']:>9.4f}" if found else "-"
        print(f"{title:<48}{line}", flush=True)


def best_of(case: str, options: argparse.Namespace) -> dict[str, float] | None:
    """The fastest round of a case, each in its own process; None where the case cannot run here."""
    command = [sys.executable, "-W", "ignore", __file__, "--case", case]
    command += ["--tokens", str(options.tokens), "--hidden", str(options.hidden)]
    rounds = []
    for _ in range(options.rounds):
        try:
            finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"{case}: stopped after {LIMIT_SECONDS} s", file=sys.stderr)
            return None
        if finished.returncode:
            return None
        rounds.append(json.loads(finished.stdout.splitlines()[-1]))
    return min(rounds, key=lambda found: found["seconds"])


if __name__ == "__main__":
    main()
