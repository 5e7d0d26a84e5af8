// SPDX-License-Identifier: Apache-2.0
// Text as HTML: escaping, and the style of reports in light, dark and print.
#pragma once

#include <string>
#include <string_view>

namespace insula {

namespace detail {
/// Bytes of the well-formed UTF-8 character that s begins with; 0 if there is none (Unicode 15, table 3-7).
constexpr std::size_t utf8_length(std::string_view s) {
  auto const at = [&](std::size_t i) { return i < s.size() ? static_cast<unsigned char>(s[i]) : 0u; };
  auto const tail = [&](std::size_t i) { return (at(i) & 0xc0u) == 0x80u; };
  unsigned const a = at(0), b = at(1);
  if (a < 0x80) return s.empty() ? 0 : 1;
  if (a >= 0xc2 && a <= 0xdf) return tail(1) ? 2 : 0;
  if (a >= 0xe0 && a <= 0xef) {
    bool const second = a == 0xe0 ? b >= 0xa0 && b <= 0xbf : a == 0xed ? b >= 0x80 && b <= 0x9f : tail(1);
    return second && tail(2) ? 3 : 0;
  }
  if (a >= 0xf0 && a <= 0xf4) {
    bool const second = a == 0xf0 ? b >= 0x90 && b <= 0xbf : a == 0xf4 ? b >= 0x80 && b <= 0x8f : tail(1);
    return second && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}
}  // namespace detail

/// Any bytes as text of an HTML element or of a quoted attribute: & < > " ' become entities; control characters and bytes
/// that are not UTF-8 become U+FFFD.
inline std::string escape_html(std::string_view s) {
  std::string out;
  out.reserve(s.size());
  while (!s.empty()) {
    auto const length = detail::utf8_length(s);
    char const c = s.front();
    bool const control =
        length == 1 && ((static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7f);
    if (length == 0 || control)
      out += "\xef\xbf\xbd";
    else if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\'')
      out += "&#39;";
    else
      out += s.substr(0, length);
    s.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

/// Style sheet of reports: contents on the left, colours that follow the reader's light or dark setting, print without
/// contents. The eight colours of curves (Okabe & Ito 2008) can be told apart with every kind of colour vision.
inline constexpr char const* report_style = R"css(
:root { color-scheme: light dark; --ink: #1d2329; --soft: #5b6670; --paper: #ffffff; --panel: #f4f6f8; --line: #d5dbe1;
  --link: #0b5cad; --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #cc79a7; --c4: #8a6d00; --c5: #56b4e9; --c6: #e69f00;
  --c7: #555555; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e8ed; --soft: #9aa6b1; --paper: #14181c; --panel: #1d2329;
  --line: #37414b; --link: #7db8f5; --c0: #56b4e9; --c1: #ff8f4d; --c2: #33c79c; --c3: #e6a5c8; --c4: #f0e442; --c5: #9fd6f5;
  --c6: #e69f00; --c7: #bbbbbb; } }
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
a { color: var(--link); }
nav { position: fixed; top: 0; bottom: 0; left: 0; width: 15rem; overflow-y: auto; padding: 1.2rem 1rem;
  background: var(--panel); border-right: 1px solid var(--line); }
nav ol { list-style: none; margin: 0; padding: 0; }
nav li { margin: .3rem 0; }
nav li.sub { margin-left: 1rem; font-size: .93em; }
main { margin-left: 15rem; padding: 1.2rem 2rem 4rem; max-width: 76rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; }
h2 { margin: 2.4rem 0 .6rem; padding-bottom: .2rem; border-bottom: 1px solid var(--line); }
h3 { margin: 1.6rem 0 .4rem; }
p.soft, figcaption, caption { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; }
pre { background: var(--panel); border: 1px solid var(--line); padding: .8rem; overflow-x: auto; font-size: .87em; }
figure { margin: 1rem 0; }
img { max-width: 100%; image-rendering: pixelated; background: #000; }
svg { width: 100%; max-width: 60rem; height: auto; display: block; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .frame { stroke: var(--soft); stroke-width: 1; fill: none; }
svg .curve { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
svg .band { stroke: none; opacity: .22; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; margin: .2rem 0; padding: 0; list-style: none; }
.legend svg { display: inline-block; width: 34px; height: 10px; margin-right: .4rem; }
@media (max-width: 60rem) { nav { position: static; width: auto; border: 0; } main { margin: 0; padding: 1rem; } }
@media print { nav { display: none; } main { margin: 0; max-width: none; } figure, table { break-inside: avoid; } }
)css";

}  // namespace insula
