# SPDX-License-Identifier: Apache-2.0
# Runs 09_make_cohort --targets as a user would and reads what it wrote. Usage: cohort.py BIN_FOLDER BRAINS
import collections
import csv
import gzip
import pathlib
import struct
import sys
import tempfile

import expect as checks

BIN, BRAINS = pathlib.Path(sys.argv[1]), sys.argv[2]


def run(*arguments):
    code, out, err = checks.run(BIN / "09_make_cohort", "--data", BRAINS, *arguments)
    return code, out + err


def expect(what, good, detail=""):
    checks.verdict(what, good, str(detail)[-2000:])


def rows(path):
    with open(path, newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def content(folder):  # what the tables and images hold, without the time in a gzip header
    return {p.relative_to(folder): gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes()
            for p in sorted(folder.rglob("*")) if p.is_file()}


with tempfile.TemporaryDirectory() as folder:
    tmp = pathlib.Path(folder)
    asked = ["--subjects", 20, "--sessions", 2, "--spacing", 12, "--targets", "--from", "sub_1", "--from", "sub_3"]
    code, text = run("--out", tmp / "a", *asked, "--threads", 2)
    expect("a cohort with targets is made", code == 0 and "20 virtual subjects, 40 volumes" in text, text)
    run("--out", tmp / "b", *asked, "--threads", 1)
    run("--out", tmp / "c", *asked, "--seed", 2)
    expect("it is a function of the seed, not of threads", content(tmp / "a") == content(tmp / "b"))
    expect("another seed is another cohort", content(tmp / "a") != content(tmp / "c"))

    known = {r["patient_id"]: r for r in rows(tmp / "a" / "subjects.csv")}
    expect("half of them are patients", sum(r["patient"] == "1" for r in known.values()) == 10)
    expect("patients alone have lesions", all((r["lesions"] != "0") == (r["patient"] == "1") for r in known.values()))
    for target, label in (("regression", "atrophy"), ("classification", "patient")):
        part_of, scans = {}, 0
        for part in ("train", "val", "test"):
            path = tmp / "a" / target / f"{part}.csv"
            for r in rows(path):
                scans += 1
                expect(f"{target}: {r['patient_id']} is in one part", part_of.setdefault(r["patient_id"], part) == part)
                expect(f"{target}: its label is known", r["label"] == known[r["patient_id"]][label], r)
                for column in ("image_path", "mask_path"):
                    head = gzip.decompress((path.parent / r[column]).read_bytes())[:348]
                    expect(f"{target}: the grid of {r[column]}", struct.unpack("<8h", head[40:56])[1:4] == (16, 16, 13), r)
        sizes = collections.Counter(part_of.values())
        expect(f"{target}: 12, 4 and 4 subjects, 40 scans", (sizes["train"], sizes["val"], sizes["test"], scans) == (12, 4, 4, 40),
               sizes)
    pretrain = rows(tmp / "a" / "pretrain.csv")
    trained = {r["patient_id"] for r in rows(tmp / "a" / "regression" / "train.csv")}
    expect("pre-training sees the training part alone", {r["patient_id"] for r in pretrain} == trained)
    expect("without labels", "label" not in pretrain[0])

    code, text = run("--out", tmp / "x", "--targets")
    expect("no spacing: the reason is said", code == 1 and "--spacing" in text, text)
    code, text = run("--out", tmp / "x", "--from", "sub_9")
    expect("no such source: the reason is said", code == 1 and "sub_1/ses_2" in text, text)

checks.end()
