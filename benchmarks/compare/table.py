# SPDX-License-Identifier: Apache-2.0
# Turns the results of run.py into the tables of docs/performance.md.
#   table.py [--print] [RESULTS.json...]     without files: all of benchmarks/results
# A ratio is the peer's time over insula's: above 1 insula is ahead. One thread: processor time; two: time on the wall.
import argparse
import json
import pathlib
import re
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- begin: benchmarks/compare/table.py -->", "<!-- end: benchmarks/compare/table.py -->"
DISTURBED = 0.1  # processors that others kept busy
KINDS = ("read", "update", "add", "copy", "write")  # of access to memory
WITHOUT_AVX512 = 0.9

# Row: title, group, pattern of the case, rivals it is held against (pattern; the best of those that match), must, aim, and
# whether the share of "must" for machines without AVX-512 applies: to convolutions and to linear layers alone.
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
    ("linear + GELU", "linear_gelu", "", "", 2, 5, False),
    ("fused MLP half-block, forward", "mlp", "", "", 4, 6.5, False),
    ("InfoNCE, 32 queries, 16384 keys, with gradient", "info_nce", "", "PyTorch", 2, 3.8, False),
    ("clip + AdamW + moving average, 28.8 million weights", "update", "", "PyTorch", 1.2, 4, False),
    ("affine + flip + intensity, 150x192x192", "augment", "", EAGER, 12, 25, False),
    ("whole training step, UMBRA SwinMAE 96^3, batch 1", "step", "", EAGER, 5, 8, False),
    ("conv3d against PyTorch: forward, forward + backward", "conv_torch", "", EAGER, None, None, False),
    ("fused MLP half-block, forward + backward", "mlp_step", "", EAGER, None, None, False),
    ("norm, activation, pooling alone", "norm_alone", "", EAGER, None, None, False),
    ("whole training step, 3D-Neuro-SimCLR, 4 volumes of 150x192x192", "simclr", "", EAGER[:-1], None, None, False),
]
SECTIONS = {"Convolutions": ("conv3", "conv3_wide", "conv_other", "depthwise", "conv_torch"),
            "Attention": ("window_forward", "window_step", "attention"),
            "Norms, activations, pooling": ("norm", "norm_alone"),
            "Linear layers": ("linear", "linear_gelu", "mlp", "mlp_step"),
            "Losses, optimisers, augmentation": ("info_nce", "update", "augment"), "Whole steps": ("step", "simclr")}


def seconds(line, which="median"):
    return line["cpu_s" if line["threads"] == 1 else "wall_s"][which]


class Ceilings:
    """The best that any run measured on this machine, by threads: a bound that errs on the side of more being possible."""

    def __init__(self, runs):
        self.by_threads = {}
        for c in (c for r in runs for c in r.get("ceilings", [])):
            best = self.by_threads.setdefault(c["threads"], {"operations": 0.0, "exponentials": 0.0, "gelus": 0.0, "memory": {},
                                                             "instructions": c["instructions"]})
            for kind in ("operations", "exponentials", "gelus"):
                best[kind] = max(best[kind], c.get(f"{kind}_per_s", 0.0))
            for m in c["memory"]:
                kinds = best["memory"].setdefault(m["bytes"], {})
                for kind in KINDS:
                    if kind in m:
                        kinds[kind] = max(kinds.get(kind, 0.0), m[kind])

    def bandwidth(self, threads, size):
        """Of the next smaller amount per thread that was measured, by kind of access."""
        memory, size = self.by_threads[threads]["memory"], size / threads
        return memory[max([n for n in memory if n <= size], default=min(memory))]

    def pass_seconds(self, threads, read, written):
        """A pass that writes less than it reads is made of reading alone, of two numbers read per one written (add), and of copying.
        Others, and what a cache may hold, get the fastest access of any kind."""
        rate = self.bandwidth(threads, read + written)
        if "copy" not in rate or written > read:
            return (read + written) / max(rate.values())
        copying = 2 / rate["copy"]  # seconds per byte written
        adding = 3 / rate["add"] if "add" in rate else copying + 1 / rate["read"]
        if read < 2 * written:
            return (2 * written - read) * copying + (read - written) * adding
        return written * adding + (read - 2 * written) / rate["read"]

    def least_seconds(self, line):
        """What the computation of a line takes on this machine at least; None if that was not measured."""
        c = self.by_threads.get(line["threads"])
        if c is None or "bytes" not in line:
            return None
        gelu = 1 / (c["gelus"] or c["exponentials"])  # an error function costs an exponential at least
        compute = (line["operations"] / line["reduction"] / c["operations"]
                   + line.get("exponentials", 0.0) / c["exponentials"] + line.get("gelus", 0.0) * gelu)
        if "passes" in line:
            moving = sum(max(self.pass_seconds(line["threads"], r, w), sum(gelus) * gelu) for r, w, *gelus in line["passes"])
        else:
            moving = line["bytes"] / max(self.bandwidth(line["threads"], line["bytes"]).values())
        return max(compute, moving)


