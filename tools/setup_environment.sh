#!/usr/bin/env bash
# Make the virtual environment .venv with the pinned packages of requirements/cpu.txt; does nothing when it is up to date.
# PYTHON=/path/to/python chooses the interpreter. The old .venv stays in place until the new one is whole.
set -euo pipefail
cd "$(dirname "$0")/.."

NEEDED_MB=4000
stamp=requirements.sha256
new=.venv.new

fail() { printf '%s\n' "$*" >&2; exit 2; }
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null; }
is_supported() { [[ "$(version_of "$1")" =~ ^3\.1[123]$ ]]; }

choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        [ -n "$(version_of "$PYTHON")" ] || fail "PYTHON=$PYTHON does not run; name a Python 3.11, 3.12 or 3.13, or unset PYTHON"
        is_supported "$PYTHON" || fail "PYTHON=$PYTHON is Python $(version_of "$PYTHON"); 3.11, 3.12 or 3.13 is needed"
        python=$PYTHON
        return
    fi
    for python in python3.11 python3.12 python3.13 python3; do
        if is_supported "$python"; then return; fi
    done
    fail "Python 3.11, 3.12 or 3.13 is needed (python3 here: $(version_of python3 || echo none))." \
        "Debian, Ubuntu: apt-get install python3 python3-venv. Or name one: PYTHON=/path/to/python3.13"
}

is_up_to_date() {
    [ -x .venv/bin/python ] && [ "$(cat ".venv/$stamp" 2> /dev/null)" = "$wanted" ] || return 1
    [ -z "${PYTHON:-}" ] || [ "$(version_of "$PYTHON")" = "$(version_of .venv/bin/python)" ]
}

pip_setting() {
    "$new/bin/python" -m pip config list 2> /dev/null | sed -n "s/^\(:env:\|global\|install\)\.$1='\(.*\)'$/\2/p" | head -n 1
}

# uv installs several times as fast as pip and shows what it does; it does not read where pip is configured to look.
choose_installer() {
    local pip=("$new/bin/python" -m pip --disable-pip-version-check)
    install=("${pip[@]}" install --no-compile)
    if ! "${pip[@]}" install --quiet --no-deps "$(grep '^uv==' requirements/cpu.txt)"; then
        echo "uv is not to be had: installing with pip, which takes several times as long"
        return
    fi
    install=("$new/bin/uv" pip install --python "$new/bin/python")
    local links index more certificates
    links=$(pip_setting find-links) index=$(pip_setting index-url) more=$(pip_setting extra-index-url)
    certificates=$(pip_setting cert)
    if [ -n "$links" ]; then export UV_FIND_LINKS=${UV_FIND_LINKS:-${links// /,}}; fi
    if [ -n "$index" ]; then export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}; fi
    if [ -n "$more" ]; then export UV_INDEX=${UV_INDEX:-$more} UV_INDEX_STRATEGY=unsafe-best-match; fi
    if [ -n "$certificates" ]; then export SSL_CERT_FILE=${SSL_CERT_FILE:-$certificates}; fi
}

# What was downloaded is kept, so a second try after a broken connection has less to do.
twice() {
    "$@" || { echo "trying once more" >&2; "$@"; }
}

install_packages() {
    # The lock is complete, and vLLM's own list would bring CUDA builds of packages that nothing here uses: no resolving.
    local torch index=()
    torch=$(grep '^torch==' requirements/cpu.txt)
    grep -v '^torch==' requirements/cpu.txt > "$new/without_torch.txt"
    echo "1/3 torch (200 MB)"
    if ! "${install[@]}" --no-deps --dry-run --quiet "$torch" > "$new/torch.log" 2>&1; then
        echo "    from PyTorch's own index, which has the CPU build"
        index=(--index-url https://download.pytorch.org/whl/cpu)
    fi
    twice "${install[@]}" --no-deps "${index[@]}" "$torch"
    echo "2/3 the other $(grep -c '==' "$new/without_torch.txt") packages"
    twice "${install[@]}" --no-deps -r "$new/without_torch.txt"
    echo "3/3 this checkout"
    "${install[@]}" --no-deps --no-build-isolation --editable .
}

# The judge's sandbox. Without it nothing runs model-written programs, and its tests are skipped.
install_sandbox() {
    if command -v bwrap > /dev/null; then return; fi
    if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        echo "installing bubblewrap with apt-get, system-wide: the judge's sandbox for model-written programs"
        apt-get install --yes --quiet bubblewrap > /dev/null || echo "could not install bubblewrap" >&2
    fi
    command -v bwrap > /dev/null || echo "for the judge, which runs model-written programs: apt-get install bubblewrap" >&2
}

# Scripts and activation name their environment's folder.
put_in_place() {
    grep -rlIF "$new" "$new/bin" "$new/pyvenv.cfg" | while IFS= read -r file; do
        sed -i 's/\.venv\.new/.venv/g' "$file"
    done
    echo "$wanted" > "$new/$stamp"
    rm -rf .venv.old
    if [ -e .venv ] || [ -L .venv ]; then mv .venv .venv.old; fi
    mv "$new" .venv
    rm -rf .venv.old
}

# Two terminals may start this at the same time; the second waits, and finds the work done.
if command -v flock > /dev/null; then
    exec 9< tools/setup_environment.sh
    flock --nonblock 9 || { echo "waiting for another setup_environment.sh in this folder"; flock 9; }
fi
# A set-up that was killed between its last two steps.
if [ ! -e .venv ] && [ -e .venv.old ]; then mv .venv.old .venv; fi
wanted=$(cat requirements/cpu.txt setup.py megatron_mimo/data/dedup/_minhash.c | sha256sum)
if [ -n "${PYTHON:-}" ]; then choose_python; fi
if is_up_to_date; then exit 0; fi
choose_python
"$python" -c 'import ensurepip, venv' 2> /dev/null \
    || fail "$python has no venv module (Debian, Ubuntu: apt-get install python3-venv, or python$(version_of "$python")-venv)"
free_mb=$(df -Pm . | awk 'NR == 2 { print $4 }')
[ "$free_mb" -ge "$NEEDED_MB" ] \
    || fail "$NEEDED_MB MB of disk are needed for .venv and its downloads; $PWD has $free_mb MB free"

echo "setting up .venv with Python $(version_of "$python") ($python): $(grep -c '==' requirements/cpu.txt) packages,"
echo "0.8 GB to download, 2.7 GB on disk; one to five minutes, most of it the download"
rm -rf "$new"
trap 'rm -rf "$new"; echo "the set-up did not finish; .venv is as it was. The same command starts again, downloads are kept" >&2' EXIT
"$python" -m venv --prompt .venv "$new"
choose_installer
install_packages
install_sandbox
put_in_place
trap - EXIT
echo "environment ready ($SECONDS s): source .venv/bin/activate"
