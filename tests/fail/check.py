# SPDX-License-Identifier: Apache-2.0
# Checks one case that must not compile. Usage: check.py CASE DIAGNOSTICS ARGUMENTS COMPILER...
import os
import pathlib
import re
import subprocess
import sys


def compile_case(compiler, arguments, case, *more):
    return subprocess.run([compiler, arguments, "-fsyntax-only", "-ferror-limit=0"
                           if "clang" in pathlib.Path(os.path.realpath(compiler)).name else "-fmax-errors=0",
                           *more, str(case)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          env={**os.environ, "LC_ALL": "C"})


def check(case, sentence, arguments, compiler):
    """The list of what is wrong with this case under this compiler."""
    twin = compile_case(compiler, arguments, case)
    if twin.returncode:
        return ["the twin does not compile:\n" + twin.stdout]
    wrong = compile_case(compiler, arguments, case, "-DINSULA_FAIL")
    if wrong.returncode == 0:
        return ["it compiles with INSULA_FAIL"]
    errors = re.findall(r"^.*?: (?:fatal )?error: .*$", wrong.stdout, re.MULTILINE)
    notes = re.findall(r"^.*?: note: .*$", wrong.stdout, re.MULTILINE)
    problems = []
    if len(errors) != 1:
        problems.append(f"{len(errors)} errors in place of one")
    if not any(re.search(sentence, line) for line in errors + notes):
        problems.append(f"neither the error nor a note matches /{sentence}/")
    return [p + ":\n" + wrong.stdout for p in problems]


def main(case, diagnostics, arguments, compilers):
    source = case.read_text(encoding="utf-8")
    expect = re.findall(r"^// expect: (.+)$", source, re.MULTILINE)
    if len(expect) != 1:
        print(f"{case.name}: {len(expect)} lines `// expect: REGEX`, there must be one")
        return 1
    problems = []
    documented = diagnostics.read_text(encoding="utf-8").replace("`", "")
    if not re.search(expect[0], documented):
        problems.append(f"no line of docs/{diagnostics.name} matches /{expect[0]}/: describe the message there")
    if f"`{case.stem}`" not in diagnostics.read_text(encoding="utf-8"):
        problems.append(f"docs/{diagnostics.name} does not name the case `{case.stem}`")
    names = {os.path.realpath(c): c for c in compilers}
    for compiler in names.values():
        problems += [f"{compiler}: {p}" for p in check(case, expect[0], arguments, compiler)]
    print("\n".join(problems) or f"{case.name}: one error, as documented, from {', '.join(names.values())}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4:]))