class Pair:
    """insula and one peer in one contest; alone: the passes over memory alone, where they were measured."""

    def __init__(self, own, peer, ceilings, alone=()):
        self.own, self.peer, self.ratio = own, peer, seconds(peer) / seconds(own)
        least = ceilings.least_seconds(own)
        if alone:  # not more than insula itself took at its fastest, which passes over as much
            least = max(least or 0.0, min(seconds(l, "least") for l in [own, *alone]))
        self.largest = seconds(peer) / least if least else None  # the ratio of a program that reaches the machine's bound

    def beyond(self, must):
        return self.largest is not None and self.largest < must


class Results:
    def __init__(self, data):
        self.data, self.ceilings = data, Ceilings(data["runs"])
        self.contests = {}  # (group, case): {source: {threads: lines}}
        for line in data["lines"]:
            if "wall_s" in line:
                sources = self.contests.setdefault((line["group"], line["case"]), {})
                sources.setdefault(line["source"], {}).setdefault(line["threads"], []).append(line)
        version = lambda source: [int(v) for v in source.split()[1].split(".")]
        found = {s for sources in self.contests.values() for s in sources if s.startswith("PyTorch ")}
        self.older = sorted(found, key=version)[:-1]  # versions of PyTorch that stand beside the newest
        self.avx512 = "avx512f" in data["machine"]["features"] and data["isa"] == "native"

    def goal(self, must, scaled):
        return must if must is None or not scaled or self.avx512 else must * WITHOUT_AVX512

    def of_source(self, key, source, threads, pattern):
        """insula and the best peer that matches and agrees; None without."""
        lines = self.contests[key].get(source, {}).get(threads, [])
        own = [l for l in lines if l["rival"] == "insula"]
        peers = [l for l in lines if not l["rival"].startswith("insula") and l["agrees"] and re.search(pattern, l["rival"])]
        alone = [l for l in lines if l["rival"].startswith("insula, passes alone")]
        return Pair(own[0], min(peers, key=seconds), self.ceilings, alone) if own and peers else None

    def pair(self, key, threads, pattern):
        """As of_source; where several programs held the same contest, that with the least ratio. Without older versions."""
        pairs = [p for s in self.contests[key] if s not in self.older and (p := self.of_source(key, s, threads, pattern))]
        return min(pairs, key=lambda p: p.ratio, default=None)

    def pairs(self, group, case, threads, pattern):
        return [p for k in self.keys(group, case) if (p := self.pair(k, threads, pattern))]

    def keys(self, group, case):
        return [k for k in self.contests if k[0] == group and re.search(case, k[1])]

    def pairs_of(self, source, group, case, threads, pattern):
        return [p for k in self.keys(group, case) if (p := self.of_source(k, source, threads, pattern))]


def number(x):
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def span(values):
    if not values:
        return "-"
    low, high = min(values), max(values)
    if len(values) == 1 or number(low) == number(high):
        return number(low)
    return f"{number(low)} to {number(high)}, median {number(statistics.median(values))}"


def verdict(pairs, must):
    """How many cases reach the goal, and how many of the others no program could get there on this machine."""
    if must is None:
        return "-"
    if not pairs:
        return "not measured"
    missed = [p for p in pairs if p.ratio < must]
    beyond = sum(p.beyond(must) for p in missed)
    text = f"{len(pairs) - len(missed)} of {len(pairs)}"
    return text + (f"; {beyond} of the other {len(missed)} out of reach" if beyond else "")


