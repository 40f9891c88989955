#!/usr/bin/env bash
# Pins everything that `make setup` installs, with hashes, for Python 3.11 to 3.13 at once.
#
# Reads the ranges in pyproject.toml, writes requirements/{build,dev,pcsc}.txt. The files name no download
# address: where packages come from is the business of the machine that installs them.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    "${PYTHON:-python3}" -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet uv
    uv=$work/venv/bin/uv
fi

compile() {
    "$uv" pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
        --no-emit-find-links "$@"
}

# One resolution for all, so that the three files agree; then one file for each step of the installation.
compile pyproject.toml --extra pcsc --group dev --group build --output-file "$work/all.txt"
pin() {
    local name=$1 what=$2
    shift 2
    compile --generate-hashes --constraint "$work/all.txt" --output-file "$work/$name.txt" "$@"
    {
        printf '# %s\n# Made by scripts/pin.sh from pyproject.toml; change the ranges there, then run: make pins\n' "$what"
        cat "$work/$name.txt"
    } >"requirements/$name.txt"
    printf 'requirements/%s.txt: %s packages\n' "$name" "$(grep -c '==' "requirements/$name.txt")"
}

echo pyscard >"$work/pcsc.in"
pin build "What builds this project and pyscard, as wheels." --group build
pin dev "What the program, its tests and its checks import." pyproject.toml --group dev
pin pcsc "PC/SC; source only on Linux, built with build.txt." "$work/pcsc.in"
