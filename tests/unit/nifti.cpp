// SPDX-License-Identifier: Apache-2.0
// NIfTI: every type, byte order and form that occurs, and every fault with a message that says what to do.
#include <sys/resource.h>

#include <csignal>
#include <limits>

#include "insula/data/nifti.hpp"
#include "insula/data/orientation.hpp"
#include "insula/testing/compare.hpp"
#include "support/brains.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"
#include "support/nifti_bytes.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::brain;
using support::gzip;
using support::message_of;
using support::nifti_bytes;

namespace {

constexpr double missing = std::numeric_limits<double>::quiet_NaN();
constexpr double infinite = std::numeric_limits<double>::infinity();

std::string saved(support::folder const& dir, std::string const& bytes, std::string const& name = "x.nii") {
  write_file(dir / name, bytes);
  return dir / name;
}
std::string saved(support::folder const& dir, nifti_bytes const& n, std::string const& name = "x.nii") {
  return saved(dir, n.bytes(), name);
}
std::string refusal(support::folder const& dir, nifti_bytes const& n) {
  auto const path = saved(dir, n);
  return message_of([&] { read_nifti(path); });
}
std::string all(std::vector<std::string> const& warnings) {
  std::string s;
  for (auto const& w : warnings) s += w + "\n";
  return s;
}
/// Equal to within the precision of the float fields of NIfTI-1.
bool near(double a, double b) { return std::abs(a - b) <= 1e-6 * std::abs(b); }

volume random_volume(extent e, std::uint64_t seed) {
  volume v = make_volume(e);
  v.voxels = testing::random_vector<float>(e.size(), seed);
  return v;
}

/// Limits the size of files this process writes, as a full disk would, for the length of a scope.
class small_disk {
 public:
  explicit small_disk(rlim_t bytes) : old_handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &old_);
    rlimit const now{bytes, old_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &now);
  }
  ~small_disk() {
    setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_{};
  void (*old_handler_)(int);
};

}  // namespace

TEST_CASE("nifti: all real types, both versions and both byte orders read the same numbers") {
  support::folder const dir;
  for (int const type : {2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280})
    for (int const version : {1, 2})
      for (bool const big : {false, true})
        for (bool const zipped : {false, true}) {
          nifti_bytes n{.version = version, .big_endian = big, .dim = {3, 5, 3, 19}, .datatype = type};
          n.values.resize(5 * 3 * 19);
          for (std::size_t i = 0; i < n.values.size(); ++i) n.values[i] = double(i % 120);
          if (type != 2 && type < 512) n.values[7] = -3;
          auto const path = saved(dir, zipped ? gzip(n.bytes()) : n.bytes(), zipped ? "x.nii.gz" : "x.nii");
          auto const [v, info] = read_nifti(path);
          INFO("type " << type << " version " << version << " big " << big << " zipped " << zipped);
          REQUIRE(v.size == extent{5, 3, 19});
          CHECK(info.version == version);
          CHECK(info.swapped == big);
          CHECK(info.compressed == zipped);
          CHECK(info.datatype == type);
          CHECK(info.description == "made by hand");
          CHECK(all(info.warnings) == "");
          bool same = true;
          for (index_t w = 0, i = 0; w < 19; ++w)
            for (index_t h = 0; h < 3; ++h)
              for (index_t d = 0; d < 5; ++d, ++i)
                same = same && double(v.at(d, h, w)) == n.values[std::size_t(i)];
          CHECK(same);
        }
}

TEST_CASE("nifti: extreme stored values keep their sign and size") {
  support::folder const dir;
  auto const first = [&](int type, double value) {
    nifti_bytes n{.dim = {3, 1, 1, 1}, .datatype = type, .values = {value}};
    return double(read_nifti(saved(dir, n)).image.voxels[0]);
  };
  CHECK(first(256, -128) == -128);
  CHECK(first(4, -32768) == -32768);
  CHECK(first(512, 65535) == 65535);
  CHECK(first(8, -2147483648.0) == -2147483648.0);
  CHECK(first(768, 4294967040.0) == 4294967040.0);
  CHECK(first(1024, -9223372036854775808.0) == -9223372036854775808.0);
  CHECK(first(1280, 18446742974197923840.0) == 18446742974197923840.0);
  CHECK(first(64, 1e300) == infinite);
}

