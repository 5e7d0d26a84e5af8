// SPDX-License-Identifier: Apache-2.0
// Reports: well-formed HTML, escaping, no reference to anything outside, curves with gaps, runs in all states.
#include "insula/train/report.hpp"

#include "insula/io/safetensors_write.hpp"
#include "insula/train/run_report.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;

namespace {

/// What is wrong with the markup, "" if every tag is closed in order and every attribute is quoted. Void elements are
/// written <x ... />, so that an XML reader would be content, too.
std::string fault_of(std::string_view s) {
  std::vector<std::string> open;
  constexpr std::string_view doctype = "<!DOCTYPE html>\n";
  if (!s.starts_with(doctype)) return "no doctype";
  s.remove_prefix(doctype.size());
  while (!s.empty()) {
    auto const less = s.find('<');
    auto const words = s.substr(0, less);
    if (words.find('>') != words.npos && (open.empty() || open.back() != "style"))
      return "a lone > in " + std::string(words);
    for (auto i = words.find('&'); i != words.npos; i = words.find('&', i + 1))
      if (words.find(';', i) > i + 6) return "a lone & in " + std::string(words);
    if (less == s.npos) break;
    s.remove_prefix(less + 1);
    bool const closes = s.starts_with('/');
    if (closes) s.remove_prefix(1);
    auto const name = std::string(s.substr(0, s.find_first_of(" />\n")));
    s.remove_prefix(name.size());
    if (name.empty()) return "an empty tag";
    while (s.starts_with(' ') && !s.starts_with(" />")) {
      auto const equals = s.find_first_of("=> ", 1);
      if (equals == s.npos || s.substr(equals, 2) != "=\"")
        return "an attribute without value or quotes in " + name;
      auto const quote = s.find('"', equals + 2);
      if (quote == s.npos || s.substr(equals + 2, quote - equals - 2).find('<') != s.npos)
        return "a bad value in " + name;
      s.remove_prefix(quote + 1);
    }
    if (s.starts_with(" />")) {
      s.remove_prefix(3);
      continue;
    }
    if (!s.starts_with('>')) return "a tag that does not end: " + name;
    s.remove_prefix(1);
    if (!closes)
      open.push_back(name);
    else if (open.empty() || open.back() != name)
      return "</" + name + "> closes " + (open.empty() ? "nothing" : open.back());
    else
      open.pop_back();
  }
  return open.empty() ? "" : "never closed: " + open.back();
}

/// The first thing that a browser would have to fetch; "" if there is none.
std::string reference_in(std::string_view s) {
  for (std::string_view const bad :
       {"http:", "https:", "//", "@import", "url(", "<script", "<link", "<iframe", "srcset"})
    for (auto i = s.find(bad); i != s.npos; i = s.find(bad, i + 1))
      if (s.rfind("data:image/png;base64,", i) == s.npos ||
          s.substr(s.rfind("data:image/png;base64,", i), i - s.rfind("data:image/png;base64,", i))
                  .find('"') != s.npos)
        return std::string(s.substr(i, 40));
  for (auto i = s.find("src=\""); i != s.npos; i = s.find("src=\"", i + 1))
    if (!s.substr(i + 5).starts_with("data:image/png;base64,")) return std::string(s.substr(i, 40));
  for (auto i = s.find("href=\""); i != s.npos; i = s.find("href=\"", i + 1))
    if (s[i + 6] != '#') return std::string(s.substr(i, 40));
  return "";
}

std::size_t count(std::string_view s, std::string_view word) {
  std::size_t n = 0;
  for (auto i = s.find(word); i != s.npos; i = s.find(word, i + word.size())) ++n;
  return n;
}

constexpr char const* hostile = "</title><script>alert('x & y')</script> \"onload=\"\x01\xff é";

}  // namespace

TEST_CASE("text of any kind is escaped") {
  CHECK(escape_html("a<b> & \"c\" 'd'\n\t") == "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;\n\t");
  CHECK(escape_html("ü€😀") == "ü€😀");
  std::string const bad = "\xef\xbf\xbd";
  CHECK(escape_html(std::string_view("\0\x1b", 2)) == bad + bad);
  CHECK(escape_html("\x80") == bad);
  CHECK(escape_html("\xc0\xaf") == bad + bad);            // overlong
  CHECK(escape_html("\xed\xa0\x80") == bad + bad + bad);  // a surrogate
  CHECK(escape_html("\xf4\x90\x80\x80") == bad + bad + bad + bad);
  CHECK(escape_html("\xe2\x82") == bad + bad);  // cut off
}

