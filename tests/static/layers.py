# SPDX-License-Identifier: Apache-2.0
# Checks the shape of the source: who includes whom, two-line headers, length, and what the core must not include.
import pathlib
import re
import sys

# A folder of include/insula and the folders it may include besides itself; "." is include/insula itself.
core = ["base", "device", "op"]
network = core + ["net"]
tape = network + ["autograd"]
ALLOWED = {
    "base": [],
    "device": ["base"],
    "op": ["base", "device"],
    "kernels": core,
    "net": core,
    "layer": network,
    "autograd": network,
    "loss": tape,
    "ssl": tape + ["loss"],
    "optim": network,
    "data": ["base", "device", "io"],
    "io": ["base", "device"],
    "eval": ["base", "device"],
    "train": tape + ["loss", "ssl", "optim", "data", "io", "eval"],
    "zoo": tape + ["layer", "loss", "ssl"],
    "testing": tape + ["layer", "loss", "kernels", "data"],
}
LIGHT = ["base", "device", "op", "net", "layer"]  # compile time of every user depends on these
HEAVY = re.compile(r"<(iostream|istream|ostream|sstream|fstream|tuple|variant|functional|ranges|regex|Eigen/.*"
                   r"|unsupported/Eigen/.*|nlohmann/.*|toml\+\+/.*|cuda.*|cublas.*|cudnn.*)>")
LONGEST = 400  # lines; kernels may be longer
SOURCES = ["include", "examples", "benchmarks", "tests", "cmake", "docs"]
TEXT = {".hpp", ".cpp", ".cuh", ".cu", ".py", ".sh", ".cmake", ".txt", ".md", ".in", ".json"}
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|home|root)/")


def allowed(folder, kernel, target, target_kernel):
    if folder == ".":  # insula.hpp: everything but kernels; cpu.hpp, cuda.hpp, cuda.cuh: kernels too
        return target != "kernels" or kernel != "insula.hpp"
    if folder == target == "kernels":  # the backends do not know one another; each may use the plain twin
        return target_kernel in (kernel, "plain")
    return target == folder or target in ALLOWED[folder]


def check_header(root, path, complain):
    relative = path.relative_to(root / "include" / "insula")
    folder = relative.parts[0] if len(relative.parts) > 1 else "."
    kernel = relative.parts[1] if len(relative.parts) > 2 else relative.name
    text = path.read_text(encoding="utf-8")
    if folder != "." and folder not in ALLOWED:
        complain(path, 1, f"the folder {folder}/ is not one of the layers {', '.join(ALLOWED)}")
        return
    if "#pragma once" not in text:
        complain(path, 1, "no #pragma once")
    lines = text.splitlines()
    if len(lines) > LONGEST and folder != "kernels":
        complain(path, len(lines), f"{len(lines)} lines, at most {LONGEST}: split it by idea")
    for number, line in enumerate(lines, 1):
        include = re.match(r"\s*#\s*include\s*([<\"])([^>\"]+)[>\"]", line)
        if not include:
            if folder in LIGHT and "std::function<" in line:
                complain(path, number, f"std::function is kept out of {folder}/")
            continue
        mark, name = include.groups()
        if mark == "<":
            if folder in LIGHT and HEAVY.match(f"<{name}>"):
                complain(path, number, f"<{name}> is kept out of {folder}/")
            continue
        if not name.startswith("insula/"):
            complain(path, number, f'"{name}": own headers are included as "insula/...", others in <>')
            continue
        if not (root / "include" / name).is_file():
            complain(path, number, f'"{name}" does not exist')
        parts = name.split("/")[1:]
        target = parts[0] if len(parts) > 1 else "."
        target_kernel = parts[1] if len(parts) > 2 else ""
        if target == "." and folder != ".":
            complain(path, number, f'"{name}" gathers the library and is for users only')
        elif target != "." and not allowed(folder, kernel, target, target_kernel):
            complain(path, number, f"{folder}/ may not include {target}/: the include points against the layers")


def check_first_lines(path, complain):
    lines = path.read_text(encoding="utf-8").splitlines()
    mark = "//" if path.suffix in {".hpp", ".cpp", ".cuh", ".cu"} else "#"
    first = 1 if lines and lines[0].startswith("#!") else 0
    if len(lines) < first + 2 or lines[first] != f"{mark} SPDX-License-Identifier: Apache-2.0":
        complain(path, first + 1, f"the first line is not `{mark} SPDX-License-Identifier: Apache-2.0`")
    elif not re.match(rf"{mark} \S.{{10,}}", lines[first + 1]):
        complain(path, first + 2, f"the second line is not `{mark} ` and a sentence on what the file defines")


def main(root):
    problems = []

    def complain(path, line, what):
        problems.append(f"{path.relative_to(root)}:{line}: {what}")

    headers = [p for p in sorted((root / "include").rglob("*")) if p.suffix in {".hpp", ".cuh"}]
    for path in headers:
        check_header(root, path, complain)
    for top in SOURCES:
        for path in sorted((root / top).rglob("*")):
            if path.suffix not in TEXT or not path.is_file():
                continue
            if path.suffix in {".hpp", ".cpp", ".cuh", ".cu", ".py", ".sh"}:
                check_first_lines(path, complain)
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if MACHINE_PATH.search(line):
                    complain(path, number, "a path of one machine")
    print("\n".join(problems))
    print(f"layers: {len(headers)} headers, {len(problems)} problems")
    return 1 if problems or not headers else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve()))