TEST_CASE("nifti: slope and intercept apply only if the slope is finite and not zero") {
  support::folder const dir;
  auto const at_3 = [&](double slope, double inter, nifti_read_options o = nifti_read_options{}) {
    nifti_bytes n{.datatype = 4, .slope = slope, .inter = inter};
    return read_nifti(saved(dir, n), o).image.at(1, 1, 0);
  };
  CHECK(at_3(0.5, -7) == -5.5f);
  CHECK(at_3(0, 5) == 3);
  CHECK(at_3(missing, missing) == 3);
  CHECK(at_3(infinite, 1) == 3);
  CHECK(at_3(0.5, -7, {.scale = false}) == 3);
  CHECK(at_3(0.1, 0) == float(3 * double(0.1f)));
  CHECK_THAT(refusal(dir, {.slope = 2, .inter = missing}),
             Contains("scl_inter") && Contains("x.nii") && Contains("2"));
}

TEST_CASE("nifti: labels are read unscaled and must be whole numbers") {
  support::folder const dir;
  nifti_bytes n{.datatype = 4, .slope = 0.25, .inter = 3};
  auto const [v, info] = read_labels(saved(dir, n));
  CHECK(v.at(1, 2, 3) == 23);
  CHECK_THAT(all(info.warnings), Contains("labels are read unscaled"));
  n = {.datatype = 16};
  CHECK(read_labels(saved(dir, n)).image.at(1, 2, 3) == 23);
  n.values.assign(24, 1.5);
  auto const path = saved(dir, n);
  CHECK_THAT(message_of([&] { read_labels(path); }), Contains("1.5") && Contains("whole numbers"));
  n = {.datatype = 1024};
  n.values.assign(24, 16777217);
  saved(dir, n);
  CHECK_THAT(message_of([&] { read_labels(path); }), Contains("16777217"));
}

TEST_CASE("nifti: the sform wins over the qform, the qform over the spacing") {
  support::folder const dir;
  nifti_bytes n{.pixdim = {1, 2, 3, 4}, .qform_code = 1, .sform_code = 2, .qoffset = {5, 6, 7}};
  double const rows[12] = {0, 0, 4, -1, 2, 0, 0, -2, 0, 3, 0, -3};
  std::copy_n(rows, 12, n.srow);
  auto info = nifti_info(saved(dir, n));
  CHECK(info.form == nifti_form::sform);
  CHECK(info.to_world == affine{0, 0, 4, -1, 2, 0, 0, -2, 0, 3, 0, -3, 0, 0, 0, 1});
  CHECK(info.spacing == point{2, 3, 4});
  CHECK_THAT(all(info.warnings), Contains("sform and qform differ by up to"));
  n.sform_code = 0;
  info = nifti_info(saved(dir, n));
  CHECK(info.form == nifti_form::qform);
  CHECK(info.to_world == affine{2, 0, 0, 5, 0, 3, 0, 6, 0, 0, 4, 7, 0, 0, 0, 1});
  CHECK(all(info.warnings) == "");
  n.qform_code = 0;
  info = nifti_info(saved(dir, n));
  CHECK(info.form == nifti_form::spacing);
  CHECK(info.to_world == affine{2, 0, 0, 0, 0, 3, 0, 0, 0, 0, 4, 0, 0, 0, 0, 1});
  CHECK_THAT(all(info.warnings), Contains("neither sform nor qform"));
}