TEST_CASE("a report with everything in it is well formed and refers to nothing outside") {
  report r(hostile, hostile);
  std::vector<std::uint8_t> const pixels(6, 9);
  r.section("Overview").paragraph(hostile).verbatim("[a]\nb = \"<c>\"\n");
  r.section("Curves", 2)
      .curves(hostile, {{hostile, {1, 2, 3}, {0.5, std::nan(""), 0.25}}, {"b", {1, 3}, {2, 1}}},
              {.x_label = hostile, .y_label = hostile});
  r.section("Tables").table({"name", "value"}, {{hostile, "1.5"}, {"b", "n/a"}}, hostile);
  r.section("Pictures").image({3, 2, 1, pixels}, hostile, hostile);
  auto const html = r.html();
  CHECK(fault_of(html) == "");
  CHECK(reference_in(html) == "");
  CHECK(html.find("<script") == html.npos);
  CHECK(count(html, "<h2 id=") == 3);
  CHECK(count(html, "<h3 id=") == 1);
  for (int i = 1; i <= 4; ++i) {
    CHECK(count(html, text("href=\"#s", i, "\"")) == 1);
    CHECK(count(html, text(" id=\"s", i, "\"")) == 1);
  }
  CHECK_THAT(html, Contains("prefers-color-scheme: dark") && Contains("@media print") &&
                       Contains("<nav aria-label") && Contains("default-src 'none'") &&
                       Contains("src=\"data:image/png;base64,iVBOR") &&
                       Contains("<td class=\"number\">1.5</td>") && Contains("role=\"img\" aria-label="));
}

TEST_CASE("the check of well-formedness finds faults") {
  report r("t");
  auto const good = r.html();
  CHECK(fault_of(good) == "");
  auto const with = [&](std::string_view more) {
    auto s = good;
    return s.insert(s.find("</main>"), more);
  };
  for (char const* const bad :
       {"<p>", "</p>", "a < b", "a > b", "AT&T and more", "<p class=x></p>", "<b><i></b></i>", "<br>"})
    CHECK(fault_of(with(bad)) != "");
  CHECK(reference_in(with("<img src=\"a.png\" alt=\"a\" />")) != "");
  CHECK(reference_in(with("<a href=\"b.html\">b</a>")) != "");
  CHECK(reference_in(with("see https://x")) != "");
}

TEST_CASE("the file is written atomically and images need words") {
  support::folder const dir;
  report r("t");
  r.write(dir / "report.html");
  CHECK(read_file(dir / "report.html") == r.html());
  CHECK(dir.list().size() == 1);
  std::vector<std::uint8_t> const pixels(1);
  CHECK_THAT(message_of([&] { r.image({1, 1, 1, pixels}, ""); }), Contains("alternative text"));
  CHECK_THAT(message_of([&] { r.table({"a"}, {{"1", "2"}}); }), Contains("2 cells") && Contains("1 columns"));
  CHECK_THAT(message_of([&] { r.section("a", 3); }), Contains("level 3"));
}

TEST_CASE("curves break where values are not finite, and lone points are dots") {
  double const nan = std::nan("");
  auto const svg = curves_svg("t", {{"a", {1, 2, 3, 4, 5, 6}, {1, 2, nan, 4, nan, 6}}}, {});
  CHECK(count(svg, "class=\"curve\"") == 1);
  CHECK(count(svg, "<circle") == 2);
  CHECK(svg.find("nan") == svg.npos);
  CHECK(svg.find("inf") == svg.npos);
}

