# SPDX-License-Identifier: Apache-2.0
# Checks that code in the documentation is code that compiles, and that links and named files exist. Usage: docs.py ROOT
#
# A fenced block marked cpp follows a paragraph that names, in back-quotes, the file of examples/ or tests/ it is taken
# from, and stands in that file word for word; white space and the sign "…" (for what is left out) do not count.
import pathlib
import re
import sys

SOURCE = re.compile(r"`((?:examples|tests|include)/[\w./-]+\.(?:cpp|hpp))`")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#]+)")
HEADER = re.compile(r"`(insula/[\w./]+\.hpp)`")
LATER = {"insula/cuda.hpp"}  # named in an error, exists with the CUDA toolkit only


def squeeze(text):
    return re.sub(r"\s+", "", text)


def blocks(lines):
    """(first line, language, text, paragraph before it) of every fenced block."""
    start, language, before = 0, "", ""
    for number, line in enumerate(lines, 1):
        if not line.startswith("```"):
            if not start:
                before = line if line.strip() and before == "" else before + " " + line if line.strip() else before
                if not line.strip() and number < len(lines) and not lines[number].startswith("```"):
                    before = ""
        elif not start:
            start, language = number, line[3:].strip()
        else:
            yield start, language, "\n".join(lines[start:number - 1]), before
            start, before = 0, ""


def check_block(root, code, before):
    named = SOURCE.findall(before)
    if not named:
        return "the paragraph before this code names no `examples/…` or `tests/…` file it is taken from"
    for name in named:
        if not (root / name).is_file():
            return f"{name} does not exist"
        text, at = squeeze((root / name).read_text(encoding="utf-8")), 0
        for part in filter(None, map(squeeze, code.split("…"))):
            at = text.find(part, at)
            if at < 0:
                break
            at += len(part)
        else:
            return ""
    return f"this code does not stand in {' or '.join(named)}"


def main(root):
    problems, count = [], 0
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        name = page.relative_to(root)
        for line, language, code, before in blocks(text.splitlines()):
            if language in {"cpp", "c++"}:
                count += 1
                if wrong := check_block(root, code, before):
                    problems.append(f"{name}:{line}: {wrong}")
        for number, line in enumerate(text.splitlines(), 1):
            for target in LINK.findall(line):
                if not (page.parent / target.strip()).exists():
                    problems.append(f"{name}:{number}: the link {target} leads nowhere")
            for header in HEADER.findall(line):
                if header not in LATER and not (root / "include" / header).is_file():
                    problems.append(f"{name}:{number}: {header} does not exist")
    print("\n".join(problems))
    print(f"docs: {len(pages)} pages, {count} blocks of code, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve()))
