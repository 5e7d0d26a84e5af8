// SPDX-License-Identifier: Apache-2.0
// Reading tables with a header row: comma-separated (CSV) and tab-separated (TSV, as in BIDS).
#pragma once

#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "insula/io/file.hpp"

namespace insula {

/// Text to a finite number; nothing if it is not one from end to end. Independent of the locale.
inline std::optional<double> number_in(std::string_view s) {
  if (s.starts_with('+') && !s.starts_with("+-")) s.remove_prefix(1);
  double v = 0;
  auto const r = std::from_chars(s.data(), s.data() + s.size(), v);
  if (s.empty() || r.ec != std::errc{} || r.ptr != s.data() + s.size() || !std::isfinite(v)) return {};
  return v;
}

/// A table in memory. Rows have as many cells as there are columns.
class table {
 public:
  table(std::string name, std::vector<std::string> columns)
      : name_(std::move(name)), columns_(std::move(columns)) {}

  std::string const& name() const { return name_; }
  std::vector<std::string> const& columns() const { return columns_; }
  std::size_t rows() const { return rows_.size(); }
  bool has(std::string_view column) const { return index(column) < columns_.size(); }
  /// Place of a column; throws error with the nearest name if there is none.
  std::size_t column(std::string_view name) const {
    auto const i = index(name);
    if (i == columns_.size())
      fail(name_, ": there is no column ", quote(name), "; the nearest is ",
           quote(nearest_word(name, columns_)));
    return i;
  }
  std::string const& cell(std::size_t row, std::size_t column) const { return rows_[row][column]; }
  std::string const& cell(std::size_t row, std::string_view column) const {
    return cell(row, this->column(column));
  }
  /// Line of the file on which a row begins, counted from 1.
  std::size_t line(std::size_t row) const { return lines_[row]; }
  /// True for empty cells and for "n/a", "NA", "NaN", "nan", "null", "None".
  bool missing(std::size_t row, std::string_view column) const {
    std::string_view const s = cell(row, column);
    for (std::string_view const m : {"", "n/a", "N/A", "NA", "NaN", "nan", "null", "None"})
      if (s == m) return true;
    return false;
  }
  /// The number in a cell, nothing if it is missing; throws error with file, line and column if it is
  /// neither.
  std::optional<double> number(std::size_t row, std::string_view column) const {
    if (missing(row, column)) return {};
    auto const v = number_in(cell(row, column));
    if (!v)
      fail(name_, ":", line(row), ": column ", quote(column), " holds ", quote(cell(row, column)),
           ", which is not a number; write a number or n/a");
    return v;
  }
  void add(std::vector<std::string> cells, std::size_t line) {
    check(cells.size() == columns_.size(), name_, ":", line, ": the row has ", cells.size(),
          " cells, the header has ", columns_.size(), "; quote cells that hold the separator");
    rows_.push_back(std::move(cells)), lines_.push_back(line);
  }

 private:
  std::size_t index(std::string_view column) const {
    std::size_t i = 0;
    while (i < columns_.size() && columns_[i] != column) ++i;
    return i;
  }

  std::string name_;
  std::vector<std::string> columns_;
  std::vector<std::vector<std::string>> rows_;
  std::vector<std::size_t> lines_;
};

namespace detail {

/// Splits a table's text into rows of cells (RFC 4180), counting lines.
struct csv_cursor {
  std::string_view text, file;
  char separator;
  std::size_t at = 0, line = 1;

  bool done() const { return at >= text.size(); }
  bool at_line_end() const {
    return done() || text[at] == '\n' || (text[at] == '\r' && text.substr(at, 2) == "\r\n");
  }
  void skip_line_end() {
    if (done()) return;
    at += text[at] == '\r' ? 2 : 1;
    ++line;
  }
  std::string cell() {
    if (at < text.size() && text[at] == '"') return quoted_cell();
    std::size_t const start = at;
    while (!at_line_end() && text[at] != separator) ++at;
    return std::string(text.substr(start, at - start));
  }
  std::string quoted_cell() {
    std::string s;
    std::size_t const first_line = line;
    for (++at;; ++at) {
      if (done()) fail(file, ":", first_line, ": a quote \" is opened here and never closed");
      if (text[at] == '"') {
        if (text.substr(at, 2) != "\"\"") break;
        ++at;  // "" stands for "
      }
      if (text[at] == '\n') ++line;
      s += text[at];
    }
    ++at;
    if (!at_line_end() && text[at] != separator)
      fail(file, ":", line, ": text follows the closing quote of ", quote(s, 40),
           "; double the quotes inside of a cell");
    return s;
  }
  std::vector<std::string> row() {
    std::vector<std::string> cells{cell()};
    while (!at_line_end()) ++at, cells.push_back(cell());
    skip_line_end();
    return cells;
  }
};

}  // namespace detail

/// Parses a table: quoted cells with "" for a quote and line breaks inside, LF or CRLF, an optional
/// byte-order mark, empty lines skipped. Throws error naming file and line if a row has more or fewer cells
/// than the header, if column names repeat or if a quote stays open.
inline table parse_csv(std::string_view text, char separator, std::string file) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  detail::csv_cursor c{text, file, separator};
  while (!c.done() && c.at_line_end()) c.skip_line_end();
  check(!c.done(), file, ": the file is empty; the first line must name the columns");
  std::size_t const header_line = c.line;
  auto columns = c.row();
  for (std::size_t i = 0; i < columns.size(); ++i)
    for (std::size_t k = 0; k < i; ++k)
      check(columns[i] != columns[k], file, ":", header_line, ": the column ", quote(columns[i]),
            " occurs twice; rename one");
  table t(file, std::move(columns));
  while (!c.done()) {
    if (c.at_line_end()) {
      c.skip_line_end();
      continue;
    }
    std::size_t const line = c.line;
    t.add(c.row(), line);
  }
  return t;
}

/// Reads a table; the separator is a tab for .tsv and .tab, else a comma.
inline table read_csv(std::string const& path) {
  auto const extension = std::filesystem::path(path).extension();
  return parse_csv(read_file(path), extension == ".tsv" || extension == ".tab" ? '\t' : ',', path);
}

/// A cell as it is written: quoted only if it holds the separator, a quote or a line break.
inline std::string csv_cell(std::string_view s, char separator = ',') {
  char const special[] = {separator, '"', '\n', '\r', '\0'};
  if (s.find_first_of(special) == s.npos) return std::string(s);
  std::string q = "\"";
  for (char const c : s) {
    if (c == '"') q += '"';
    q += c;
  }
  return q += '"';
}

}  // namespace insula