def summary(results):
    older = "".join(f" {s}, 1 thread |" for s in results.older)
    out = [f"| what | 1 thread | 2 threads | best peer, 1 thread | largest possible | must | aim | cases that reach must |{older}",
           "|---|---|---|---|---|---|---|---|" + "---|" * len(results.older)]
    for title, group, case, against, must, aim, scaled in ROWS:
        must = results.goal(must, scaled)
        one, two, best = (results.pairs(group, case, t, p) for t, p in ((1, against), (2, against), (1, "")))
        if must is None and not one and not two:
            continue
        of = lambda pairs: span([p.ratio for p in pairs])
        possible = span([p.largest for p in one if p.largest is not None])
        goals = f"{must:.3g} | {aim:.3g}" if must is not None else "- | -"
        line = f"| {title} | {of(one)} | {of(two)} | {of(best)} | {possible} | {goals} | {verdict(one, must)} |"
        for source in results.older:
            then = results.pairs_of(source, group, case, 1, against)
            line += f" {of(then)}{f'; {verdict(then, must)}' if then and must is not None else ''} |"
        out.append(line)
    return out + memory(results) + scaling(results)


def memory(results):
    cases, out = {}, []
    for line in results.data["lines"]:
        if line["group"] == "memory" and line["source"] not in results.older:
            cases.setdefault(line["case"], {})[line["rival"]] = line["bytes"]
    for case, by_rival in cases.items():
        peers = {r: b for r, b in by_rival.items() if r != "insula"}
        if "insula" not in by_rival or not peers:
            continue
        own, eager = by_rival["insula"], next(iter(peers.values()))
        shown = "; ".join(f"{r} {b / 1e9:.2f} GB" for r, b in by_rival.items())
        goals = f"6 | 10 | {int(eager >= 6 * own)} of 1" if case.startswith("UMBRA") else "- | - | -"
        out.append(f"| peak memory of a step of {case}: {shown} | {number(eager / own)} | - | "
                   f"{number(min(peers.values()) / own)} | - | {goals} |" + " - |" * len(results.older))
    return out


def scaling(results):
    out = []
    for (group, case), sources in results.contests.items():
        for by_threads in (lines for source, lines in sources.items() if source not in results.older):
            own = {t: next((l for l in lines if l["rival"] == "insula"), None) for t, lines in by_threads.items()}
            if group == "step" and own.get(1) and own.get(2):
                ratio = seconds(own[1]) / seconds(own[2])
                out.append(f"| 2 threads against 1, {case}, insula against itself | - | {number(ratio)} | - | - | 1.8 | 1.95 | "
                           f"{int(ratio >= 1.8)} of 1 |" + " - |" * len(results.older))
    return out


def milliseconds(line):
    t = line["cpu_s" if line["threads"] == 1 else "wall_s"]
    return f"{1e3 * t['median']:.3g} ({1e3 * t['q1']:.3g}-{1e3 * t['q3']:.3g})"


def details(results, groups):
    several = len(results.data["runs"]) > 1
    out = ["| case | insula, ms (quartiles) | best peer | its ms (quartiles) | ratio | largest possible | 2 threads | error of insula |"
           + (" run |" if several else ""), "|---|---|---|---|---|---|---|---|" + ("---|" if several else "")]
    for key, sources in results.contests.items():
        if key[0] not in groups:
            continue
        for source in sources:
            one, two = (results.of_source(key, source, t, "") for t in (1, 2))
            shown = one or two
            if not shown:
                continue
            peer = shown.peer["rival"] + (f" ({source.split()[1]})" if source in results.older else "")
            ratio, possible = (number(x) if one and x else "-" for x in (shown.ratio, shown.largest))
            second = ("~" if two.own["others"] > DISTURBED else "") + number(two.ratio) if two else "-"
            out.append(f"| {key[1]} | {milliseconds(shown.own)} | {peer} | {milliseconds(shown.peer)} | {ratio} | "
                       f"{possible} | {second} | {shown.own['error']:.0e} |" + (f" {shown.own['run'] + 1} |" if several else ""))
    return out


