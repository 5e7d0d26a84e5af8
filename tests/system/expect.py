# SPDX-License-Identifier: Apache-2.0
# What the tests of programs share: run one, hold what it did against what was wanted, count what differs.
import subprocess
import sys

failures = []


def run(program, *arguments):
    r = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=600)
    return r.returncode, r.stdout, r.stderr


def verdict(what, good, detail):
    print(f"ok    {what}" if good else f"FAIL  {what}: {detail}")
    if not good:
        failures.append(what)


def expect(what, result, code, *words):
    """The exit status, and words that must be in what the program said."""
    text = result[1] + result[2]
    missing = [w for w in words if w not in text]
    verdict(what, result[0] == code and not missing, f"status {result[0]}, wanted {code}; missing {missing}\n{text[-2000:]}")


def same(what, got, wanted):
    verdict(what, got == wanted, f"{got!r}, wanted {wanted!r}")


def same_bytes(what, a, b):
    verdict(what, a.read_bytes() == b.read_bytes(), f"{a} and {b} differ")


def end():
    print(f"{len(failures)} failed")
    sys.exit(1 if failures else 0)
