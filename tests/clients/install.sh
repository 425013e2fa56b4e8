#!/bin/sh
# Installs what the client tests need: the pinned packages of every folder with a client or a server.
#
# Python packages go into one virtual environment in target/clients/python, Node packages into each folder's node_modules.
# What the projects of `entra-mcp tools new` need goes into target/clients/tools-js and target/clients/tools-python.
# Running it again is quick: a folder is installed anew only when its lock file changed. Lock files have the hashes of all
# packages, which npm and pip check.
set -eu

clients=$(cd "$(dirname "$0")" && pwd)
target=${ENTRA_MCP_CLIENTS:-$clients/../../target/clients}
mkdir -p "$target"

# Succeeds if the lock file is the one that was installed last.
installed() {
    [ -f "$2" ] && cmp -s "$1" "$2"
}

for lock in "$clients"/*/package-lock.json; do
    [ -f "$lock" ] || continue
    folder=$(dirname "$lock")
    stamp=$folder/node_modules/.installed-lock
    if ! installed "$lock" "$stamp"; then
        echo "Installing Node packages of $(basename "$folder")"
        (cd "$folder" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error)
        mkdir -p "$folder/node_modules"
        cp "$lock" "$stamp"
    fi
done

for lock in "$clients"/*/requirements.txt; do
    [ -f "$lock" ] || continue
    name=$(basename "$(dirname "$lock")")
    stamp=$target/$name.installed-requirements
    if [ ! -x "$target/python/bin/python" ]; then
        python3 -m venv "$target/python"
        rm -f "$target"/*.installed-requirements
    fi
    if ! installed "$lock" "$stamp"; then
        echo "Installing Python packages of $name"
        "$target/python/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement "$lock"
        cp "$lock" "$stamp"
    fi
done

templates=$clients/../../host/app/src/commands/tools/templates

folder=$target/tools-js
mkdir -p "$folder"
if ! installed "$templates/js/package-lock.json" "$folder/node_modules/.installed-lock"; then
    echo "Installing what builds tools in JavaScript"
    cp "$templates/js/package.json" "$templates/js/package-lock.json" "$folder"
    (cd "$folder" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error)
    cp "$templates/js/package-lock.json" "$folder/node_modules/.installed-lock"
fi

folder=$target/tools-python
if ! installed "$templates/python/requirements.txt" "$folder/.installed-requirements"; then
    echo "Installing what builds tools in Python"
    python3 -m venv --clear "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement "$templates/python/requirements.txt"
    cp "$templates/python/requirements.txt" "$folder/.installed-requirements"
fi
