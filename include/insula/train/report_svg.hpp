// SPDX-License-Identifier: Apache-2.0
// Curves as inline SVG: axes with round numbers, means and ranges of dense curves, gaps where values are not finite.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "insula/base/text.hpp"
#include "insula/train/html.hpp"

namespace insula {

/// A curve of points (x, y); x does not fall. Values that are not finite leave a gap.
struct curve {
  std::string name;
  std::vector<double> x, y;
};

struct curve_options {
  std::string x_label{"step"}, y_label{};
  bool log_y = false;  ///< values that are not above 0 then leave a gap
};

namespace detail {

/// About `wanted` round numbers in [low, high]: multiples of 1, 2 or 5 times a power of ten, at least `least` apart.
inline std::vector<double> round_ticks(double low, double high, int wanted = 5, double least = 0) {
  double const span = high - low;
  if (!(span > 0) || !std::isfinite(span)) return {low};
  double const raw = span / wanted, power = std::pow(10.0, std::floor(std::log10(raw)));
  double const m = raw / power, step = std::max(power * (m < 1.5 ? 1 : m < 3 ? 2 : m < 7 ? 5 : 10), least);
  std::vector<double> ticks;
  for (auto i = std::ceil(low / step - 1e-9); i * step <= high + 1e-9 * span && ticks.size() < 20; ++i)
    ticks.push_back(i * step);
  return ticks;
}

/// Up to four significant digits, without trailing zeros.
inline std::string short_number(double v) {
  std::array<char, 32> b;
  auto const r =
      std::to_chars(b.data(), b.data() + b.size(), v == 0 ? 0.0 : v, std::chars_format::general, 4);
  return {b.data(), r.ptr};
}
/// A coordinate with one decimal.
inline std::string pixels(double v) {
  std::array<char, 48> b;
  auto const r = std::to_chars(b.data(), b.data() + b.size(), v, std::chars_format::fixed, 1);
  return {b.data(), r.ptr};
}

/// Part of a curve that falls on one column of the picture; a gap if count is 0.
struct curve_bin {
  double x = 0, mean = 0, low = 0, high = 0;
  index_t count = 0;
};

/// The curve in at most `most` bins of equal width; points as they are if there are no more than that.
inline std::vector<curve_bin> bins_of(curve const& c, bool log_y, double first, double last,
                                      std::size_t most = 400) {
  std::vector<curve_bin> bins;
  auto const value = [&](std::size_t i) {
    if (!std::isfinite(c.x[i])) return c.x[i] - c.x[i];  // NaN: a gap
    return !log_y ? c.y[i] : c.y[i] > 0 ? std::log10(c.y[i]) : std::numeric_limits<double>::quiet_NaN();
  };
  std::size_t const n = std::min(c.x.size(), c.y.size());
  if (n <= most) {
    for (std::size_t i = 0; i < n; ++i) {
      double const v = value(i);
      if (std::isfinite(v))
        bins.push_back({c.x[i], v, v, v, 1});
      else
        bins.push_back({});
    }
    return bins;
  }
  bins.resize(most);
  double const width = (last - first) / double(most);
  for (std::size_t i = 0; i < n; ++i) {
    double const v = value(i);
    if (!std::isfinite(v)) continue;
    auto const at = width > 0 ? std::min(std::size_t((c.x[i] - first) / width), most - 1) : std::size_t{0};
    auto& b = bins[at];
    if (b.count == 0) b.low = b.high = v;
    b.low = std::min(b.low, v), b.high = std::max(b.high, v);
    b.x += (c.x[i] - b.x) / double(b.count + 1), b.mean += (v - b.mean) / double(b.count + 1), ++b.count;
  }
  return bins;
}

/// Map from data to pixels of the frame.
struct plot_area {
  double x0, x1, y0, y1;                                  // data
  double left = 64, top = 12, width = 820, height = 260;  // pixels

