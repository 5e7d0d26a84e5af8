// SPDX-License-Identifier: Apache-2.0
// Tables read from CSV and TSV, and the metrics log.
#include "insula/io/csv.hpp"

#include <sys/resource.h>

#include <csignal>

#include "insula/io/metrics.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;

TEST_CASE("a table is read with quotes, line breaks in cells, CRLF and a byte-order mark") {
  auto const t = parse_csv(
      "\xef\xbb\xbfpath,age,note\r\n\"a,b.nii\",31,\"say \"\"hi\"\"\nthere\"\r\n\nlast,n/a,", ',', "f");
  CHECK(t.columns() == std::vector<std::string>{"path", "age", "note"});
  REQUIRE(t.rows() == 2);
  CHECK(t.cell(0, "path") == "a,b.nii");
  CHECK(t.cell(0, "note") == "say \"hi\"\nthere");
  CHECK(t.number(0, "age") == 31.0);
  CHECK(t.cell(1, 0) == "last");
  CHECK_FALSE(t.number(1, "age"));
  CHECK(t.missing(1, "note"));
  CHECK(t.line(0) == 2);
  CHECK(t.line(1) == 5);
  CHECK(t.has("age"));
  CHECK_FALSE(t.has("Age"));
}

TEST_CASE("the separator follows the extension") {
  support::folder const dir;
  write_file(dir / "participants.tsv", "participant_id\tage\nsub-1\t4,5\n");
  write_file(dir / "labels.csv", "id,label\na,-1.5e3\n");
  CHECK(read_csv(dir / "participants.tsv").cell(0, "age") == "4,5");
  CHECK(read_csv(dir / "labels.csv").number(0, "label") == -1500.0);
}

TEST_CASE("what is wrong with a table is said with file and line") {
  auto const wrong = [](std::string const& s) { return message_of([&] { parse_csv(s, ',', "t.csv"); }); };
  CHECK_THAT(wrong(""), Contains("t.csv: the file is empty"));
  CHECK_THAT(wrong("\n\n"), Contains("empty"));
  CHECK_THAT(wrong("a,b\n1,2\n1,2,3\n"), Contains("t.csv:3: the row has 3 cells, the header has 2"));
  CHECK_THAT(wrong("a,b\n1\n"), Contains("t.csv:2: the row has 1 cells"));
  CHECK_THAT(wrong("a,b,a\n"), Contains("t.csv:1: the column 'a' occurs twice"));
  CHECK_THAT(wrong("a,b\n1,\"x\ny\n"), Contains("t.csv:2: a quote") && Contains("never closed"));
  CHECK_THAT(wrong("a,b\n\"x\ny\" z,1\n"), Contains("t.csv:3: text follows the closing quote"));
  auto const t = parse_csv("id,age\nx,12y\n", ',', "t.csv");
  CHECK_THAT(message_of([&] { (void)t.number(0, "age"); }), Contains("t.csv:2: column 'age' holds '12y'"));
  CHECK_THAT(message_of([&] { (void)t.cell(0, "agge"); }),
             Contains("no column 'agge'; the nearest is 'age'"));
}

TEST_CASE("numbers are read whole and in the C locale") {
  CHECK(number_in("1.5") == 1.5);
  CHECK(number_in("+2") == 2.0);
  CHECK(number_in("-1e-3") == -1e-3);
  for (auto const* s : {"", "+", "1,5", "1.5 ", " 1", "0x10", "inf", "nan", "1e999", "--1", "+-1"})
    CHECK_FALSE(number_in(s));
}

TEST_CASE("cells are quoted only where needed, and come back") {
  CHECK(csv_cell("plain text") == "plain text");
  for (std::string const s : {"a,b", "say \"x\"", "two\nlines", ""}) {
    auto const t = parse_csv("c,d\n" + csv_cell(s) + ",1\n", ',', "f");
    CHECK(t.cell(0, "c") == s);
  }
}

