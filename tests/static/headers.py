# SPDX-License-Identifier: Apache-2.0
# Compiles every header alone, and all headers together in two orders. Usage: headers.py ROOT BUILD COMPILER ARGUMENT...
import concurrent.futures
import os
import pathlib
import subprocess
import sys


def main(root, build, compiler):
    build.mkdir(parents=True, exist_ok=True)
    include = root / "include"
    headers = sorted(str(p.relative_to(include)) for p in include.rglob("*.hpp"))
    units = {name: [name] for name in headers}
    units["all headers in order"] = headers
    units["all headers in reverse order"] = headers[::-1]

    def compile_unit(item):
        name, names = item
        source = build / (name.replace("/", "_").replace(" ", "_") + ".cpp")
        source.write_text("".join(f'#include "{n}"\n' for n in names), encoding="utf-8")
        run = subprocess.run([*compiler, "-fsyntax-only", str(source)], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, check=False)
        return name, run.returncode, run.stdout

    failed = 0
    with concurrent.futures.ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        for name, code, output in pool.map(compile_unit, units.items()):
            if code:
                failed += 1
                print(f"--- {name} does not compile alone\n{output}")
    print(f"headers: {len(headers)} headers, {failed} units failed")
    return 1 if failed or not headers else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]), sys.argv[3:]))
