"""What the fork server imports once for all programs of the tests (see support/warm.py): their libraries.

Never the programs themselves, which their processes run as `__main__`.
"""

import gc
from importlib import import_module

from megatron_mimo.platform import cpu

cpu.keep_compiler_out()
for library in ("scipy.optimize", "matplotlib.figure", "torch.utils.tensorboard", "transformers"):
    import_module(library)
for module in (
    "cli.evaluate",
    "cli.preprocess_job",
    "data.chat.dataset",
    "data.chat.prepare",
    "eval.run",
    "eval.task_scores",
    "rl.policy_trainer",
    "training.callbacks",
    "training.report",
    "training.trainer",
    "training.training_data",
):
    import_module(f"megatron_mimo.{module}")

# Children collect garbage at every save: they need not search, and so copy, what they share with this process.
gc.freeze()