def ceilings(results):
    out = ["| threads | instructions | multiply-adds, GFLOP/s | exponentials, GELUs, G/s | "
           "read / in place / add / copy / write, GB/s, by amount |",
           "|---|---|---|---|---|"]
    for threads, c in sorted(results.ceilings.by_threads.items()):
        rates = lambda m: " / ".join(f"{m[k] / 1e9:.0f}" if k in m else "-" for k in KINDS)
        amount = lambda n: f"{n // 1024} KiB" if n < 2**20 else f"{n // 2**20} MiB"
        shown = "; ".join(f"{amount(n)}: {rates(m)}" for n, m in sorted(c["memory"].items()))
        functions = ", ".join(f"{c[k] / 1e9:.1f}" if c[k] else "-" for k in ("exponentials", "gelus"))
        out.append(f"| {threads} | {c['instructions']} | {c['operations'] / 1e9:.0f} | {functions} | {shown} |")
    return out if len(out) > 2 else []


def policies(results):
    """What the Winograd policies are worth."""
    out = ["| 3^3 convolution | exact, ms | winograd2, ms | default, ms | error exact / winograd2 / default |",
           "|---|---|---|---|---|"]
    for key, sources in results.contests.items():
        lines = {l["rival"]: l for l in sources.get("libraries", {}).get(1, [])}
        if "insula winograd2" not in lines or "insula exact" not in lines:
            continue
        three = [lines["insula exact"], lines["insula winograd2"], lines["insula"]]
        times = " | ".join(f"{1e3 * seconds(l):.3g}" for l in three)
        errors = " / ".join(f"{l['error']:.0e}" for l in three)
        out.append(f"| {key[1]} | {times} | {errors} |")
    return out if len(out) > 2 else []


def losses(results):
    """Where the fastest peer is faster than insula."""
    pairs = {k: p for k in results.contests if (p := results.pair(k, 1, "") or results.pair(k, 2, ""))}
    slower = [f"{case} ({pair.peer['rival']}, {number(pair.ratio)})" for (_, case), pair in pairs.items() if pair.ratio < 1]
    if not slower:
        return [f"In all {len(pairs)} cases insula is faster than the fastest peer.", ""]
    return [f"In {len(slower)} of {len(pairs)} cases the fastest peer is faster than insula: " + "; ".join(slower) + ".", ""]


def missed(results):
    """What falls short of its must although the bound leaves room, and how near to the bound the must is."""
    short = {}
    for title, group, case, against, must, _, scaled in ROWS:
        if (must := results.goal(must, scaled)) is None:
            continue
        for key in results.keys(group, case):
            pair = results.pair(key, 1, against)
            if pair and pair.ratio < must and not pair.beyond(must):
                share = f", which takes {100 * must / pair.largest:.0f} % of the bound" if pair.largest else ""
                short.setdefault(title, []).append(f"{key[1]} ({pair.ratio:.3g} of {must:.3g}{share})")
    if not short:
        return ["On one thread no case falls short of its must but those whose bound does.", ""]
    peak = results.ceilings.by_threads.get(1, {}).get("operations")
    products = [l["operations"] / seconds(l) / peak for l in results.data["lines"]
                if peak and l["group"] == "linear" and l.get("threads") == 1 and "wall_s" in l]
    best = f" The fastest matrix product of any library here takes {100 * max(products):.0f} % of its bound." if products else ""
    return ["Short of their must on one thread, though the bound leaves room: "
            + ". ".join(f"{title}: {'; '.join(cases)}" for title, cases in short.items()) + "." + best, ""]


def left_out(results):
    wrong = [f"{l['rival']} in \"{l['case']}\" ({l['error']:.0e})" for l in results.data["lines"]
             if l.get("threads") == 1 and not l.get("agrees", True)]
    failed = [f"{l['rival']} in \"{l['case']}\" ({l['left_out']})" for l in results.data["lines"] if "left_out" in l]
    late = sorted({c for r in results.data["runs"] for c in r.get("left_out", [])})
    out = []
    if wrong:
        out += ["Left out of the comparison, because their results deviate from the reference by more than the limit: "
                + "; ".join(wrong) + ".", ""]
    if failed:
        out += ["Left out, because they failed: " + "; ".join(failed) + ".", ""]
    if late:
        out += ["Not measured anew, for lack of time: " + "; ".join(late) + ".", ""]
    return out


