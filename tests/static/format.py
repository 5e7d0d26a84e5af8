# SPDX-License-Identifier: Apache-2.0
# Checks that clang-format 14 would change nothing. Usage: format.py ROOT CLANG_FORMAT [--fix]
import pathlib
import re
import subprocess
import sys

VERSION = "14"  # other versions break lines elsewhere
SKIPPED = 77


def main(root, tool, fix):
    version = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
    major = re.search(r"version (\d+)", version)
    if not major or major.group(1) != VERSION:
        print(f"format: needs clang-format {VERSION}, {tool} is: {version.strip()}")
        return SKIPPED
    files = [str(p) for top in ("include", "examples", "benchmarks", "tests")
             for p in sorted((root / top).rglob("*")) if p.suffix in {".hpp", ".cpp", ".cuh", ".cu"}]
    if fix:
        return subprocess.run([tool, "-i", *files], check=False).returncode
    run = subprocess.run([tool, "--dry-run", "-Werror", *files], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, check=False)
    wrong = sorted(set(re.findall(r"^(.+?):\d+:\d+: error:", run.stdout, re.MULTILINE)))
    for name in wrong:
        print(f"{pathlib.Path(name).relative_to(root)}: not formatted")
    print(f"format: {len(files)} files, {len(wrong)} not formatted; to repair: "
          "python3 tests/static/format.py . clang-format-14 --fix")
    return 1 if wrong or run.returncode else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve(), sys.argv[2], "--fix" in sys.argv[3:]))
