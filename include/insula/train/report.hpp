// SPDX-License-Identifier: Apache-2.0
// A report as one HTML file that needs nothing else: sections, text, tables, curves and images.
#pragma once

#include <optional>

#include "insula/io/base64.hpp"
#include "insula/io/csv.hpp"
#include "insula/io/png.hpp"
#include "insula/train/report_svg.hpp"

namespace insula {

/// Builds a report from top to bottom; functions give the report back, so that calls can be joined.
///   report r("Pretraining", "run1");
///   r.section("Losses").curves("Training loss", {{"loss", steps, losses}}).table({"metric", "last"}, rows);
///   r.section("Reconstructions").image(m.view(), "Reconstruction of a head", montage_caption).write("report.html");
/// All text is escaped, so it may come from anywhere. The file has no scripts and refers to nothing outside of itself; a
/// content policy in it forbids the browser to load anything. Opens by file://; light, dark and print styles.
class report {
 public:
  explicit report(std::string title, std::string subtitle = "")
      : title_(std::move(title)), subtitle_(std::move(subtitle)) {}

  /// A heading with an entry in the contents; level 1 or, inside of one, 2.
  report& section(std::string_view heading, int level = 1) {
    check(level == 1 || level == 2, "report: the section ", quote(heading), " has level ", level,
          "; levels are 1 and 2");
    auto const id = text("s", ++sections_);
    contents_ += text("<li", level == 2 ? " class=\"sub\"" : "", "><a href=\"#", id, "\">",
                      escape_html(heading), "</a></li>\n");
    body_ += text("<h", level + 1, " id=\"", id, "\">", escape_html(heading), "</h", level + 1, ">\n");
    return *this;
  }
  /// A paragraph.
  report& paragraph(std::string_view words) {
    body_ += "<p>" + escape_html(words) + "</p>\n";
    return *this;
  }
  /// Text with its line breaks, such as a configuration.
  report& verbatim(std::string_view words) {
    body_ += "<pre>" + escape_html(words) + "</pre>\n";
    return *this;
  }
  /// A table; cells that are numbers stand right. Throws error if a row has more or fewer cells than the head.
  report& table(std::vector<std::string> const& head, std::vector<std::vector<std::string>> const& rows,
                std::string_view caption = "") {
    body_ += "<div class=\"scroll\"><table>\n";
    if (!caption.empty()) body_ += "<caption>" + escape_html(caption) + "</caption>\n";
    body_ += "<thead><tr>";
    for (std::size_t c = 0; c < head.size(); ++c) {
      bool const numbers = !rows.empty() && c < rows.front().size() && number_in(rows.front()[c]);
      body_ +=
          text("<th scope=\"col\"", numbers ? " class=\"number\"" : "", ">", escape_html(head[c]), "</th>");
    }
    body_ += "</tr></thead>\n<tbody>\n";
    for (auto const& row : rows) {
      check(row.size() == head.size(), "report: a row has ", index_t(row.size()), " cells, the table has ",
            index_t(head.size()), " columns");
      body_ += "<tr>";
      for (auto const& cell : row)
        body_ += text("<td", number_in(cell) ? " class=\"number\"" : "", ">", escape_html(cell), "</td>");
      body_ += "</tr>\n";
    }
    body_ += "</tbody></table></div>\n";
    return *this;
  }
  /// Curves on common axes with a legend. More than 400 points are drawn as mean and range of bins.
  report& curves(std::string_view title, std::vector<curve> const& all,
                 curve_options const& options = curve_options{}) {
    body_ += "<figure>\n" + curves_svg(title, all, options) + detail::legend_html(all) + "<figcaption>" +
             escape_html(title) + "</figcaption>\n</figure>\n";
    return *this;
  }
  /// A picture inside of the file. `alt` says in words what it shows; it must not be empty.
  report& image(raster const& picture, std::string_view alt, std::string_view caption = "") {
    return png(encode_png(picture), alt, caption);
  }
  /// The same from the bytes of a PNG file.
  report& png(std::span<std::byte const> bytes, std::string_view alt, std::string_view caption = "") {
    check(!alt.empty(), "report: an image has no alternative text; say in words what it shows");
    body_ +=
        text("<figure><img src=\"", data_uri("image/png", bytes), "\" alt=\"", escape_html(alt), "\" />");
    if (!caption.empty()) body_ += "<figcaption>" + escape_html(caption) + "</figcaption>";
    body_ += "</figure>\n";
    return *this;
  }

  std::string html() const {
    std::string s = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\" />\n";
    s += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\" />\n";
    s += "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
         "style-src 'unsafe-inline'\" />\n";
    s += "<title>" + escape_html(title_) + "</title>\n<style>" + report_style + "</style>\n</head>\n<body>\n";
    s += "<nav aria-label=\"Contents\">\n<ol>\n" + contents_ + "</ol>\n</nav>\n<main>\n<h1>" +
         escape_html(title_) + "</h1>\n";
    if (!subtitle_.empty()) s += "<p class=\"soft\">" + escape_html(subtitle_) + "</p>\n";
    return s + body_ + "</main>\n</body>\n</html>\n";
  }
  /// Writes the file, atomically. Throws error.
  void write(std::string const& path) const { write_file(path, html()); }

 private:
  std::string title_, subtitle_, contents_, body_;
  int sections_ = 0;
};

}  // namespace insula