TEST_CASE("nifti: an oblique quaternion gives the standard's matrix") {
  support::folder const dir;
  for (int const version : {1, 2})
    for (double const qfac : {-1.0, 0.0, 1.0}) {
      nifti_bytes n{.version = version,
                    .pixdim = {qfac, 1.5, 2, 2.5},
                    .qform_code = 1,
                    .sform_code = 0,
                    .quatern = {0.125, -0.25, 0.375},
                    .qoffset = {-10, 20.5, 5}};
      double const b = 0.125, c = -0.25, d = 0.375, a = std::sqrt(1 - b * b - c * c - d * d),
                   z = qfac < 0 ? -2.5 : 2.5;
      affine const expected{(a * a + b * b - c * c - d * d) * 1.5,
                            (2 * b * c - 2 * a * d) * 2,
                            (2 * b * d + 2 * a * c) * z,
                            -10,
                            (2 * b * c + 2 * a * d) * 1.5,
                            (a * a + c * c - b * b - d * d) * 2,
                            (2 * c * d - 2 * a * b) * z,
                            20.5,
                            (2 * b * d - 2 * a * c) * 1.5,
                            (2 * c * d + 2 * a * b) * 2,
                            (a * a + d * d - c * c - b * b) * z,
                            5,
                            0,
                            0,
                            0,
                            1};
      CHECK(testing::relative_error(nifti_info(saved(dir, n)).to_world, expected) < 1e-14);
    }
}

TEST_CASE("nifti: units become millimetres, an unknown unit is said") {
  support::folder const dir;
  nifti_bytes n{.pixdim = {1, 0.002, 0.002, 0.003},
                .qform_code = 1,
                .sform_code = 0,
                .qoffset = {0.01, 0, 0},
                .units = 1};
  auto info = nifti_info(saved(dir, n));
  CHECK(info.units == "m");
  CHECK(near(info.spacing[2], 3));
  CHECK(near(info.to_world[3], 10));
  n.units = 3, n.pixdim = {1, 500, 500, 2000};
  info = nifti_info(saved(dir, n));
  CHECK(near(info.spacing[2], 2));
  n.units = 2 + 8, n.pixdim = {1, 1, 1, 1};
  CHECK(all(nifti_info(saved(dir, n)).warnings) == "");
  n.units = 0;
  CHECK_THAT(all(nifti_info(saved(dir, n)).warnings), Contains("millimetres are assumed"));
}

TEST_CASE("nifti: a sheared sform is kept and reported, a useless one gives way to the qform") {
  support::folder const dir;
  nifti_bytes n{.qform_code = 0};
  n.srow[1] = 0.2;
  auto info = nifti_info(saved(dir, n));
  CHECK(near(info.shear, 0.2 / std::sqrt(1.04)));
  CHECK(near(info.to_world[1], 0.2));
  CHECK_THAT(all(info.warnings), Contains("sheared"));
  n = {.qform_code = 1, .qoffset = {1, 2, 3}};
  std::fill_n(n.srow, 12, 0.0);
  info = nifti_info(saved(dir, n));
  CHECK(info.form == nifti_form::qform);
  CHECK(info.to_world[7] == 2);
  CHECK_THAT(all(info.warnings),
             Contains("the sform has a voxel size of 0") && Contains("the qform is used"));
}

TEST_CASE("nifti: odd but readable headers are read with a warning") {
  support::folder const dir;
  auto const warned = [&](nifti_bytes const& n) {
    auto const r = read_nifti(saved(dir, n));
    CHECK(r.image.at(1, 2, 3) == 23);
    return all(r.info.warnings);
  };
  CHECK_THAT(warned({.bitpix = 8}), Contains("bitpix is 8"));
  CHECK_THAT(warned({.vox_offset = 0}), Contains("vox_offset is 0"));
  CHECK_THAT(warned({.sizeof_hdr = 0}), Contains("sizeof_hdr is 0"));
  CHECK_THAT(warned({.big_endian = true, .sizeof_hdr = 0}), Contains("sizeof_hdr is 0"));
  CHECK_THAT(warned({.pixdim = {1, -1, 1, 1}, .qform_code = 1, .sform_code = 0}),
             Contains("pixdim[1] is -1"));
  CHECK_THAT(warned({.pixdim = {1, 0, 1, 1}}), Contains("pixdim[1] says 0"));
  CHECK_THAT(warned({.pixdim = {1, 1, missing, 1}, .qform_code = 1}), Contains("the qform needs pixdim[2]"));
  nifti_bytes n;
  auto const path = saved(dir, n.bytes() + "trailing");
  CHECK_THAT(all(read_nifti(path).info.warnings), Contains("goes on for 8 bytes"));
}

