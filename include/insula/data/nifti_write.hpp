// SPDX-License-Identifier: Apache-2.0
// Writing NIfTI images: one file, plain or gzip by its name, complete or not at all.
#pragma once

#include "insula/data/byte_sink.hpp"
#include "insula/data/nifti_header.hpp"

namespace insula {

/// How voxels are stored. u8 and i16 round to the nearest whole number, halves to even.
enum class voxel_type { u8, i16, f32 };

struct nifti_write_options {
  voxel_type type = voxel_type::f32;
  int compression = 3;        // 1 fast to 9 small, for names that end in .gz
  int version = 0;            // 1 or 2; 0: 1 unless an axis has more than 32767 voxels
  std::string description{};  // at most 79 characters; "": the source's
  nifti_image_info const* like =
      nullptr;  // source header: its codes, texts, display range and extensions are kept
};

namespace detail {

inline int nifti_code(voxel_type t) {
  return t == voxel_type::u8    ? NIFTI_TYPE_UINT8
         : t == voxel_type::i16 ? NIFTI_TYPE_INT16
                                : NIFTI_TYPE_FLOAT32;
}

template <std::size_t N>
void set_text(char (&field)[N], std::string const& s) {
  std::memset(field, 0, N);
  std::memcpy(field, s.data(), std::min(s.size(), N - 1));
}

/// Both forms from one matrix. A sheared matrix has no quaternion: then only the sform is written, for two forms that differ
/// are what readers stumble over.
inline void set_forms(affine const& a, int code, ::nifti_image& n) {
  nifti_dmat44 m;
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) m.m[i][j] = a[std::size_t(i * 4 + j)];
  n.sto_xyz = m, n.sform_code = code;
  nifti_dmat44_to_quatern(m, &n.quatern_b, &n.quatern_c, &n.quatern_d, &n.qoffset_x, &n.qoffset_y,
                          &n.qoffset_z, &n.dx, &n.dy, &n.dz, &n.qfac);
  point const s = spacing(a);
  n.pixdim[1] = n.dx = s[0], n.pixdim[2] = n.dy = s[1], n.pixdim[3] = n.dz = s[2];
  n.pixdim[0] = n.qfac;
  n.qto_xyz = nifti_quatern_to_dmat44(n.quatern_b, n.quatern_c, n.quatern_d, n.qoffset_x, n.qoffset_y,
                                      n.qoffset_z, n.dx, n.dy, n.dz, n.qfac);
  n.qform_code = shear(a) > 1e-4 ? 0 : code;
}

/// Header, extensions and padding as bytes, in native byte order.
inline std::string compose_header(volume const& v, nifti_write_options const& o, int version) {
  silence_nifti();
  index_t const dims[8] = {3, v.size.d, v.size.h, v.size.w, 1, 1, 1, 1};
  nim_pointer n(nifti_make_new_nim(dims, nifti_code(o.type), 0));
  check(n != nullptr, "write_nifti: nifti_clib refuses a volume of ", v.size);
  int code = NIFTI_XFORM_SCANNER_ANAT;
  std::string description = o.description, tail;
  if (o.like) {
    int const source = o.like->form == nifti_form::qform ? o.like->qform_code : o.like->sform_code;
    if (source > 0) code = source;
    if (description.empty()) description = o.like->description;
    set_text(n->aux_file, o.like->aux_file), set_text(n->intent_name, o.like->intent_name);
    n->intent_code = o.like->intent_code;
    n->cal_min = o.like->display_min, n->cal_max = o.like->display_max;
    for (auto const& e : o.like->extensions) {
      std::int32_t const head[2] = {std::int32_t((e.bytes.size() + 8 + 15) / 16 * 16), e.code};
      tail.append(reinterpret_cast<char const*>(head), 8);
      tail += e.bytes;
      tail.append(std::size_t(head[0]) - 8 - e.bytes.size(), '\0');
    }
  }
  set_text(n->descrip, description);
  set_forms(v.to_world, code, *n);
  n->xyz_units = NIFTI_UNITS_MM, n->time_units = 0;
  n->scl_slope = 1, n->scl_inter = 0;
  n->nifti_type = version == 2 ? NIFTI_FTYPE_NIFTI2_1 : NIFTI_FTYPE_NIFTI1_1;
  std::string bytes;
  auto const finish = [&](auto header, int status) {
    check(status == 0, "write_nifti: nifti_clib cannot compose a header for ", v.size, " voxels");
    header.vox_offset = decltype(header.vox_offset)(sizeof header + 4 + tail.size());
    bytes.assign(reinterpret_cast<char const*>(&header), sizeof header);
  };
  if (version == 2) {
    nifti_2_header h{};
    int const status = nifti_convert_nim2n2hdr(n.get(), &h);
    std::memcpy(h.magic, "n+2\0\r\n\032\n", 8);
    finish(h, status);
  } else {
    nifti_1_header h{};
    int const status = nifti_convert_nim2n1hdr(n.get(), &h);
    std::memcpy(h.magic, "n+1", 4);
    finish(h, status);
  }
  bytes.append({char(tail.empty() ? 0 : 1), 0, 0, 0});
  return bytes + tail;
}

/// Voxels in the file's order (d fastest), sixteen slices at a time; see read_voxels.
template <class Stored>
void write_voxels(byte_sink& out, std::string const& path, volume const& v) {
  constexpr index_t slab = 16;
  index_t const plane = v.size.d * v.size.h;
  std::vector<Stored> turned(std::size_t(plane * std::min(slab, v.size.w)));
  for (index_t w0 = 0; w0 < v.size.w; w0 += slab) {
    index_t const n = std::min(slab, v.size.w - w0);
    for (index_t h = 0; h < v.size.h; ++h)
      for (index_t d = 0; d < v.size.d; ++d) {
        float const* from = v.voxels.data() + (d * v.size.h + h) * v.size.w + w0;
        for (index_t w = 0; w < n; ++w) {
          Stored& to = turned[std::size_t(w * plane + h * v.size.d + d)];
          if constexpr (std::same_as<Stored, float>) {
            to = from[w];
          } else {
            float const r = std::nearbyint(from[w]);
            if (!(r >= float(std::numeric_limits<Stored>::min()) &&
                  r <= float(std::numeric_limits<Stored>::max())))
              fail("write ", quote(path, 4096), ": voxel (", d, ", ", h, ", ", w0 + w, ") is ", from[w],
                   ", the chosen type holds ", int(std::numeric_limits<Stored>::min()), " to ",
                   int(std::numeric_limits<Stored>::max()), ": write voxel_type::f32 or rescale first");
            to = static_cast<Stored>(r);
          }
        }
      }
    out.write(turned.data(), plane * n * index_t(sizeof(Stored)));
  }
}

}  // namespace detail

