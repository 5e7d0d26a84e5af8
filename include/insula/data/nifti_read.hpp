// SPDX-License-Identifier: Apache-2.0
// Reading NIfTI-1 and NIfTI-2 images, single or in pairs, plain or gzip, in either byte order.
#pragma once

#include <limits>

#include "insula/data/nifti_header.hpp"

namespace insula {

struct nifti_read_options {
  index_t volume_index = -1;  // which volume of a 4D file; -1: the file must hold exactly one
  bool scale = true;          // apply slope and intercept
};

/// A volume and what its file said about it.
struct nifti_volume {
  volume image;
  nifti_image_info info;
};

namespace detail {

inline bool ends_with_word(std::string const& s, std::string_view lower) {
  if (s.size() < lower.size()) return false;
  for (std::size_t i = 0; i < lower.size(); ++i)
    if (char const c = s[s.size() - lower.size() + i]; c != lower[i] && c != lower[i] - 'a' + 'A')
      return false;
  return true;
}

/// The other half of a pair: swaps .hdr and .img before an optional .gz; tries with and without .gz. "" if there is none.
inline std::string partner(std::string const& path, std::string_view from, std::string_view to) {
  std::string stem = ends_with_word(path, ".gz") ? path.substr(0, path.size() - 3) : path;
  if (!ends_with_word(stem, from)) return {};
  bool const upper = stem[stem.size() - 1] < 'a';
  stem.resize(stem.size() - from.size());
  for (char const c : to) stem += upper && c != '.' ? char(c - 'a' + 'A') : c;
  struct stat st {};
  for (char const* end : {"", ".gz", ".GZ"})
    if (::stat((stem + end).c_str(), &st) == 0) return stem + end;
  return {};
}

/// Extensions between the header and the voxels: a byte that says whether there are any, then (size, code, bytes) each.
inline void read_extensions(byte_source& in, index_t end, nifti_image_info& info) {
  char extender[4] = {0, 0, 0, 0};
  if (in.position() + 4 > end || in.read(extender, 4) < 4 || !extender[0]) return;
  while (in.position() + 8 <= end) {
    std::int32_t head[2];
    if (in.read(head, 8) < 8) return;
    if (info.swapped) nifti_swap_4bytes(2, head);
    if (head[0] == 0 && head[1] == 0) return;  // padding before the voxels
    if (head[0] < 16 || head[0] % 16 != 0 || in.position() + head[0] - 8 > end) {
      info.warnings.push_back(
          text("extension ", info.extensions.size() + 1, " has a size of ", head[0],
               " bytes, which is no multiple of 16 that fits; it and what follows are ignored"));
      return;
    }
    nifti_extension e{head[1], std::string(std::size_t(head[0] - 8), '\0')};
    if (in.read(e.bytes.data(), head[0] - 8) < head[0] - 8) return;
    info.extensions.push_back(std::move(e));
  }
}

/// Byte order and version from the first bytes; reads and interprets the whole header, leaves `in` behind its extensions.
class header_reader {
 public:
  explicit header_reader(byte_source& in) : in_(in), say_{text("read ", quote(in.path(), 4096))} {}

  nifti_image_info read() {
    alignas(8) char raw[sizeof(nifti_2_header)] = {};
    index_t const first = index_t(sizeof(nifti_1_header));
    if (in_.disk_bytes() == 0) say_.refuse("the file is empty");
    if (index_t const got = in_.read(raw, first); got < first)
      say_.refuse("the file holds ", got, " bytes, a NIfTI header ", first,
                  ": it is cut off or no NIfTI file");
    identify(raw);
    info_.path = info_.data_path = in_.path();
    info_.compressed = in_.compressed();
    if (info_.version == 2) {
      index_t const rest = index_t(sizeof(nifti_2_header)) - first;
      if (in_.read(raw + first, rest) < rest) say_.refuse("the file ends inside the NIfTI-2 header");
      decode<nifti_2_header>(raw);
    } else {
      decode<nifti_1_header>(raw);
    }
    index_t const end = std::min(in_.most_bytes(), pair_ ? most_header_bytes : info_.data_offset);
    read_extensions(in_, end, info_);
    if (pair_) find_data();
    return std::move(info_);
  }