TEST_CASE("nifti: extensions are kept, also through a rewrite; damaged ones are reported") {
  support::folder const dir;
  for (int const version : {1, 2})
    for (bool const big : {false, true}) {
      nifti_bytes n{.version = version, .big_endian = big};
      n.extensions = n.extension(6, "a comment") + n.extension(44, std::string(1900, 'm'));
      auto r = read_nifti(saved(dir, n));
      REQUIRE(r.info.extensions.size() == 2);
      CHECK(r.info.extensions[0].code == 6);
      CHECK(r.info.extensions[0].bytes.substr(0, 9) == "a comment");
      CHECK(r.info.extensions[1].bytes.substr(0, 1900) == std::string(1900, 'm'));
      CHECK(r.image.at(1, 2, 3) == 23);
      write_nifti(dir / "y.nii.gz", r.image, {.like = &r.info});
      auto const again = read_nifti(dir / "y.nii.gz");
      CHECK(again.info.extensions == r.info.extensions);
      CHECK(again.info.description == "made by hand");
      CHECK(again.image.voxels == r.image.voxels);
    }
  nifti_bytes n;
  n.extensions = n.extension(6, "a comment");
  n.put(n.extensions, 0, std::int32_t(0x7ffffff0));
  auto const r = read_nifti(saved(dir, n));
  CHECK(r.info.extensions.empty());
  CHECK_THAT(all(r.info.warnings), Contains("extension 1 has a size of 2147483632"));
  CHECK(r.image.at(1, 2, 3) == 23);
}

TEST_CASE("nifti: pairs are found from either half, plain or gzip") {
  support::folder const dir;
  for (int const version : {1, 2})
    for (bool const zipped : {false, true}) {
      nifti_bytes n{.version = version, .pair = true};
      std::string const name = text("p", version, zipped), end = zipped ? ".gz" : "";
      saved(dir, zipped ? gzip(n.header()) : n.header(), name + ".hdr" + end);
      saved(dir, zipped ? gzip(n.data()) : n.data(), name + ".img" + end);
      for (auto const half : {".hdr", ".img"}) {
        auto const r = read_nifti(dir / (name + half + end));
        CHECK(r.image.at(1, 2, 3) == 23);
        CHECK(r.info.path == dir / (name + ".hdr" + end));
        CHECK(r.info.data_path == dir / (name + ".img" + end));
        CHECK(all(r.info.warnings) == "");
      }
    }
  nifti_bytes const n{.pair = true};
  auto const alone = saved(dir, n.header(), "alone.hdr"), image = saved(dir, n.data(), "image.img");
  CHECK_THAT(message_of([&] { read_nifti(alone); }), Contains("no such .img"));
  CHECK_THAT(message_of([&] { read_nifti(image); }), Contains("needs its .hdr"));
  saved(dir, n.data().substr(1), "alone.img");
  CHECK_THAT(message_of([&] { read_nifti(alone); }), Contains("alone.img") && Contains("cut off"));
}

TEST_CASE("nifti: a 4D file needs a volume index, trailing ones do not make it 4D") {
  support::folder const dir;
  nifti_bytes n{.dim = {5, 2, 3, 4, 3, 2}, .datatype = 4, .pixdim = {1, 1, 1, 1, 2, 1}};
  for (bool const zipped : {false, true}) {
    auto const path = saved(dir, zipped ? gzip(n.bytes()) : n.bytes());
    CHECK_THAT(message_of([&] { read_nifti(path); }),
               Contains("6 volumes") && Contains("volume_index 0 to 5"));
    CHECK(read_nifti(path, {.volume_index = 0}).image.at(1, 2, 3) == 23);
    CHECK(read_nifti(path, {.volume_index = 4}).image.at(1, 2, 3) == 4 * 24 + 23);
    CHECK(read_labels(path, 5).image.at(0, 0, 0) == 5 * 24);
    CHECK_THAT(message_of([&] { read_nifti(path, {.volume_index = 6}); }), Contains("volume_index is 6"));
  }
  CHECK(nifti_info(dir / "x.nii").volumes == 6);
  n.dim = {7, 2, 3, 4, 1, 1, 1, 1};
  n.pixdim.assign(8, 1);
  auto const r = read_nifti(saved(dir, n));
  CHECK(r.info.dims == std::vector<index_t>{2, 3, 4});
  CHECK(r.image.at(1, 2, 3) == 23);
  n.dim = {2, 6, 4};
  n.pixdim = {1, 1, 1, 0};
  CHECK(read_nifti(saved(dir, n)).image.size == extent{6, 4, 1});
}

