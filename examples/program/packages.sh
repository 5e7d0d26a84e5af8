# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that the example programs are built with and that are missing; to be sourced.
packages=(g++ cmake ninja-build libeigen3-dev libnifti2-dev zlib1g-dev nlohmann-json3-dev libcli11-dev libtomlplusplus-dev)
missing=()
for p in "${packages[@]}"; do
  dpkg -s "$p" >/dev/null 2>&1 || missing+=("$p")
done
if ((${#missing[@]})); then
  say "installing ${missing[*]}"
  as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || { echo "${0##*/}: install these packages as root, then start again: ${missing[*]}" >&2; exit 1; }
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