 private:
  void identify(char const* raw) {
    std::int32_t size = 0;
    std::memcpy(&size, raw, 4);
    std::int32_t swapped = size;
    nifti_swap_4bytes(1, &swapped);
    if (size == 348 || swapped == 348)
      info_.version = 1, info_.swapped = size != 348;
    else if (size == 540 || swapped == 540)
      info_.version = 2, info_.swapped = size != 540;
    else if (std::memcmp(raw + 344, "n+1", 4) == 0 || std::memcmp(raw + 344, "ni1", 4) == 0) {
      std::int16_t rank = 0;
      std::memcpy(&rank, raw + 40, 2);
      info_.version = 1, info_.swapped = rank < 1 || rank > 7;
      info_.warnings.push_back(text("sizeof_hdr is ", size, " and not 348; dim[0] tells the byte order"));
    } else
      say_.refuse("this is no NIfTI file: sizeof_hdr is ", size, ", 348 or 540 is needed", guess(raw));
    char const* magic = info_.version == 1 ? raw + 344 : raw + 4;
    char const digit = char('0' + info_.version);
    bool const single = magic[0] == 'n' && magic[1] == '+' && magic[2] == digit && magic[3] == 0;
    pair_ = magic[0] == 'n' && magic[1] == 'i' && magic[2] == digit && magic[3] == 0;
    if (!single && !pair_ && info_.version == 1 && std::memcmp(magic, "\0\0\0", 4) == 0)
      say_.refuse(
          "the magic is empty: this is an ANALYZE 7.5 file, which says nothing of left and right; convert it "
          "to NIfTI");
    if (!single && !pair_)
      say_.refuse("the magic is ", quote({magic, 4}), ", 'n+", info_.version, "' or 'ni", info_.version,
                  "' and a zero byte are needed: this is no NIfTI file or it is damaged");
    if (info_.version == 2 && std::memcmp(magic + 4, "\r\n\032\n", 4) != 0)
      say_.refuse(
          "the last four bytes of the magic are changed: the file was copied in text mode; copy it in binary "
          "mode");
  }
  static char const* guess(char const* raw) {
    auto const starts = [&](char const* m, std::size_t n) { return std::memcmp(raw, m, n) == 0; };
    if (starts("\x93NUMPY", 6)) return "; it is a NumPy array, which read_npy reads";
    if (starts("NRRD", 4)) return "; it is an NRRD file, convert it";
    if (starts("\x89HDF", 4)) return "; it is an HDF5 file (perhaps MINC 2), convert it";
    if (starts("PK\3\4", 4)) return "; it is a zip archive, unpack it";
    if (starts("version https://git-lfs", 23)) return "; it is a Git LFS pointer, fetch the real file";
    if (starts("<", 1)) return "; it looks like a web page, perhaps a failed download";
    if (std::memcmp(raw + 128, "DICM", 4) == 0) return "; it is a DICOM file, convert it";
    return "";
  }
  template <class Header>
  void decode(char const* raw) {
    Header h;
    std::memcpy(&h, raw, sizeof h);
    if (info_.swapped) swap_nifti_header(&h, info_.version);
    h.sizeof_hdr = int(sizeof h);
    interpret(h, pair_, say_, info_);
  }
  void find_data() {
    info_.data_path = partner(in_.path(), ".hdr", ".img");
    if (info_.data_path.empty())
      say_.refuse("the magic 'ni", info_.version,
                  "' says that the voxels are in another file, but there is no such ",
                  ends_with_word(in_.path(), ".hdr") || ends_with_word(in_.path(), ".hdr.gz")
                      ? ".img or .img.gz beside it"
                      : ".img: name the .hdr file");
  }