TEST_CASE("nifti: voxels that are not finite are kept and counted") {
  support::folder const dir;
  nifti_bytes n;
  n.values.assign(24, 1);
  n.values[3] = missing, n.values[5] = infinite, n.values[7] = -infinite;
  auto const r = read_nifti(saved(dir, n));
  CHECK(r.info.nonfinite == 3);
  CHECK_THAT(all(r.info.warnings), Contains("3 of 24 voxels are NaN or infinite"));
  CHECK(std::isnan(r.image.at(1, 1, 0)));
}

TEST_CASE("nifti: types without a real number are refused in words") {
  support::folder const dir;
  for (int const type : {32, 1792, 2048}) CHECK_THAT(refusal(dir, {.datatype = type}), Contains("complex"));
  for (int const type : {128, 2304}) CHECK_THAT(refusal(dir, {.datatype = type}), Contains("colour"));
  CHECK_THAT(refusal(dir, {.datatype = 1536}), Contains("float128"));
  CHECK_THAT(refusal(dir, {.datatype = 1}), Contains("one bit"));
  for (int const type : {0, 3, 255, -4})
    CHECK_THAT(refusal(dir, {.datatype = type}), Contains("datatype is") && Contains("damaged"));
}

TEST_CASE("nifti: impossible dimensions are refused before memory is taken") {
  support::folder const dir;
  auto const with = [&](std::vector<std::int64_t> dim, int version = 1) {
    nifti_bytes n{.version = version, .dim = std::move(dim)};
    n.values = {1};
    return refusal(dir, n);
  };
  CHECK_THAT(with({0, 1, 1, 1}), Contains("dim[0] is 0"));
  CHECK_THAT(with({8, 1, 1, 1}), Contains("dim[0]"));
  CHECK_THAT(with({3, -2, 3, 4}), Contains("dim[1] is -2"));
  CHECK_THAT(with({3, 2, 0, 4}), Contains("dim[2] is 0"));
  CHECK_THAT(with({4, 2, 3, 4, 0}), Contains("dim[4] is 0"));
  CHECK_THAT(with({3, 32767, 32767, 32767}),
             Contains("promises 32767x32767x32767 voxels") || Contains("more than an image"));
  CHECK_THAT(with({3, 1, 1, 2}), Contains("360 bytes") && Contains("the file has 356"));
  for (std::int64_t const huge : {std::int64_t{1} << 40, std::numeric_limits<std::int64_t>::max()})
    CHECK_THAT(with({3, 2, huge, 2}, 2), Contains("dim[2]"));
  CHECK_THAT(with({3, 1 << 20, 1 << 20, 1 << 20}, 2), Contains("dim[3]"));
  CHECK_THAT(with({3, -1, 1, 1}, 2), Contains("dim[1] is -1"));
  nifti_bytes n{.dim = {3, 4000, 4000, 4000}};
  n.values = {1};
  auto const path = saved(dir, gzip(n.bytes()), "x.nii.gz");
  CHECK_THAT(message_of([&] { read_nifti(path); }), Contains("compressed bytes, too few"));
}

