// SPDX-License-Identifier: Apache-2.0
// What a NIfTI header says, checked field by field before anything trusts it.
#pragma once

#include <nifti2_io.h>

#include <climits>
#include <cstring>
#include <memory>

#include "insula/data/affine.hpp"
#include "insula/data/byte_source.hpp"

namespace insula {

/// Which of the three ways a header can place its voxels was used. The NIfTI standard calls them methods 3, 2 and 1.
enum class nifti_form { sform, qform, spacing };

/// A header extension as stored: its code (6 = text comment, 4 = AFNI, 2 = DICOM, ...) and its bytes.
struct nifti_extension {
  int code = 0;
  std::string bytes;
  friend bool operator==(nifti_extension const&, nifti_extension const&) = default;
};

/// A header in the words of this library. Lengths are in millimetres whatever the file's unit.
struct nifti_image_info {
  std::string path;       // the header's file
  std::string data_path;  // where the voxels are; the same file unless it is a .hdr/.img pair
  int version = 1;        // 1 or 2
  bool swapped = false;   // written on a machine of the other byte order
  bool compressed = false;
  extent size{0, 0, 0};             // d, h, w = the file's dim[1], dim[2], dim[3]
  index_t volumes = 1;              // product of dim[4] to dim[7]
  std::vector<index_t> dims;        // as stored, trailing ones removed, at least three
  int datatype = 0;                 // NIfTI code
  std::string type_name;            // "uint8", "int16", "float32", ...
  double slope = 1, intercept = 0;  // value = slope * stored + intercept
  affine to_world = identity_affine;
  nifti_form form = nifti_form::spacing;
  int sform_code = 0, qform_code = 0;  // 0 unknown, 1 scanner, 2 aligned, 3 Talairach, 4 MNI152
  point spacing{1, 1, 1};
  double shear = 0;   // largest |cosine| between two voxel axes
  std::string units;  // "m", "mm", "um" or "unknown"
  std::string description, aux_file, intent_name;
  int intent_code = 0;
  double display_min = 0, display_max = 0;  // cal_min, cal_max
  std::vector<nifti_extension> extensions;
  index_t data_offset = 0;            // bytes from the start of data_path
  index_t nonfinite = 0;              // NaN and infinite voxels of the volume that was read
  std::vector<std::string> warnings;  // oddities that were repaired or tolerated, one sentence each
};

namespace detail {

inline constexpr double least_voxel = 1e-4, most_voxel = 500;     // mm
inline constexpr index_t most_dimension = index_t(1) << 24;       // voxels along one axis
inline constexpr index_t most_header_bytes = index_t(256) << 20;  // header and extensions

struct nim_deleter {
  void operator()(::nifti_image* n) const { nifti_image_free(n); }
};
using nim_pointer = std::unique_ptr<::nifti_image, nim_deleter>;

/// Once per process: nifti_clib's messages would go to stderr and name no remedy.
inline void silence_nifti() {
  static bool const done = (nifti_set_debug_level(0), true);
  (void)done;
}

/// What the messages about one header start with.
struct header_speaker {
  std::string name;
  template <class... A>
  [[noreturn]] void refuse(A const&... a) const {
    fail(name, ": ", a...);
  }
};

/// Bytes per voxel of a readable type; refuses the others in words.
inline int voxel_bytes(int datatype, header_speaker const& say) {
  switch (datatype) {
    case NIFTI_TYPE_UINT8:
    case NIFTI_TYPE_INT8:
      return 1;
    case NIFTI_TYPE_INT16:
    case NIFTI_TYPE_UINT16:
      return 2;
    case NIFTI_TYPE_INT32:
    case NIFTI_TYPE_UINT32:
    case NIFTI_TYPE_FLOAT32:
      return 4;
    case NIFTI_TYPE_INT64:
    case NIFTI_TYPE_UINT64:
    case NIFTI_TYPE_FLOAT64:
      return 8;
    case NIFTI_TYPE_COMPLEX64:
    case NIFTI_TYPE_COMPLEX128:
    case NIFTI_TYPE_COMPLEX256:
      say.refuse("datatype is ", datatype, " (complex): store the magnitude as a real image first");
    case NIFTI_TYPE_RGB24:
    case NIFTI_TYPE_RGBA32:
      say.refuse("datatype is ", datatype,
                 " (colour): intensities are needed, so convert to one grey channel first");
    case NIFTI_TYPE_FLOAT128:
      say.refuse("datatype is 1536 (float128): convert to float64 or float32 first");
    case DT_BINARY:
      say.refuse("datatype is 1 (one bit per voxel): convert to uint8 first");
    default:
      say.refuse(
          "datatype is ", datatype,
          ", no NIfTI code for real numbers (2 uint8, 4 int16, 8 int32, 16 float32, "
          "64 float64, 256 int8, 512 uint16, 768 uint32, 1024 int64, 1280 uint64): the header is damaged");
  }
}

inline char const* type_name(int datatype) {
  switch (datatype) {
    case NIFTI_TYPE_UINT8:
      return "uint8";
    case NIFTI_TYPE_INT8:
      return "int8";
    case NIFTI_TYPE_INT16:
      return "int16";
    case NIFTI_TYPE_UINT16:
      return "uint16";
    case NIFTI_TYPE_INT32:
      return "int32";
    case NIFTI_TYPE_UINT32:
      return "uint32";
    case NIFTI_TYPE_INT64:
      return "int64";
    case NIFTI_TYPE_UINT64:
      return "uint64";
    case NIFTI_TYPE_FLOAT32:
      return "float32";
    default:
      return "float64";
  }
}

/// Text of a fixed-size field, which need not end in 0.
inline std::string field_text(char const* s, std::size_t size) { return {s, strnlen(s, size)}; }

/// dim[]: fills size, volumes, dims. Nothing is allocated that depends on them.
template <class Header>
void check_dimensions(Header const& h, header_speaker const& say, nifti_image_info& info) {
  auto const rank = index_t(h.dim[0]);
  if (rank < 1 || rank > 7)
    say.refuse("dim[0] is ", rank, ", the number of axes must be 1 to 7: the header is damaged");
  index_t total = 1;
  for (int i = 1; i <= int(rank); ++i) {
    auto const n = index_t(h.dim[i]);
    if (n < 1)
      say.refuse("dim[", i, "] is ", n, ", every axis needs at least 1 voxel: the header is damaged");
    if (n > most_dimension || total > (index_t(1) << 40) / n)
      say.refuse("dim[", i, "] is ", n,
                 ", with the other axes more than an image can hold: the header is damaged");
    total *= n;
    info.dims.push_back(n);
  }
  while (info.dims.size() > 3 && info.dims.back() == 1) info.dims.pop_back();
  while (info.dims.size() < 3) info.dims.push_back(1);
  info.size = {info.dims[0], info.dims[1], info.dims[2]};
  info.volumes = total / info.size.size();
}

/// vox_offset: where the voxels begin.
template <class Header>
void check_offset(Header const& h, bool pair, header_speaker const& say, nifti_image_info& info) {
  auto const offset = double(h.vox_offset);
  if (!(offset >= 0 && offset <= double(most_header_bytes)))
    say.refuse("vox_offset is ", offset, ", the voxels must begin 0 to ", most_header_bytes,
               " bytes into the file: the header is damaged");
  info.data_offset = index_t(offset);
  index_t const least = pair ? 0 : index_t(sizeof(Header)) + 4;
  if (info.data_offset < least) {
    info.warnings.push_back(text("vox_offset is ", info.data_offset, ", the voxels cannot begin before byte ",
                                 least, ", which is used"));
    info.data_offset = least;
  }
}

/// Why an affine cannot place voxels, or "".
inline std::string affine_fault(affine const& a) {
  for (double const v : a)
    if (!std::isfinite(v)) return "holds a number that is not finite";
  point const s = spacing(a);
  for (double const v : s)
    if (!(v >= least_voxel && v <= most_voxel))
      return text("has a voxel size of ", s[0], " x ", s[1], " x ", s[2], " mm, and ", least_voxel, " to ",
                  most_voxel, " is possible");
  if (std::abs(determinant(a)) < 1e-3 * s[0] * s[1] * s[2]) return "has voxel axes that lie in one plane";
  return {};
}

inline affine to_affine(nifti_dmat44 const& m, double millimetres) {
  affine a = identity_affine;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 4; ++j) a[std::size_t(i * 4 + j)] = m.m[i][j] * millimetres;
  return a;
}

/// xyzt_units -> millimetres per unit.
inline double unit_length(int code, nifti_image_info& info) {
  switch (code & 7) {
    case NIFTI_UNITS_METER:
      return info.units = "m", 1000;
    case NIFTI_UNITS_MM:
      return info.units = "mm", 1;
    case NIFTI_UNITS_MICRON:
      return info.units = "um", 0.001;
    default:
      info.units = "unknown";
      info.warnings.push_back(
          text("xyzt_units is ", code & 7, ", no unit of length; millimetres are assumed"));
      return 1;
  }
}

/// What is wrong with the fields that the quaternion form needs, or "". nifti_clib would replace them by 1 or 0.
template <class Header>
std::string qform_fault(Header const& h) {
  for (int i = 1; i <= 3; ++i)
    if (auto const v = double(h.pixdim[i]); !std::isfinite(v) || v == 0)
      return text("needs pixdim[", i, "], which is ", v);
  if (h.qform_code <= 0) return {};
  for (double const v : {double(h.quatern_b), double(h.quatern_c), double(h.quatern_d), double(h.qoffset_x),
                         double(h.qoffset_y), double(h.qoffset_z)})
    if (!std::isfinite(v)) return "holds a number that is not finite";
  return {};
}

/// Chooses sform, qform or spacing, in this order of trust, and says what it had to pass over.
/// `why_q` is qform_fault() of the raw header, whose pixdim are `stored`.
inline void place(::nifti_image const& n, point const& stored, std::string why_q, header_speaker const& say,
                  nifti_image_info& info) {
  double const mm = unit_length(n.xyz_units, info);
  affine const s = to_affine(n.sto_xyz, mm), q = to_affine(n.qto_xyz, mm);
  std::string const why_s = n.sform_code > 0 ? affine_fault(s) : "";
  if (why_q.empty()) why_q = affine_fault(q);
  char const* const fallback = n.qform_code > 0 ? "qform" : "voxel size";
  if (n.sform_code > 0 && why_s.empty()) {
    info.form = nifti_form::sform, info.to_world = s;
    if (n.qform_code > 0 && !why_q.empty())
      info.warnings.push_back(text("the qform ", why_q, "; the sform is used"));
  } else {
    if (!why_q.empty() && n.sform_code > 0)
      say.refuse("the sform ", why_s, " and the ", fallback, " ", why_q,
                 ": nothing places the voxels; repair the header");
    if (!why_q.empty())
      say.refuse("the ", fallback, " (pixdim ", stored[0], " x ", stored[1], " x ", stored[2], ", unit ",
                 info.units, ") ", why_q,
                 ": nothing places the voxels; repair pixdim or xyzt_units in the header");
    if (n.sform_code > 0) info.warnings.push_back(text("the sform ", why_s, "; the ", fallback, " is used"));
    info.form = n.qform_code > 0 ? nifti_form::qform : nifti_form::spacing, info.to_world = q;
  }
  info.spacing = spacing(info.to_world);
  info.shear = shear(info.to_world);
  if (info.form == nifti_form::sform && n.qform_code > 0 && why_q.empty()) {
    double const apart = corner_distance(s, q, info.size);
    double change = 0, norm = 0;
    for (std::size_t i = 0; i < 12; ++i)
      if (i % 4 != 3) change += (s[i] - q[i]) * (s[i] - q[i]), norm += s[i] * s[i];
    if (apart > 0.1 || std::sqrt(change / norm) > 1e-3)
      info.warnings.push_back(text("sform and qform differ by up to ", apart,
                                   " mm at the corners; the sform is used (older ITK uses the qform)"));
  }
  if (info.form == nifti_form::spacing)
    info.warnings.push_back(
        "neither sform nor qform is set: orientation and position are unknown, RAS from the origin is "
        "assumed");
  if (info.shear > 1e-3)
    info.warnings.push_back(
        text("the voxel axes are sheared (cosine ", info.shear, "); resampling takes this into account"));
  for (std::size_t i = 0; i < 3; ++i)
    if (double const p = std::abs(stored[i]) * mm;
        info.form == nifti_form::sform && !(std::abs(p - info.spacing[i]) <= 1e-2 * info.spacing[i])) {
      info.warnings.push_back(
          text("pixdim[", i + 1, "] says ", p, " mm, the sform ", info.spacing[i], " mm; the sform is used"));
      break;
    }
}

/// Scaling: applied only if the slope is finite and not 0 (the standard's "no scaling").
template <class Header>
void check_scaling(Header const& h, header_speaker const& say, nifti_image_info& info) {
  auto const slope = double(h.scl_slope), intercept = double(h.scl_inter);
  if (!std::isfinite(slope) || slope == 0) return;
  if (!std::isfinite(intercept))
    say.refuse(
        "scl_slope is ", slope, " but scl_inter is ", intercept,
        ": the intensities are undefined; repair the header, or set scl_slope to 0 for unscaled values");
  info.slope = slope, info.intercept = intercept;
}

/// From the raw header, in native byte order, to info. `pair`: the voxels are in another file.
template <class Header>
void interpret(Header h, bool pair, header_speaker const& say, nifti_image_info& info) {
  check_dimensions(h, say, info);
  int const bytes = voxel_bytes(h.datatype, say);
  info.datatype = h.datatype, info.type_name = type_name(h.datatype);
  if (int(h.bitpix) != 8 * bytes)
    info.warnings.push_back(
        text("bitpix is ", int(h.bitpix), ", ", info.type_name, " has ", 8 * bytes, ", which is used"));
  check_offset(h, pair, say, info);
  check_scaling(h, say, info);
  for (int i = 1; i <= 3; ++i) {
    if (i > h.dim[0] && !(std::isfinite(double(h.pixdim[i])) && h.pixdim[i] != 0))
      h.pixdim[i] = 1;  // no such axis
    if (h.pixdim[i] < 0) {
      info.warnings.push_back(
          text("pixdim[", i, "] is ", double(h.pixdim[i]), ", its absolute value is used"));
      h.pixdim[i] = -h.pixdim[i];
    }
  }
  point const stored{double(h.pixdim[1]), double(h.pixdim[2]), double(h.pixdim[3])};
  std::string const why_q = qform_fault(h);
  h.vox_offset = {};  // checked above; nifti_clib would cast it to int
  for (int i = 4; i < 8; ++i) h.dim[i] = h.dim[i] < 1 || i > h.dim[0] ? 1 : h.dim[i];
  for (int i = int(h.dim[0]) + 1; i <= 3; ++i) h.dim[i] = 1;
  silence_nifti();
  nim_pointer n;
  if constexpr (sizeof(Header) == sizeof(nifti_1_header))
    n.reset(nifti_convert_n1hdr2nim(h, nullptr));
  else
    n.reset(nifti_convert_n2hdr2nim(h, nullptr));
  if (!n) say.refuse("nifti_clib cannot interpret the header: it is damaged");
  info.sform_code = n->sform_code, info.qform_code = n->qform_code;
  place(*n, stored, why_q, say, info);
  info.description = field_text(n->descrip, sizeof n->descrip);
  info.aux_file = field_text(n->aux_file, sizeof n->aux_file);
  info.intent_name = field_text(n->intent_name, sizeof n->intent_name);
  info.intent_code = n->intent_code;
  info.display_min = n->cal_min, info.display_max = n->cal_max;
}

}  // namespace detail
}  // namespace insula
