# SPDX-License-Identifier: Apache-2.0
# Turns a results file of run.py into the tables of docs/performance.md.
#   table.py RESULTS.json [--into docs/performance.md]
# A ratio is the peer's time over insula's: above 1 insula is ahead. One thread: processor time; two: time on the wall.
import argparse
import json
import pathlib
import re
import statistics
import sys

BEGIN, END = "<!-- begin: benchmarks/compare/table.py -->", "<!-- end: benchmarks/compare/table.py -->"
DISTURBED = 0.1  # processors that others kept busy

# Row: title, group, pattern of the case, rivals it is held against (pattern; the best of those that match), must, aim, and
# whether the share of "must" for machines without AVX-512 applies.
EAGER = r"PyTorch( \+ MONAI)?( channels_last_3d)?( foreach)?( fused)?$"
ROWS = [
    ("conv3d 3^3, 32-128 channels: forward, input gradient", "conv3", "forward|input", r"oneDNN any$", 2.5, 3.6, True),
    ("conv3d 3^3, 32-128 channels: weight gradient", "conv3", "weight", r"oneDNN any$", 2.0, 3.0, True),
    ("conv3d 3^3, 192-384 channels, small maps: all passes", "conv3_wide", "", "oneDNN", 1.2, 2.0, True),
    ("conv3d stride 2, 2^3 patches, 1^3, 7^3 stem: all passes", "conv_other", "", "oneDNN", 1.0, 1.3, True),
    ("depth-wise 5^3 and 3^3: all passes", "depthwise", "", "oneDNN", 15, 30, True),
    ("window attention half-block 48^3 x 48: forward", "window_forward", r"48\^3", EAGER, 8, 15, False),
    ("window attention half-block 24^3 x 96: forward", "window_forward", r"24\^3", EAGER, 5, 8, False),
    ("window attention half-block 12^3 x 192: forward", "window_forward", r"12\^3", EAGER, 3.5, 6, False),
    ("window attention half-block 48^3 x 48: forward + backward", "window_step", r"48\^3", EAGER, 6, 13, False),
    ("window attention half-block 24^3 x 96: forward + backward", "window_step", r"24\^3", EAGER, 4, 8, False),
    ("window attention half-block 12^3 x 192: forward + backward", "window_step", r"12\^3", EAGER, 3, 5, False),
    ("global attention", "attention", "", "PyTorch", 2, 3.7, False),
    ("norm, activation, pooling fused with their neighbours", "norm", "", EAGER, 6, 20, False),
    ("linear at Swin and ViT shapes", "linear", "", "", 1.0, 1.2, True),
    ("linear + GELU", "linear_gelu", "", "", 2, 5, True),
    ("fused MLP half-block", "mlp", "", "", 4, 6.5, True),
    ("InfoNCE, 32 queries, 16384 keys, with gradient", "info_nce", "", "PyTorch", 2, 3.8, False),
    ("clip + AdamW + moving average, 28.8 million weights", "update", "", "PyTorch", 1.2, 4, False),
    ("affine + flip + intensity, 150x192x192", "augment", "", EAGER, 12, 25, False),
    ("whole training step, UMBRA SwinMAE 96^3, batch 1", "step", "", EAGER, 5, 8, False),
]
WITHOUT_AVX512 = 0.9


class Results:
    def __init__(self, data):
        self.data = data
        self.contests = {}
        for line in data["lines"]:
            if "rival" in line and "wall_s" in line:
                key = line["group"], line["case"], line["source"]
                self.contests.setdefault(key, {}).setdefault(line["threads"], []).append(line)
        self.avx512 = "avx512f" in data["machine"]["features"] and data["isa"] == "native"

    @staticmethod
    def time(line):
        return line["cpu_s" if line["threads"] == 1 else "wall_s"]["median"]

    def ratio(self, key, threads, pattern):
        """(peer's time / insula's, peer's line, insula's line) of the best peer that matches and agrees; None without."""
        lines = self.contests.get(key, {}).get(threads, [])
        own = [l for l in lines if l["rival"] == "insula"]
        peers = [l for l in lines if not l["rival"].startswith("insula") and l["agrees"] and re.search(pattern, l["rival"])]
        if not own or not peers:
            return None
        best = min(peers, key=self.time)
        return self.time(best) / self.time(own[0]), best, own[0]

    def keys(self, group, pattern):
        return [k for k in self.contests if k[0] == group and re.search(pattern, k[1])]


def number(x):
    return f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def span(values):
    if not values:
        return "-"
    low, high = min(values), max(values)
    if len(values) == 1 or number(low) == number(high):
        return number(low)
    return f"{number(low)} to {number(high)}, median {number(statistics.median(values))}"


def summary(results):
    out = ["| what | cases | 1 thread | 2 threads | best peer, 1 thread | must | aim | cases that reach must |",
           "|---|---|---|---|---|---|---|---|"]
    for title, group, pattern, against, must, aim, scaled in ROWS:
        if scaled and not results.avx512:
            must *= WITHOUT_AVX512
        keys = results.keys(group, pattern)
        one = [r[0] for k in keys if (r := results.ratio(k, 1, against))]
        two = [r[0] for k in keys if (r := results.ratio(k, 2, against))]
        best = [r[0] for k in keys if (r := results.ratio(k, 1, ""))]
        reach = f"{sum(v >= must for v in one)} of {len(one)}" if one else "not measured"
        out.append(f"| {title} | {len(keys)} | {span(one)} | {span(two)} | {span(best)} | {must:.3g} | {aim:.3g} | {reach} |")
    out += extra(results)
    return out