TEST_CASE("nifti: impossible voxel sizes and offsets are refused") {
  support::folder const dir;
  for (double const bad : {0.0, missing, infinite, 1e9, 1e-9}) {
    nifti_bytes n{.pixdim = {1, 1, bad, 1}, .qform_code = 1, .sform_code = 0};
    CHECK_THAT(refusal(dir, n), Contains("x.nii") && Contains("pixdim") && Contains("repair"));
    n.qform_code = 0;
    CHECK_THAT(refusal(dir, n), Contains("pixdim"));
    n = {.pixdim = {1, 1, bad, 1}};
    n.srow[5] = bad;
    CHECK_THAT(refusal(dir, n), Contains("sform") && Contains("nothing places the voxels"));
  }
  for (double const bad : {-5.0, 1e12, missing, infinite})
    CHECK_THAT(refusal(dir, {.vox_offset = bad}), Contains("vox_offset"));
  CHECK_THAT(refusal(dir, {.version = 2, .vox_offset = 9e18}), Contains("vox_offset"));
  CHECK_THAT(refusal(dir, {.vox_offset = 10000}), Contains("cut off"));
  nifti_bytes n{.qform_code = 1, .sform_code = 0, .quatern = {missing, 0, 0}};
  CHECK_THAT(refusal(dir, n), Contains("not finite"));
}

TEST_CASE("nifti: what is no NIfTI file is named") {
  support::folder const dir;
  CHECK_THAT(refusal(dir, {.magic = "n+9"}), Contains("the magic is 'n+9"));
  CHECK_THAT(refusal(dir, {.magic = std::string(4, '\0')}), Contains("ANALYZE"));
  CHECK_THAT(refusal(dir, {.version = 2, .magic = std::string("n+2\0\n\032\n", 7)}), Contains("text mode"));
  auto const of = [&](std::string const& bytes) {
    auto const path = saved(dir, bytes);
    return message_of([&] { read_nifti(path); });
  };
  CHECK_THAT(of(""), Contains("empty"));
  CHECK_THAT(of("short"), Contains("5 bytes") && Contains("348"));
  CHECK_THAT(of(std::string(1000, 'z')), Contains("no NIfTI file"));
  CHECK_THAT(of("\x93NUMPY" + std::string(1000, '\0')), Contains("NumPy"));
  CHECK_THAT(of("<!DOCTYPE html>" + std::string(1000, ' ')), Contains("web page"));
  CHECK_THAT(message_of([&] { read_nifti(dir.path()); }), Contains("folder"));
  CHECK_THAT(message_of([&] { read_nifti(dir / "absent.nii"); }),
             Contains("absent.nii") && Contains("No such file"));
  CHECK_THAT(message_of([&] { read_nifti("/dev/null"); }), Contains("not a regular file"));
}

TEST_CASE("nifti: damaged gzip is an error wherever the damage is, several members are fine") {
  support::folder const dir;
  nifti_bytes n{.dim = {3, 20, 30, 40}};
  n.values.resize(20 * 30 * 40);
  for (std::size_t i = 0; i < n.values.size(); ++i)
    n.values[i] = testing::filler(1, i);  // hardly compressible
  std::string const plain = n.bytes(), whole = gzip(plain);
  auto const read = [&](std::string const& bytes) {
    auto const path = saved(dir, bytes, "x.nii.gz");
    return message_of([&] { read_nifti(path); });
  };
  CHECK(read(whole) == "");
  for (std::size_t const keep :
       {std::size_t{11}, std::size_t{200}, whole.size() / 2, whole.size() - 9, whole.size() - 1})
    CHECK_THAT(read(whole.substr(0, keep)), Contains("x.nii.gz") && Contains("cut off"));
  std::string bad = whole;
  bad[whole.size() - 6] = char(bad[whole.size() - 6] ^ 1);
  CHECK_THAT(read(bad), Contains("damaged") && Contains("incorrect data check"));
  bad = whole;
  bad[whole.size() / 2] = char(bad[whole.size() / 2] ^ 0x40);
  CHECK_THAT(read(bad), Contains("damaged"));
  CHECK(read(gzip(plain.substr(0, 100)) + gzip(plain.substr(100, 20000)) + gzip(plain.substr(20100))) == "");
  CHECK_THAT(read(gzip(plain.substr(0, 100)) + gzip(plain.substr(100)).substr(0, 3000)), Contains("cut off"));
}