def machine_lines(data):
    m = data["machine"]
    peers = sorted({p for r in data["runs"] for p in r["peers"]})
    lines = [f"- {m['processor']} (family/model {m['family_model']}), {m['processors']} processors, features "
             f"{', '.join(m['features'])}; {m['memory_GiB']} GiB; {m['compiler']}; instructions: {data['isa']}.",
             f"- {'; '.join(peers)}.",
             "- float32 everywhere, denormal numbers flushed by all. 1 thread: median processor time of the process; 2 threads: "
             "median time on the wall."]
    for i, r in enumerate(data["runs"], 1):
        name = f"Run {i}: " if len(data["runs"]) > 1 else ""
        lines.append(f"- {name}{r['date']}, commit {r['commit']}{', few repetitions' if r.get('quick') else ''}; others kept "
                     f"{r['others']:.2f} processors busy on average"
                     + (": times on the wall, and so all of 2 threads, are disturbed." if r["others"] > DISTURBED else "."))
    return lines


def markdown(data):
    results = Results(data)
    out = [f"Made by `benchmarks/compare/run.py` from `{data['file']}`:", "", *machine_lines(data), "",
           "Ratios are the peer's time over insula's. \"1 thread\" and \"2 threads\" are against the peer that the goal names, "
           "\"best peer\" is against the fastest of all, other libraries' fused, compiled and inference-only paths included. "
           "\"Largest possible\" is the same peer's time over the machine's bound: the larger of operations over the peak of one "
           "core (of 3^3 convolutions with stride 1 a quarter of the operations, as Winograd's F(4,4) needs; a softmax's "
           "exponentials and GELUs beside them, as fast as insula takes them from a cached row) and of bytes over bandwidth, every "
           "input read and every output written once; of activations, pooling and norms the passes that must follow one another, each at the speed of reading, adding or "
           "copying alone, by what it does, or the fastest of all where it writes more than it reads; of fused norms those passes as a "
           "program that does nothing else made them in turn with the rivals, at its fastest, if that took longer. A goal "
           "above it is out of reach of any program here, unless it takes exponentials and GELUs faster."
           + (f" {' and '.join(results.older)}: against the same goals, with how many cases reach them." if results.older else ""),
           "", *summary(results), "", *missed(results), *losses(results)]
    if (table := ceilings(results)):
        out += ["### Ceilings", "", "Measured in the same runs, by `compare_ceilings`; the best of all runs.", "", *table, ""]
    out += ["### Every case", ""]
    for title, groups in SECTIONS.items():
        if len(table := details(results, groups)) > 2:
            out += [f"#### {title}", "", *table, ""]
    if (table := policies(results)):
        out += ["### Winograd policies", "", *table, ""]
    return "\n".join(out + left_out(results))


def text_of(files):
    texts = []
    for path in files:
        data = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        machine = data["machine"]
        head = f"### {machine['processor']} {machine['family_model']}, {data['isa']}\n\n" if len(files) > 1 else ""
        texts.append(head + markdown(data))
    return "\n".join([BEGIN, "", *texts, END])


def write(files=()):
    text = text_of(files or sorted((ROOT / "benchmarks" / "results").glob("*.json")))
    old = PAGE.read_text(encoding="utf-8")
    if BEGIN not in old or END not in old:
        sys.exit(f"table: {PAGE} has no lines '{BEGIN}' and '{END}'")
    PAGE.write_text(old[:old.index(BEGIN)] + text + old[old.index(END) + len(END):], encoding="utf-8")
    print(f"table: wrote {PAGE}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("results", nargs="*", help="files of run.py; all of benchmarks/results without")
    parser.add_argument("--print", action="store_true", help="instead of writing docs/performance.md")
    options = parser.parse_args()
    if options.print:
        print(text_of(options.results or sorted((ROOT / "benchmarks" / "results").glob("*.json"))))
    else:
        write(options.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