def extra(results):
    """Memory and scaling, which are no contests of times."""
    out = []
    memory = {l["rival"]: l["bytes"] for l in results.data["lines"] if l.get("group") == "memory"}
    if {"insula", "PyTorch + MONAI"} <= memory.keys():
        ratio = memory["PyTorch + MONAI"] / memory["insula"]
        least = min(v for k, v in memory.items() if k != "insula") / memory["insula"]
        out.append(f"| peak memory of that step | 1 | {number(ratio)} | - | {number(least)} | 6 | 10 | "
                   f"{int(ratio >= 6)} of 1 |")
    for key in results.keys("step", ""):
        own = {t: [l for l in lines if l["rival"] == "insula"] for t, lines in results.contests[key].items()}
        if own.get(1) and own.get(2):
            ratio = own[1][0]["cpu_s"]["median"] / own[2][0]["wall_s"]["median"]
            out.append(f"| 2 threads against 1, that step, insula against itself | 1 | - | {number(ratio)} | - | 1.8 | 1.95 | "
                       f"{int(ratio >= 1.8)} of 1 |")
    return out


def milliseconds(line):
    t = line["cpu_s" if line["threads"] == 1 else "wall_s"]
    return f"{1e3 * t['median']:.3g} ({1e3 * t['q1']:.3g}-{1e3 * t['q3']:.3g})"


def details(results):
    out = ["| case | insula, ms (quartiles) | best peer | its ms (quartiles) | ratio | 2 threads | error of insula |",
           "|---|---|---|---|---|---|---|"]
    disturbed = 0
    for key in results.contests:
        one, two = results.ratio(key, 1, ""), results.ratio(key, 2, "")
        if not one:
            continue
        mark = "~" if two and two[1]["others"] > DISTURBED else ""
        disturbed += one[1]["others"] > DISTURBED
        second = mark + number(two[0]) if two else "-"
        out.append(f"| {key[1]} | {milliseconds(one[2])} | {one[1]['rival']} | {milliseconds(one[1])} | {number(one[0])} | "
                   f"{second} | {one[2]['error']:.0e} |")
    return out, disturbed


def policies(results):
    """What the Winograd policies are worth."""
    out = ["| 3^3 convolution | exact, ms | default, ms | winograd4, ms | error exact / default / winograd4 |",
           "|---|---|---|---|---|"]
    for key, by_threads in results.contests.items():
        lines = {l["rival"]: l for l in by_threads.get(1, [])}
        if "insula winograd4" not in lines or "insula exact" not in lines:
            continue
        three = [lines["insula exact"], lines["insula"], lines["insula winograd4"]]
        times = " | ".join(f"{1e3 * Results.time(l):.3g}" for l in three)
        errors = " / ".join(f"{l['error']:.0e}" for l in three)
        out.append(f"| {key[1]} | {times} | {errors} |")
    return out if len(out) > 2 else []


def disagreements(results):
    out = []
    for key, by_threads in results.contests.items():
        for line in by_threads.get(1, []):
            if not line["agrees"]:
                out.append(f"{line['rival']} in \"{key[1]}\" ({line['error']:.0e})")
    return out


def markdown(data):
    results = Results(data)
    m = data["machine"]
    lines = [BEGIN, "", f"Made by `benchmarks/compare/run.py` on {data['date']}, commit {data['commit']}, from "
             f"`{data['file']}`:", "",
             f"- {m['processor']} (family/model {m['family_model']}), {m['processors']} processors, features "
             f"{', '.join(m['features'])}; {m['memory_GiB']} GiB; {m['compiler']}; instructions: {data['isa']}.",
             f"- {data['peers']}.",
             "- float32 everywhere, denormal numbers flushed by all. 1 thread: median processor time of the process; "
             "2 threads: median time on the wall.",
             f"- Others kept {data['others']:.2f} processors busy on average while this ran"
             + (": times on the wall, and so all of 2 threads, are disturbed and marked ~." if data["others"] > DISTURBED
                else "."), "",
             "Ratios are the peer's time over insula's. \"1 thread\" and \"2 threads\" are against the peer that the goal names, "
             "\"best peer\" is against the fastest of all, other libraries' fused, compiled and inference-only paths included.",
             "", *summary(results), "", "### Every case", ""]
    table, _ = details(results)
    lines += [*table, ""]
    if (extra_table := policies(results)):
        lines += ["### Winograd policies", "", *extra_table, ""]
    if (wrong := disagreements(results)):
        lines += ["Left out of the comparison, because their results deviate from the reference by more than the limit: "
                  + "; ".join(wrong) + ".", ""]
    return "\n".join([*lines, END])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("results")
    parser.add_argument("--into")
    options = parser.parse_args()
    text = markdown(json.loads(pathlib.Path(options.results).read_text(encoding="utf-8")))
    if not options.into:
        print(text)
        return 0
    page = pathlib.Path(options.into)
    old = page.read_text(encoding="utf-8")
    if BEGIN not in old or END not in old:
        sys.exit(f"table: {page} has no lines '{BEGIN}' and '{END}'")
    new = old[:old.index(BEGIN)] + text + old[old.index(END) + len(END):]
    page.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