TEST_CASE("nifti: what is written reads back, in every type and version, with one matrix in both forms") {
  support::folder const dir;
  volume v = random_volume({7, 20, 33}, 1);
  double const angle = 0.3, c = std::cos(angle), s = std::sin(angle);
  v.to_world = {-1.5 * c, 2 * s, 0, 90, 1.5 * s, 2 * c, 0, -126, 0, 0, 2.5, -72, 0, 0, 0, 1};
  for (int const version : {1, 2})
    for (auto const name : {"a.nii", "a.nii.gz"}) {
      write_nifti(dir / name, v, {.version = version, .description = "test"});
      auto const r = read_nifti(dir / name);
      CHECK(r.image.voxels == v.voxels);
      CHECK(testing::relative_error(r.image.to_world, v.to_world) < (version == 1 ? 1e-7 : 1e-15));
      CHECK(r.info.version == version);
      CHECK(r.info.description == "test");
      CHECK(r.info.sform_code == 1);
      CHECK(r.info.qform_code == 1);
      CHECK(all(r.info.warnings) == "");
      if (std::string(name) == "a.nii") {  // the qform alone says the same
        std::string bytes = read_file(dir / name);
        bytes[version == 1 ? 254 : 348] = 0;
        auto const q = nifti_info(saved(dir, bytes, "q.nii"));
        CHECK(q.form == nifti_form::qform);
        CHECK(corner_distance(q.to_world, v.to_world, v.size) < 1e-4);
      }
    }
  for (float& x : v.voxels) x = std::nearbyint(100 + 100 * x);
  for (auto const type : {voxel_type::u8, voxel_type::i16, voxel_type::f32}) {
    write_nifti(dir / "b.nii.gz", v, {.type = type});
    CHECK(read_nifti(dir / "b.nii.gz").image.voxels == v.voxels);
    CHECK(read_labels(dir / "b.nii.gz").image.voxels == v.voxels);
  }
  CHECK(nifti_info(dir / "b.nii.gz").type_name == "float32");
  write_nifti(dir / "c.nii.gz", v), write_nifti(dir / "d.nii.gz", v);
  CHECK(read_file(dir / "c.nii.gz") == read_file(dir / "d.nii.gz"));
}

TEST_CASE("nifti: integer types round and refuse what they cannot hold") {
  support::folder const dir;
  volume v = make_volume({1, 1, 4});
  v.voxels = {0.5f, 1.5f, 254.6f, 0};
  write_nifti(dir / "a.nii", v, {.type = voxel_type::u8});
  CHECK(read_nifti(dir / "a.nii").image.voxels == std::vector<float>{0, 2, 255, 0});
  std::string const before = read_file(dir / "a.nii");
  for (float const bad : {256.f, -1.f, float(missing), float(infinite)}) {
    v.voxels[3] = bad;
    CHECK_THAT(message_of([&] { write_nifti(dir / "a.nii", v, {.type = voxel_type::u8}); }),
               Contains("voxel (0, 0, 3)") && Contains("0 to 255"));
  }
  CHECK(read_file(dir / "a.nii") == before);
  CHECK(dir.list() == std::vector<std::string>{"a.nii"});
}

TEST_CASE("nifti: a sheared matrix is written as sform alone, an impossible one not at all") {
  support::folder const dir;
  volume v = random_volume({3, 4, 5}, 2);
  v.to_world[1] = 0.25;
  write_nifti(dir / "a.nii", v);
  auto const info = nifti_info(dir / "a.nii");
  CHECK(info.qform_code == 0);
  CHECK(info.to_world == v.to_world);
  v.to_world[0] = missing;
  CHECK_THAT(message_of([&] { write_nifti(dir / "b.nii", v); }),
             Contains("affine") && Contains("not finite"));
  v.to_world = identity_affine;
  v.to_world[10] = 0;
  CHECK_THAT(message_of([&] { write_nifti(dir / "b.nii", v); }), Contains("voxel size"));
  CHECK(dir.list() == std::vector<std::string>{"a.nii"});
}