  double x(double v) const { return left + (x1 > x0 ? (v - x0) / (x1 - x0) : 0.5) * width; }
  double y(double v) const { return top + height - (y1 > y0 ? (v - y0) / (y1 - y0) : 0.5) * height; }
};

inline void widen(double& low, double& high, double v) { low = std::min(low, v), high = std::max(high, v); }

/// A curve's dashes, so that curves differ not by colour alone.
constexpr char const* dashes(std::size_t i) {
  constexpr char const* pattern[] = {"none", "7 3", "2 3", "10 3 2 3"};
  return pattern[i % 4];
}

inline std::string stroke(std::size_t i) {
  return text("stroke=\"var(--c", index_t(i % 8), ")\" stroke-dasharray=\"", std::string_view(dashes(i)),
              "\"");
}

inline std::string axes_svg(plot_area const& a, curve_options const& o) {
  std::string s;
  auto const label = [&](double x, double y, char const* anchor, std::string_view t) {
    s += text("<text x=\"", pixels(x), "\" y=\"", pixels(y), "\" text-anchor=\"", std::string_view(anchor),
              "\">", escape_html(t), "</text>\n");
  };
  auto const rule = [&](double x1, double y1, double x2, double y2) {
    s += text("<line class=\"grid\" x1=\"", pixels(x1), "\" y1=\"", pixels(y1), "\" x2=\"", pixels(x2),
              "\" y2=\"", pixels(y2), "\" />\n");
  };
  for (double const t : round_ticks(a.x0, a.x1, 8)) {
    rule(a.x(t), a.top, a.x(t), a.top + a.height);
    label(a.x(t), a.top + a.height + 16, "middle", short_number(t));
  }
  bool const decades = o.log_y && a.y1 - a.y0 >= 1;  // whole powers of ten then
  for (double const t : round_ticks(a.y0, a.y1, 5, decades ? 1 : 0)) {
    rule(a.left, a.y(t), a.left + a.width, a.y(t));
    label(a.left - 6, a.y(t) + 4, "end", short_number(o.log_y ? std::pow(10.0, t) : t));
  }
  s += text("<rect class=\"frame\" x=\"", pixels(a.left), "\" y=\"", pixels(a.top), "\" width=\"",
            pixels(a.width), "\" height=\"", pixels(a.height), "\" />\n");
  label(a.left + a.width / 2, a.top + a.height + 34, "middle", o.x_label);
  if (!o.y_label.empty())
    s += text("<text transform=\"translate(14 ", pixels(a.top + a.height / 2),
              ") rotate(-90)\" text-anchor=\"middle\">", escape_html(o.y_label), "</text>\n");
  return s;
}

/// One run of bins without a gap: the range as a band, the means as a line, a lone bin as a dot.
inline std::string stretch_svg(plot_area const& a, std::span<curve_bin const> bins, std::size_t color) {
  std::string line, back;
  bool band = false;
  for (auto const& b : bins) {
    line += text(line.empty() ? "M" : "L", pixels(a.x(b.x)), " ", pixels(a.y(b.mean)));
    back.insert(0, text("L", pixels(a.x(b.x)), " ", pixels(a.y(b.low))));
    band = band || b.high > b.low;
  }
  std::string s;
  if (bins.size() == 1)
    return text("<circle cx=\"", pixels(a.x(bins[0].x)), "\" cy=\"", pixels(a.y(bins[0].mean)),
                "\" r=\"2.5\" fill=\"var(--c", index_t(color % 8), ")\" />\n");
  if (band) {
    std::string top;
    for (auto const& b : bins)
      top += text(top.empty() ? "M" : "L", pixels(a.x(b.x)), " ", pixels(a.y(b.high)));
    s += text("<path class=\"band\" fill=\"var(--c", index_t(color % 8), ")\" d=\"", top, back, "Z\" />\n");
  }
  return s += text("<path class=\"curve\" ", stroke(color), " d=\"", line, "\" />\n");
}

inline std::string curve_svg(plot_area const& a, std::vector<curve_bin> const& bins, bool sparse,
                             std::size_t color) {
  std::string s;
  std::vector<curve_bin> stretch;
  auto const end = [&] {
    if (!stretch.empty()) s += stretch_svg(a, stretch, color);
    stretch.clear();
  };
  for (auto const& b : bins) {
    if (b.count > 0)
      stretch.push_back(b);
    else if (sparse)
      end();  // a point that is not finite; in a dense curve an empty bin is but a bin without points
  }
  end();
  return s;
}

inline std::string legend_html(std::vector<curve> const& curves) {
  std::string s = "<ul class=\"legend\">\n";
  for (std::size_t i = 0; i < curves.size(); ++i)
    s += text(
        "<li><svg viewBox=\"0 0 34 10\" aria-hidden=\"true\"><line x1=\"0\" y1=\"5\" x2=\"34\" y2=\"5\" "
        "stroke-width=\"2\" ",
        stroke(i), " /></svg>", escape_html(curves[i].name), "</li>\n");
  return s += "</ul>\n";
}

}  // namespace detail

/// The curves on common axes, with a description for screen readers, as an <svg> element; a sentence if there is no finite
/// point.
inline std::string curves_svg(std::string_view title, std::vector<curve> const& curves,
                              curve_options const& o) {
  constexpr double none = std::numeric_limits<double>::infinity();
  double x0 = none, x1 = -none, y0 = none, y1 = -none;
  for (auto const& c : curves)
    for (double const x : c.x)
      if (std::isfinite(x)) detail::widen(x0, x1, x);
  std::vector<std::vector<detail::curve_bin>> bins;
  for (auto const& c : curves) {
    bins.push_back(detail::bins_of(c, o.log_y, x0, x1));
    for (auto const& b : bins.back())
      if (b.count > 0) detail::widen(y0, y1, b.low), detail::widen(y0, y1, b.high);
  }
  if (!(y0 <= y1)) return "<p class=\"soft\">No finite values yet.</p>\n";
  double const margin = y1 > y0 ? 0.04 * (y1 - y0) : std::max(0.04 * std::fabs(y0), 1e-12);
  detail::plot_area const a{x0, x1, y0 - margin, y1 + margin};
  auto const real = [&](double v) { return detail::short_number(o.log_y ? std::pow(10.0, v) : v); };
  auto s = text("<svg viewBox=\"0 0 900 312\" role=\"img\" aria-label=\"", escape_html(title), ": ",
                index_t(curves.size()), curves.size() == 1 ? " curve over " : " curves over ",
                escape_html(o.x_label), " ", detail::short_number(x0), " to ", detail::short_number(x1),
                ", values ", real(y0), " to ", real(y1), "\">\n");
  s += detail::axes_svg(a, o);
  for (std::size_t i = 0; i < curves.size(); ++i)
    s += detail::curve_svg(a, bins[i], std::min(curves[i].x.size(), curves[i].y.size()) <= 400, i);
  return s += "</svg>\n";
}

}  // namespace insula