TEST_CASE("metrics are appended to both files as they come") {
  support::folder const dir;
  metrics_log log(dir / "run/metrics");
  log.append(1, {{"loss", 0.1}, {"lr", 1e-4}});
  log.append(2, {{"lr", 2e-4}, {"loss", std::nan("")}});
  CHECK(read_file(log.csv_path()) == "step,loss,lr\n1,0.1,1e-04\n2,nan,2e-04\n");
  CHECK(read_file(log.jsonl_path()) ==
        "{\"step\":1,\"loss\":0.1,\"lr\":0.0001}\n{\"step\":2,\"lr\":0.0002,\"loss\":\"nan\"}\n");
  log.append(3, {{"val/dice, mean", 0.5}});  // a new metric
  log.append(4, {{"loss", -std::numeric_limits<double>::infinity()}});
  CHECK(read_file(log.csv_path()) ==
        "step,loss,lr,\"val/dice, mean\"\n1,0.1,1e-04,\n2,nan,2e-04,\n3,,,0.5\n4,-inf,,\n");
  CHECK_THAT(message_of([&] { log.append(3, {{"loss", 1}}); }), Contains("step 3 comes after step 4"));
  CHECK_THAT(message_of([&] {
               log.append(5, {{"loss", 1}, {"loss", 1}});
             }),
             Contains("'loss' is given twice"));
}

TEST_CASE("a resumed log equals one that was never interrupted") {
  support::folder const dir;
  auto const feed = [](metrics_log& log, int from, int to) {
    for (int i = from; i <= to; ++i) {
      if (i % 3 == 0)
        log.append(i, {{"loss", 1.0 / i}, {"dice", i * 0.1}});
      else
        log.append(i, {{"loss", 1.0 / i}});
    }
  };
  metrics_log whole(dir / "whole");
  feed(whole, 1, 10);
  {
    metrics_log part(dir / "part");
    feed(part, 1, 7);
  }
  for (auto const* name : {"part.csv", "part.jsonl"}) {  // a crash in the middle of a line
    auto s = read_file(dir / name);
    s.resize(s.size() - 3);
    write_file(dir / name, s);
  }
  metrics_log again(dir / "part", 5);
  CHECK(again.columns() == std::vector<std::string>{"loss", "dice"});
  CHECK_THAT(message_of([&] { again.append(4, {{"loss", 1}}); }), Contains("after step 5"));
  feed(again, 6, 10);
  CHECK(read_file(again.csv_path()) == read_file(whole.csv_path()));
  CHECK(read_file(again.jsonl_path()) == read_file(whole.jsonl_path()));
  metrics_log const fresh(dir / "part");
  CHECK(read_file(fresh.csv_path()) == "step\n");
  CHECK(read_file(fresh.jsonl_path()).empty());
}

TEST_CASE("a metrics file of another kind is refused and left alone") {
  support::folder const dir;
  write_file(dir / "m.csv", "name,value\na,1\n");
  CHECK_THAT(message_of([&] { metrics_log(dir / "m", 10); }), Contains("first column is 'name'"));
  CHECK(read_file(dir / "m.csv") == "name,value\na,1\n");
  write_file(dir / "n.jsonl", "{\"step\":1}\nhello\n");
  CHECK_THAT(message_of([&] { metrics_log(dir / "n", 10); }), Contains("n.jsonl:2"));
}

TEST_CASE("a full disk never leaves half a row") {
  support::folder const dir;
  metrics_log log(dir / "m");
  log.append(1, {{"loss", 0.5}});
  auto const before = read_file(log.csv_path());
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  rlimit const small{before.size() + 3, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  auto const message = message_of([&] { log.append(2, {{"loss", 0.123456789}}); });
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  CHECK_THAT(message, Contains("m.csv") && Contains("File too large"));
  CHECK(read_file(log.csv_path()) == before);
  log.append(2, {{"loss", 0.25}});
  CHECK(read_file(log.csv_path()) == before + "2,0.25\n");
}