TEST_CASE("nifti: bad options and names are refused") {
  support::folder const dir;
  volume const v = random_volume({2, 2, 2}, 3);
  CHECK_THAT(message_of([&] { write_nifti(dir / "a.img", v); }), Contains(".nii or .nii.gz"));
  CHECK_THAT(message_of([&] { write_nifti(dir / "a.nii", v, {.version = 3}); }), Contains("version is 3"));
  CHECK_THAT(message_of([&] { write_nifti(dir / "a.nii.gz", v, {.compression = 10}); }),
             Contains("compression is 10"));
  CHECK_THAT(message_of([&] { write_nifti(dir / "a.nii", v, {.description = std::string(80, 'x')}); }),
             Contains("79"));
  volume const wide = make_volume({1, 1, 40000});
  CHECK_THAT(message_of([&] { write_nifti(dir / "a.nii", wide, {.version = 1}); }),
             Contains("40000") && Contains("version to 2"));
  write_nifti(dir / "wide.nii.gz", wide);
  CHECK(nifti_info(dir / "wide.nii.gz").version == 2);
}

TEST_CASE("nifti: a full disk or a missing folder leaves the old file alone") {
  support::folder const dir;
  volume const old = random_volume({4, 4, 4}, 4), big = random_volume({40, 40, 40}, 5);
  for (auto const name : {"a.nii", "a.nii.gz"}) {
    write_nifti(dir / name, old);
    {
      small_disk const limit(60000);
      CHECK_THAT(message_of([&] { write_nifti(dir / name, big); }),
                 Contains(name) && Contains("File too large"));
    }
    CHECK(read_nifti(dir / name).image.voxels == old.voxels);
  }
  CHECK(dir.list() == std::vector<std::string>{"a.nii", "a.nii.gz"});
  CHECK_THAT(message_of([&] { write_nifti(dir / "none/a.nii", old); }),
             Contains("No such file") && Contains("folder"));
  CHECK_THAT(message_of([&] { write_nifti("/proc/a.nii", old); }), Contains("/proc/a.nii"));
}

TEST_CASE("nifti: the shipped brains have the values that nibabel reads") {
  struct expected {
    char const* name;
    extent size;
    char const *type, *letters;
    double sum, most;
    index_t nonzero;
  };
  // sum = mean x count of nibabel's get_fdata()
  for (auto const& e : std::vector<expected>{
           {"sub_1/ses_1/t1.nii.gz", {148, 184, 156}, "uint8", "RAS", 184150207, 160, 1737189},
           {"sub_1/ses_1/mask.nii.gz", {148, 184, 156}, "uint8", "RAS", 1737193, 1, 1737193},
           {"sub_2/ses_1/t1.nii.gz", {109, 125, 88}, "int16", "LPS", 23329774, 325, 204825},
           {"sub_3/ses_1/t1.nii.gz", {128, 128, 62}, "int16", "LSA", 10260383, 160, 128470}}) {
    auto const [v, info] = read_nifti(brain(e.name));
    INFO(e.name);
    CHECK(v.size == e.size);
    CHECK(info.type_name == e.type);
    CHECK(orientation_letters(v.to_world) == e.letters);
    double sum = 0;
    float most = 0;
    index_t nonzero = 0;
    for (float const x : v.voxels) sum += double(x), most = std::max(most, x), nonzero += x != 0;
    CHECK(sum == e.sum);
    CHECK(double(most) == e.most);
    CHECK(nonzero == e.nonzero);
    CHECK(info.nonfinite == 0);
  }
  CHECK(read_nifti(brain("sub_3/ses_1/t1.nii.gz")).image.to_world ==
        affine{-2, 0, 0, 0, 0, 0, 3, -254, 0, 2, 0, 0, 0, 0, 0, 1});
  CHECK(read_nifti(brain("sub_1/ses_1/t1.nii.gz")).image.at(74, 92, 40) == 112);
  CHECK(read_nifti(brain("sub_3/ses_1/t1.nii.gz")).image.at(60, 70, 50) == 81);
  CHECK(read_labels(brain("sub_1/ses_1/mask.nii.gz")).image.at(74, 92, 78) == 1);
}
