#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds and runs every test. Closes on ctest's summary; exit status 0 if all is well.
#
#   ./tests/run.sh            dev build (g++), sanitizer build with fuzz targets (clang++), all their tests
#   ./tests/run.sh --quick    dev build and its tests only
#   ./tests/run.sh --tsan     also a build with the thread sanitizer
#   ./tests/run.sh --clang    the dev build by clang++ 14 in place of the default compiler
#
# JOBS (default: the processors) compilers and TEST_JOBS (default 2) test programs run at a time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec < /dev/null

usage() { sed -n '3,10s/^# \{0,1\}//p' "$0"; }

sanitize=yes
tsan=no
clang=no
for argument in "$@"; do
  case "$argument" in
    --quick) sanitize=no ;;
    --tsan) tsan=yes ;;
    --clang) clang=yes ;;
    -h | --help) usage; exit 0 ;;
    *) echo "run.sh: unknown option $argument" >&2; usage >&2; exit 2 ;;
  esac
done
jobs=${JOBS:-$(nproc)}
test_jobs=${TEST_JOBS:-2}
fuzz_total=600  # seconds for all fuzz targets together; each gets a minute at most
builds=()       # folders with tests for the closing ctest
status=0

phase_name=""
phase() {  # phase NAME: prints how long the previous one took
  [ -z "$phase_name" ] || printf -- '--- %s: %d s\n' "$phase_name" $((SECONDS - phase_start))
  phase_name=$1
  phase_start=$SECONDS
  [ -z "$1" ] || printf -- '--- %s\n' "$1"
}

install_packages() {
  local packages=(g++ cmake ninja-build pkg-config python3 libeigen3-dev libnifti2-dev zlib1g-dev nlohmann-json3-dev
    libcli11-dev libtomlplusplus-dev catch2 libbenchmark-dev clang-14 libclang-rt-14-dev clang-format-14 valgrind)
  local missing=() package as_root=()
  if ! command -v dpkg-query > /dev/null; then
    echo "run.sh: not a Debian system, so nothing is installed; needed: ${packages[*]}"
    return
  fi
  for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo -n)
    if ! sudo -n true 2> /dev/null; then
      echo "run.sh: these packages are missing and installing them needs root: ${missing[*]}" >&2
      echo "run.sh: run as root:  apt-get install ${missing[*]}" >&2
      exit 1
    fi
  fi
  echo "installing: ${missing[*]}"
  if ! { "${as_root[@]}" apt-get update -qq &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      -o Dpkg::Use-Pty=0 "${missing[@]}" > /dev/null; }; then
    echo "run.sh: apt-get could not install: ${missing[*]}" >&2
    echo "run.sh: is there a network and a Debian 12 package source?" >&2
    exit 1
  fi
}

configure_and_build() {  # configure_and_build PRESET FOLDER CMAKE_ARGUMENT...
  local preset=$1 folder=$2
  shift 2
  cmake --preset "$preset" -B "$folder" "$@" > "$folder.log" 2>&1 || { cat "$folder.log"; exit 1; }
  builds+=("$PWD/$folder")
  if ! cmake --build "$folder" -j "$jobs" -- -k 0; then  # a program that does not build is a test "Not Run"
    echo "run.sh: some programs of $folder did not build" >&2
    status=1
  fi
}

mkdir -p build
phase "packages"
install_packages

clangxx=$(command -v clang++-14 || true)
phase "dev build"
if [ $clang = yes ]; then
  configure_and_build dev build/dev-clang -DCMAKE_CXX_COMPILER="${clangxx:-clang++}"
else
  configure_and_build dev build/dev
fi

if [ $sanitize = yes ]; then
  phase "sanitizer build"
  arguments=()
  if [ -n "$clangxx" ]; then
    targets=$(find tests/fuzz -maxdepth 1 -name '*.cpp' | wc -l)
    seconds=$((targets * 60 <= fuzz_total ? 60 : fuzz_total / targets))
    arguments=(-DCMAKE_CXX_COMPILER="$clangxx" -DINSULA_FUZZ=ON -DINSULA_FUZZ_SECONDS=$seconds)
  fi
  configure_and_build asan "build/asan${clangxx:+-clang}" "${arguments[@]}"
fi
if [ $tsan = yes ]; then
  phase "thread sanitizer build"
  configure_and_build tsan build/tsan
fi

phase ""
mkdir -p build/all  # one ctest over all builds, so that one summary closes the run
printf 'subdirs("%s")\n' "${builds[@]}" > build/all/CTestTestfile.cmake
[ $status -eq 0 ] || echo "run.sh: a build failed, see above; the run counts as failed whatever the tests say" >&2
ctest --test-dir build/all -j "$test_jobs" --output-on-failure --no-tests=error || status=1
exit $status