  byte_source& in_;
  header_speaker say_;
  nifti_image_info info_;
  bool pair_ = false;
};

inline std::string header_path(std::string const& path) {
  bool const image = ends_with_word(path, ".img") || ends_with_word(path, ".img.gz");
  if (!image) return path;
  std::string const header = partner(path, ".img", ".hdr");
  check(!header.empty(), "read ", quote(path, 4096),
        ": an .img file needs its .hdr or .hdr.gz beside it; there is none");
  return header;
}

/// Reads one volume slice by slice. The file runs along d fastest, memory along w: sixteen slices at a time are turned, so
/// that every cache line of the result is written once.
template <class Stored, class Convert>
void read_voxels(byte_source& in, extent size, bool swapped, float* out, Convert convert) {
  constexpr index_t slab = 16;
  index_t const plane = size.d * size.h;
  std::vector<Stored> row(static_cast<std::size_t>(size.d));
  std::vector<float> turned(std::size_t(plane * std::min(slab, size.w)));
  for (index_t w0 = 0; w0 < size.w; w0 += slab) {
    index_t const n = std::min(slab, size.w - w0);
    for (index_t r = 0; r < n * size.h; ++r) {
      index_t const bytes = size.d * index_t(sizeof(Stored));
      if (index_t const got = in.read(row.data(), bytes); got < bytes)
        fail("read ", quote(in.path(), 4096), ": the file ends inside the voxels, in slice ",
             w0 + r / size.h + 1, " of ", size.w, "; copy or download it again");
      if (swapped && sizeof(Stored) > 1) nifti_swap_Nbytes(size.d, int(sizeof(Stored)), row.data());
      for (index_t d = 0; d < size.d; ++d) turned[std::size_t(r * size.d + d)] = convert(row[std::size_t(d)]);
    }
    for (index_t h = 0; h < size.h; ++h)
      for (index_t d = 0; d < size.d; ++d) {
        float* to = out + (d * size.h + h) * size.w + w0;
        float const* from = turned.data() + h * size.d + d;
        for (index_t w = 0; w < n; ++w) to[w] = from[w * plane];
      }
  }
}

/// Calls f with a value of the stored type.
template <class F>
void with_stored_type(int datatype, F f) {
  switch (datatype) {
    case NIFTI_TYPE_UINT8:
      return f(std::uint8_t{});
    case NIFTI_TYPE_INT8:
      return f(std::int8_t{});
    case NIFTI_TYPE_INT16:
      return f(std::int16_t{});
    case NIFTI_TYPE_UINT16:
      return f(std::uint16_t{});
    case NIFTI_TYPE_INT32:
      return f(std::int32_t{});
    case NIFTI_TYPE_UINT32:
      return f(std::uint32_t{});
    case NIFTI_TYPE_INT64:
      return f(std::int64_t{});
    case NIFTI_TYPE_UINT64:
      return f(std::uint64_t{});
    case NIFTI_TYPE_FLOAT32:
      return f(float{});
    default:
      return f(double{});
  }
}

/// A double as float; beyond the range of float it becomes infinite, which the count of such voxels then shows.
inline float to_float(double v) {
  constexpr double most = std::numeric_limits<float>::max();
  return v > most    ? std::numeric_limits<float>::infinity()
         : v < -most ? -std::numeric_limits<float>::infinity()
                     : static_cast<float>(v);
}

/// Bytes of one volume; refuses a file that cannot hold what its header promises, before anything is allocated.
inline index_t check_file_holds(byte_source const& in, nifti_image_info const& info) {
  int const each = voxel_bytes(info.datatype, {text("read ", quote(info.path, 4096))});
  index_t const bytes = info.size.size() * each, need = info.data_offset + bytes * info.volumes;
  check(need <= in.most_bytes(), "read ", quote(in.path(), 4096), ": the header promises ", info.size,
        " voxels", info.volumes > 1 ? text(" x ", info.volumes, " volumes") : "", " of ", info.type_name,
        ", ", need, " bytes; the file has ", in.disk_bytes(),
        in.compressed() ? " compressed bytes, too few for that" : " bytes",
        ": it is cut off or the header is damaged");
  return bytes;
}

inline index_t check_volume_index(nifti_image_info const& info, index_t asked) {
  if (asked < 0) {
    check(info.volumes == 1, "read ", quote(info.path, 4096), ": the file holds ", info.volumes,
          " volumes of ", info.size, "; choose one: volume_index 0 to ", info.volumes - 1);
    return 0;
  }
  check(asked < info.volumes, "read ", quote(info.path, 4096), ": volume_index is ", asked,
        ", the file holds ", info.volumes, " (0 to ", info.volumes - 1, ")");
  return asked;
}

/// Reads the chosen volume; `pick` turns (stored type's value) into the float conversion to use.
template <class MakeConvert>
nifti_volume read_nifti_with(std::string const& path, index_t volume_index, MakeConvert make_convert) {
  byte_source header(header_path(path));
  nifti_volume v{{}, header_reader(header).read()};
  auto& info = v.info;
  index_t const chosen = check_volume_index(info, volume_index);
  bool const pair = info.data_path != info.path;
  std::unique_ptr<byte_source> image;
  if (pair) image = std::make_unique<byte_source>(info.data_path);
  byte_source& in = pair ? *image : header;
  index_t const bytes = check_file_holds(in, info);
  in.skip(info.data_offset - in.position(), "the bytes before the voxels");
  in.skip(chosen * bytes, "an earlier volume");
  v.image = make_volume(info.size, 0, info.to_world);
  with_stored_type(info.datatype, [&]<class Stored>(Stored) {
    read_voxels<Stored>(in, info.size, info.swapped, v.image.voxels.data(), make_convert(info, Stored{}));
  });
  in.skip((info.volumes - 1 - chosen) * bytes, "a later volume");
  constexpr index_t tolerated = 1 << 20;  // trailing bytes that are read for the checksum's sake
  if (index_t const more = in.finish(tolerated); more > 0)
    info.warnings.push_back(text("the file goes on for ", more, more == tolerated ? " or more" : "",
                                 " bytes behind the voxels; they are ignored"));
  return v;
}

}  // namespace detail

/// The header of a NIfTI file, without its voxels. `path`: .nii, .hdr or .img, each plain or gzip; the contents decide, not
/// the name. Throws error with file, field, value and remedy if the file is missing, damaged or holds no real numbers.
inline nifti_image_info nifti_info(std::string const& path) {
  byte_source in(detail::header_path(path));
  return detail::header_reader(in).read();
}

/// Reads one volume as float: value = slope * stored + intercept in double, then rounded; no scaling if the slope is 0 or not
/// finite. `info.warnings` lists everything odd. NaN and infinite voxels are kept and counted in `info.nonfinite`.
/// Dimensions are checked against the file's size before memory is taken. Throws error as nifti_info does, and for a 4D file
/// without `volume_index`.
inline nifti_volume read_nifti(std::string const& path, nifti_read_options options = nifti_read_options{}) {
  nifti_volume v =
      detail::read_nifti_with(path, options.volume_index, [&](nifti_image_info const& info, auto stored) {
        bool const plain = !options.scale || (info.slope == 1 && info.intercept == 0);
        double const slope = plain ? 1 : info.slope, intercept = plain ? 0 : info.intercept;
        return [=](decltype(stored) s) {
          return plain ? detail::to_float(double(s)) : detail::to_float(slope * double(s) + intercept);
        };
      });
  for (float const x : v.image.voxels) v.info.nonfinite += !std::isfinite(x);
  if (v.info.nonfinite > 0)
    v.info.warnings.push_back(text(v.info.nonfinite, " of ", v.image.count(), " voxels are NaN or infinite"));
  return v;
}

/// Reads a label map: stored integers as they are, never scaled. Floating-point files are accepted if every voxel is a whole
/// number. Labels up to 2^24 in size are exact in float. Throws error as read_nifti does, and names the first voxel value
/// that is no label.
inline nifti_volume read_labels(std::string const& path, index_t volume_index = -1) {
  nifti_volume v = detail::read_nifti_with(path, volume_index, [&](nifti_image_info const&, auto stored) {
    return [&path](decltype(stored) s) {
      double const value = double(s);
      check(std::abs(value) <= 16777216 && value == std::floor(value), "read labels ", quote(path, 4096),
            ": a voxel holds ", value,
            ", labels are whole numbers up to 16777216: is this an intensity image?");
      return static_cast<float>(value);
    };
  });
  if (v.info.slope != 1 || v.info.intercept != 0)
    v.info.warnings.push_back(text("the header scales by ", v.info.slope, " and adds ", v.info.intercept,
                                   "; labels are read unscaled"));
  return v;
}

}  // namespace insula
