# SPDX-License-Identifier: Apache-2.0
# Checks that code in the documentation is code that compiles, and that links and named files exist. Usage: docs.py ROOT
#
# Above a fenced block marked cpp, under the same heading, the file of examples/, tests/ or include/ that it is taken from
# is named in back-quotes (the last name counts), and the block stands in that file word for word; white space and the
# sign "…" (for what is left out) do not count.
import pathlib
import re
import sys

SOURCE = re.compile(r"`((?:examples|tests|include)/[\w./-]+\.(?:cpp|hpp))`")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#]+)")
HEADER = re.compile(r"`(insula/[\w./]+\.hpp)`")
LATER = {"insula/cuda.hpp"}  # named in an error, exists with the CUDA toolkit only


def squeeze(text):
    return re.sub(r"\s+", "", text)


def parts(lines):
    """Splits a page: (number, line) of prose, and (first line, language, code, named file) of every fenced block."""
    prose, blocks, start, language, named = [], [], 0, "", ""
    for number, line in enumerate(lines, 1):
        if line.startswith("```"):
            if start:
                blocks.append((start, language, "\n".join(lines[start:number - 1]), named))
            start, language = (0, "") if start else (number, line[3:].strip())
        elif not start:
            prose.append((number, line))
            named = "" if line.startswith("#") else (SOURCE.findall(line) or [named])[-1]
    return prose, blocks


def check_block(root, code, named):
    if not named:
        return "no file of `examples/`, `tests/` or `include/` that this code is taken from is named under its heading"
    if not (root / named).is_file():
        return f"{named} does not exist"
    text, at = squeeze((root / named).read_text(encoding="utf-8")), 0
    for part in filter(None, map(squeeze, code.split("…"))):
        found = text.find(part, at)
        if found < 0:
            return f"this code does not stand in {named}"
        at = found + len(part)
    return ""


def main(root):
    problems, count = [], 0
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        name = page.relative_to(root)
        prose, blocks = parts(text.splitlines())
        for line, language, code, named in blocks:
            if language in {"cpp", "c++"}:
                count += 1
                if wrong := check_block(root, code, named):
                    problems.append(f"{name}:{line}: {wrong}")
        for number, line in prose:
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