/// Writes `v` as one NIfTI file; `path` ends in .nii or .nii.gz. Sform and qform hold the same matrix (a sheared one only the
/// sform), slope 1, intercept 0, millimetres. The file is replaced as a whole or, on any failure, left as it was.
/// Throws error for other names, an impossible affine, values that u8 or i16 cannot hold, and disk failures.
inline void write_nifti(std::string const& path, volume const& v,
                        nifti_write_options const& options = nifti_write_options{}) {
  auto const ends = [&](std::string_view end) { return path.size() > end.size() && path.ends_with(end); };
  bool const compressed = ends(".nii.gz");
  check(compressed || ends(".nii"), "write ", quote(path, 4096), ": the name must end in .nii or .nii.gz");
  check(v.size.d > 0 && v.size.h > 0 && v.size.w > 0 && index_t(v.voxels.size()) == v.count(), "write ",
        quote(path, 4096), ": the size is ", v.size, " but there are ", v.voxels.size(), " voxels");
  std::string const fault = detail::affine_fault(v.to_world);
  check(fault.empty(), "write ", quote(path, 4096), ": the affine ", fault, "; set volume::to_world");
  index_t const longest = std::max({v.size.d, v.size.h, v.size.w});
  int const version = options.version ? options.version : longest > 32767 ? 2 : 1;
  check(version == 1 || version == 2, "write ", quote(path, 4096), ": the NIfTI version is ", version,
        ", it must be 1 or 2");
  check(version == 2 || longest <= 32767, "write ", quote(path, 4096), ": an axis has ", longest,
        " voxels, NIfTI-1 holds at most 32767: set version to 2");
  check(options.description.size() < 80, "write ", quote(path, 4096), ": the description has ",
        options.description.size(), " characters, at most 79 fit");
  check(!compressed || options.compression > 0, "write ", quote(path, 4096), ": compression is ",
        options.compression, ", it must be 1 to 9 for a .gz name");
  std::string const header = detail::compose_header(v, options, version);
  byte_sink out(path, compressed ? options.compression : 0);
  out.write(header.data(), index_t(header.size()));
  switch (options.type) {
    case voxel_type::u8:
      detail::write_voxels<std::uint8_t>(out, path, v);
      break;
    case voxel_type::i16:
      detail::write_voxels<std::int16_t>(out, path, v);
      break;
    case voxel_type::f32:
      detail::write_voxels<float>(out, path, v);
      break;
  }
  out.commit();
}

}  // namespace insula
