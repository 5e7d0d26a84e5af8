// SPDX-License-Identifier: Apache-2.0
// Reading a MONAI (Decathlon) JSON datalist into a manifest.
#pragma once

#include <nlohmann/json.hpp>

#include "insula/data/manifest_table.hpp"

namespace insula {

namespace detail {

/// One datalist: {"training": [{"image": "a.nii.gz" or ["t1.nii.gz", ...], "label": ...}, "test": ["b.nii.gz"]}.
class datalist_reader {
 public:
  explicit datalist_reader(std::string const& path) : path_(path), folder_(folder_of(path)) {
    try {
      all_ = json::parse(read_file(path));
    } catch (nlohmann::json::exception const& e) {
      fail(path, ": this is no valid JSON (", e.what(), ")");
    }
  }

  manifest read() {
    if (all_.is_array()) all_ = json{{"training", all_}};
    check(all_.is_object(), path_,
          ": a datalist is an object such as {\"training\": [{\"image\": \"a.nii.gz\"}]}");
    if (all_.contains("modality") && all_["modality"].is_object())
      for (auto const& item : all_["modality"].items())
        if (item.value().is_string()) modalities_[item.key()] = lower(item.value().get<std::string>());
    for (auto const& part : all_.items())
      if (part.value().is_array()) read_part(part.key(), part.value());
    check(!m_.scans.empty(), path_,
          ": no entry has an \"image\"; a datalist is such as {\"training\": [{\"image\": "
          "\"a.nii.gz\", \"label\": 1}]}");
    if (unknown_ > 0)
      m_.notes.push_back(text(unknown_,
                              " entries name no subject (no \"subject\", no sub_<X> in the path): each is "
                              "taken for a subject of its own. If a person has several, add \"subject\""));
    std::sort(m_.scans.begin(), m_.scans.end(), scan_before);
    return std::move(m_);
  }

 private:
  using json = nlohmann::ordered_json;

  void read_part(std::string const& part, json const& entries) {
    for (std::size_t i = 0; i < entries.size(); ++i) {
      json const& e = entries[i];
      std::string const where = text(path_, ": ", part, "[", i, "]");
      if (e.is_string() && !image_stem(e.get<std::string>()).empty())
        read_entry(part, json{{"image", e}}, where);
      else if (e.is_object() && e.contains("image"))
        read_entry(part, e, where);
    }
  }
  static std::string plain(json const& v) { return v.is_string() ? v.get<std::string>() : v.dump(); }

  /// All images of an entry are one session of one subject, unless their paths say otherwise.
  void read_entry(std::string const& part, json const& e, std::string const& where) {
    json const images = e["image"].is_array() ? e["image"] : json::array({e["image"]});
    scan common;
    common.labels["part"] = part;
    for (auto const& item : e.items()) {
      if (item.key() == "image") continue;
      auto const field = field_of(item.key());
      if (field == "subject")
        common.subject = without_key(plain(item.value()), "sub");
      else if (field == "session")
        common.session = without_key(plain(item.value()), "ses");
      else if (field == "dataset")
        common.dataset = plain(item.value());
      else if (field == "mask")
        common.mask = resolved(folder_, plain(item.value()));
      else if (field.empty() && !item.value().is_structured() && !item.value().is_null())
        common.labels[item.key()] = label(plain(item.value()));
    }
    bool first = true;
    for (std::size_t k = 0; k < images.size(); ++k) {
      check(images[k].is_string() && !images[k].get<std::string>().empty(), where, ": image ", k, " is ",
            images[k].dump(), ", a path is needed");
      std::string const in_list = images[k].get<std::string>();
      scan s = common;
      s.path = resolved(folder_, in_list);
      auto const [other, fresh] = seen_.emplace(s.path, where);
      check(fresh, where, ": ", quote(s.path, 4096), " is also in ", other->second, "; remove one");
      s.sequence = contrast(in_list, k, images.size());
      if (!complete(s, in_list, false) && first) ++unknown_;
      if (first) common.subject = s.subject, common.session = s.session, first = false;
      m_.scans.push_back(std::move(s));
    }
  }
  /// From "modality", else from the last word of the name ("BRATS_001_t1ce"), else by place: contrasts of one entry differ.
  std::string contrast(std::string const& image, std::size_t k, std::size_t count) const {
    if (auto const at = modalities_.find(text(k)); at != modalities_.end() && count > 1) return at->second;
    std::string const stem = lower(image_stem(std::filesystem::path(image).filename().string()));
    auto const last = stem.find_last_of("_-");
    std::string const known{contrast_of_suffix(last == stem.npos ? stem : stem.substr(last + 1))};
    if (!known.empty()) return known;
    return count > 1 ? text("channel", k) : std::string();
  }
  /// A label that is the path of an existing file is resolved as the images are.
  std::string label(std::string const& value) const {
    std::string const file = resolved(folder_, value);
    std::error_code e;
    return !image_stem(value).empty() && std::filesystem::exists(file, e) ? file : value;
  }

  std::string path_, folder_;
  json all_;
  manifest m_;
  std::map<std::string, std::string> modalities_, seen_;
  std::size_t unknown_ = 0;
};

}  // namespace detail

/// Scans of a MONAI or Medical Segmentation Decathlon datalist: lists of {"image": path or paths, "label": value or path},
/// under any key; the key becomes the label "part". The images of one entry are one session. Other entries with plain values
/// become labels. Relative paths start at the file's folder. Throws error naming file and entry.
inline manifest read_datalist(std::string const& path) { return detail::datalist_reader(path).read(); }

}  // namespace insula
