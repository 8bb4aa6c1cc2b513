#!/usr/bin/env bash
# Make the virtual environment .venv with the pinned packages of requirements/cpu.txt; does nothing when it is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."

stamp=.venv/requirements.sha256
wanted=$(cat requirements/cpu.txt setup.py megatron_mimo/data/dedup/_minhash.c | sha256sum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    exit 0
fi

python=""
for candidate in "${PYTHON:-}" python3.11 python3.12 python3; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "Python 3.11 or 3.12 is needed (Debian: apt-get install python3 python3-venv); or name one: PYTHON=/path/to/python" >&2
    exit 2
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "$python has no venv module (Debian: apt-get install python3-venv)" >&2
    exit 2
fi

echo "setting up .venv with $("$python" --version): about 200 packages, 3.5 GB on disk"
"$python" -m venv --clear .venv
pip=(.venv/bin/python -m pip --disable-pip-version-check --quiet)
# The lock is complete, and vLLM's own list would bring CUDA builds of packages that nothing here uses: no resolving.
torch=$(grep '^torch==' requirements/cpu.txt)
grep -v '^torch==' requirements/cpu.txt > .venv/without_torch.txt
if ! "${pip[@]}" install --no-deps "$torch" 2> .venv/torch.log; then
    echo "fetching the CPU build of torch from PyTorch's own index"
    "${pip[@]}" install --no-deps --index-url https://download.pytorch.org/whl/cpu "$torch"
fi
"${pip[@]}" install --no-deps -r .venv/without_torch.txt
"${pip[@]}" install --no-deps --no-build-isolation --editable .
# The judge's sandbox. Without it nothing runs model-written programs, and its tests are skipped.
if ! command -v bwrap > /dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        apt-get install --yes --quiet bubblewrap > /dev/null || echo "could not install bubblewrap" >&2
    fi
    command -v bwrap > /dev/null || echo "for the judge: apt-get install bubblewrap" >&2
fi
echo "$wanted" > "$stamp"
echo "environment ready: source .venv/bin/activate"