TEST_CASE("dense curves become means and ranges, and keep their extremes") {
  curve c{"loss", {}, {}};
  for (int i = 0; i < 100'000; ++i) c.x.push_back(i), c.y.push_back(i == 5000 ? 100.0 : i % 2);
  auto const bins = detail::bins_of(c, false, 0, 99'999);
  CHECK(bins.size() == 400);
  double high = 0;
  index_t points = 0;
  for (auto const& b : bins) high = std::max(high, b.high), points += b.count;
  CHECK(high == 100);
  CHECK(points == 100'000);
  CHECK(std::abs(bins[300].mean - 0.5) < 0.01);
  auto const svg = curves_svg("t", {c}, {});
  CHECK(svg.size() < 40'000);
  CHECK(count(svg, "class=\"band\"") == 1);
}

TEST_CASE("curves of one point, of equal values, of nothing and on a logarithmic axis draw, too") {
  CHECK_THAT(curves_svg("t", {{"a", {7}, {3}}}, {}), Contains("<circle"));
  CHECK_THAT(curves_svg("t", {{"a", {1, 2}, {3, 3}}}, {}), Contains("class=\"curve\""));
  CHECK_THAT(curves_svg("t", {}, {}), Contains("No finite values"));
  CHECK_THAT(curves_svg("t", {{"a", {1, 2}, {std::nan(""), std::nan("")}}}, {}),
             Contains("No finite values"));
  auto const log = curves_svg("t", {{"a", {1, 2, 3, 4}, {1e-6, 1e3, -1, 10}}}, {.log_y = true});
  CHECK_THAT(log, Contains("1e-06") || Contains("1e-6"));
  CHECK(count(log, "<circle") == 1);
  CHECK(log.find("nan") == log.npos);
  for (double const huge : {1e300, 1e-300, 0.0, -1e18})
    CHECK(curves_svg("t", {{"a", {1, 2}, {huge, huge * (1 + 1e-15)}}}, {}).size() < 20'000);
}

TEST_CASE("axes have round numbers") {
  CHECK(detail::round_ticks(0, 1) == std::vector<double>{0, 0.2, 0.4, 0.2 * 3, 0.8, 1});
  CHECK(detail::round_ticks(-3, 7) == std::vector<double>{-2, 0, 2, 4, 6});
  CHECK_THAT(
      curves_svg("t", {{"a", {1, 2}, {0.5, 5000}}}, {.log_y = true}),
      Contains(">1<") && Contains(">10<") && Contains(">100<") && Contains(">1000<") && !Contains(">3.162<"));
  CHECK(detail::spans_decades({"a", {1, 2, 3}, {1e-5, std::nan(""), 1}}));
  CHECK_FALSE(detail::spans_decades({"a", {1, 2, 3}, {1e-5, 0, 1}}));
  CHECK_FALSE(detail::spans_decades({"a", {1, 2}, {0.01, 1}}));
  CHECK(detail::round_ticks(5, 5) == std::vector<double>{5});
  CHECK(detail::short_number(0.000123456) == "0.0001235");
  CHECK(detail::short_number(-0.0) == "0");
}

TEST_CASE("the report of a run has its curves, pictures, checkpoints, configuration and environment") {
  support::folder const dir;
  write_file(dir / "metrics.csv",
             "step,train/loss,time/x,train/lr,val/loss\n10,0.5,1,0.1,\n20,nan,2,0.1,0.7\n30,0.25,3,0.1,\n");
  write_file(dir / "config.resolved.toml", "a = \"<b>\"\n");
  write_file(dir / "env.json", "{\"library\": 1}\n");
  std::filesystem::create_directories(dir / "images");
  std::filesystem::create_directories(dir / "checkpoints");
  std::vector<std::uint8_t> const pixels(4);
  for (char const* const step : {"00000001", "00000002", "00000003", "00000004", "00000005", "00000006"})
    write_png(dir / text("images/val-montage-", std::string_view(step), ".png"), {2, 2, 1, pixels});
  safetensors_writer w;
  w.metadata["insula.step"] = "30", w.metadata["insula.score"] = "0.7";
  w.write(dir / "checkpoints/step-00000030.safetensors");
  write_file(dir / "checkpoints/step-00000040.safetensors", "cut off");
  write_run_report(dir.path(), "Pretraining");
  auto const html = read_file(dir / "report.html");
  CHECK(fault_of(html) == "");
  CHECK(reference_in(html) == "");
  CHECK_THAT(html, Contains("<h1>Pretraining</h1>") && Contains("a = &quot;&lt;b&gt;&quot;") &&
                       Contains("library") && Contains("step-00000030") && Contains("unreadable") &&
                       Contains(">0.7<") && Contains("the left of the picture is the left of the subject"));
  CHECK(count(html, "<img ") == 4);  // the first and the last three
  CHECK(count(html, " alt=\"") == 4);
  CHECK_THAT(html,
             Contains("val-montage after step 1") && Contains("after step 6") && !Contains("after step 2"));
  CHECK(count(html, ">train</h3>") == 1);  // one section for a group, wherever its columns stand
  CHECK(count(html, "<figure>\n<svg") == 4);
}

TEST_CASE("a run that has just begun has a report, too") {
  support::folder const dir;
  write_run_report(dir.path());
  CHECK(fault_of(read_file(dir / "report.html")) == "");
  write_file(dir / "metrics.csv", "step\n");
  write_run_report(dir.path());
  CHECK(fault_of(read_file(dir / "report.html")) == "");
}
