#!/usr/bin/env bash
# Installs what a build needs and is missing; says exactly what to install where it may not. Repeat runs are instant.
#   setup.sh             what building and running need
#   setup.sh browser     and a headless Chromium, in which one test opens the page of `rlhf report`; without it the test skips
#   Debian packages by apt, as root or through sudo; libtorch from the pinned CPU wheel in .venv, unless Torch_DIR or
#   CMAKE_PREFIX_PATH names one.
set -euo pipefail
cd "$(dirname "$0")/.."

TORCH_VERSION=2.13.0
PACKAGES=(g++ cmake ninja-build ccache pkg-config nlohmann-json3-dev libyaml-cpp-dev libcli11-dev libfmt-dev
  libpcre2-dev libutf8proc-dev zlib1g-dev libxxhash-dev libhwy-dev libcpp-httplib-dev libedit-dev libmimalloc-dev libgtest-dev libbenchmark-dev
  libjs-chart.js python3-venv)

say() { printf 'setup: %s\n' "$*" >&2; }

missing=()
if command -v dpkg-query >/dev/null; then
  for package in "${PACKAGES[@]}"; do
    # A Python that can make virtual environments will do, whoever installed it.
    if [ "$package" = python3-venv ] && python3 -c 'import venv, ensurepip' 2>/dev/null; then continue; fi
    status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ]; then as_root=()
    elif sudo -n true 2>/dev/null || { [ -t 0 ] && command -v sudo >/dev/null; }; then as_root=(sudo)
    else
      say "these packages are missing and this user may not install them. HINT: ask for"
      say "  apt-get install ${missing[*]}"
      exit 2
    fi
    say "installing ${missing[*]}"
    "${as_root[@]}" apt-get update -q >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
  fi
else
  for tool in c++ cmake ninja pkg-config python3; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    say "not a Debian system, and these are missing: ${missing[*]}. HINT: install the equivalents of"
    say "  ${PACKAGES[*]}"
    exit 2
  fi
fi

if [ -z "${Torch_DIR:-}" ] && [ -z "${CMAKE_PREFIX_PATH:-}" ]; then
  if ! ls .venv/lib/python3*/site-packages/torch/share/cmake/Torch/TorchConfig.cmake >/dev/null 2>&1; then
    say "installing libtorch $TORCH_VERSION into .venv"
    python3 -m venv .venv
    # Only the library is wanted, so the wheel's Python dependencies stay out. The CPU build where an index offers it by
    # name; else whatever the index holds, which may be the larger CUDA build and then needs its libraries.
    .venv/bin/pip install -q --no-deps "torch==$TORCH_VERSION+cpu" >&2 2>/dev/null ||
      .venv/bin/pip install -q "torch==$TORCH_VERSION" >&2 || {
      say "the torch wheel could not be installed. HINT: set Torch_DIR to the folder of TorchConfig.cmake of a libtorch 2.11 to 2.13"
      exit 2
    }
  fi
fi

if [ "${1:-}" = browser ] && ! command -v chromium-headless-shell chromium chromium-browser google-chrome >/dev/null; then
  if [ "$(id -u)" = 0 ]; then as_root=(); else as_root=(sudo -n); fi
  # Not every distribution has it as a package, and no build needs it.
  { apt-cache show chromium-headless-shell >/dev/null 2>&1 || "${as_root[@]}" apt-get update -q >&2; } &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium-headless-shell >&2 ||
    say "no headless Chromium could be installed: the test of the report's page will skip. HINT: install chromium"
fi
