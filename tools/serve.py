"""`megatron-mimo serve` as a script: an OpenAI-compatible vLLM server, drafting with the model's MTP layers.

python tools/serve.py MODEL_DIR    (--help lists the options)
"""

import sys

from megatron_mimo.serve.command import main

if __name__ == "__main__":
    sys.exit(main())
