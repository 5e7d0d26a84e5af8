# SPDX-License-Identifier: Apache-2.0
# Runs an example and compares what it prints with the lines its opening comment promises. Usage: output.py SOURCE PROGRAM
#
# Promised lines come in order; "..." stands for lines left out. Words are equal, numbers with a decimal point agree to 2 %
# or one unit of their last digit, for processors differ in rounding.
import pathlib
import re
import subprocess
import sys


def promised(source):
    lines = iter(source.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith("// Expected output"):
            break
    wanted = []
    for line in lines:
        if not line.startswith("//"):
            break
        wanted.append(line[2:].strip())
    return wanted


def agree(wanted, got):
    if wanted == got:
        return True
    number = r"[-+]?\d+\.(\d+)"
    a, b = re.fullmatch(number, wanted), re.fullmatch(number, got)
    if not a or not b:
        return False
    unit = 10.0 ** -len(a.group(1))
    return abs(float(wanted) - float(got)) <= max(1.01 * unit, 0.02 * abs(float(wanted)))


def same(wanted, got):
    a, b = wanted.split(), got.split()
    return len(a) == len(b) and all(map(agree, a, b))


def main(source, program):
    wanted = promised(source)
    if not wanted:
        print(f"{source.name}: the opening comment has no lines under `// Expected output`")
        return 1
    run = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=False)
    printed, at, skips = run.stdout.splitlines(), 0, False
    if run.returncode:
        print(f"{source.name}: exit status {run.returncode}\n{run.stdout}")
        return 1
    for line in wanted:
        if line == "...":
            skips = True
            continue
        while skips and at < len(printed) and not same(line, printed[at]):
            at += 1
        if at == len(printed) or not same(line, printed[at]):
            print(f"{source.name}: promised  {line}\n  printed  {printed[at] if at < len(printed) else 'nothing more'}")
            print(run.stdout)
            return 1
        at, skips = at + 1, False
    if at != len(printed) and not skips:
        print(f"{source.name}: prints more than promised:\n" + "\n".join(printed[at:]))
        return 1
    print(f"{source.name}: {len(wanted)} lines as promised")
    return 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), sys.argv[2]))
