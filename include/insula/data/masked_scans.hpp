// SPDX-License-Identifier: Apache-2.0
// Images with their brain masks, read and brought to the network's grid, and the order in which patients are seen.
#pragma once

#include <memory>

#include "insula/data/epoch_order.hpp"
#include "insula/data/pipeline.hpp"
#include "insula/data/prepare.hpp"
#include "insula/data/scan_list.hpp"

namespace insula {

/// The published layout of 3D-Neuro-SimCLR: the 193 x 229 x 193 grid of the MNI 2009c template, cropped to x 1 up to the end,
/// y 19 up to 211, z 10 up to 160, and transposed to (z, y, x): 150 x 192 x 192.
/// emilykaczmarek/3D-Neuro-SimCLR, datasets/t1_datasets.py.
inline pipeline simclr_preprocessing() {
  return {{preprocess::expect_grid{193, 229, 193},
           preprocess::crop_range{.d_from = 1, .h_from = 19, .h_to = 211, .w_from = 10, .w_to = 160},
           preprocess::reverse_axes{}}};
}

/// An image and its mask on one grid.
struct masked_volume {
  volume image, mask;
};

/// Reads and preprocesses one row. Masks move with the image, by nearest neighbour; as in the published code only voxels count
/// and not where the header says they lie. Throws error naming the line and the files: unreadable, extents that differ, nothing
/// in the mask, a voxel in the mask that is not finite.
inline masked_volume read_masked(scan_list const& list, listed_scan const& s, pipeline const& p) {
  try {
    masked_volume v;
    v.image = read_image(s.image);
    if (s.mask.empty()) {
      v.mask = v.image;
      for (float& x : v.mask.voxels) x = x != 0 && std::isfinite(x) ? 1.0f : 0.0f;
    } else {
      v.mask = read_image(s.mask);
      check(v.image.size == v.mask.size, "the image has ", v.image.size, " voxels, its mask ",
            quote(s.mask, 4096), " has ", v.mask.size, ": resample the mask onto the image");
      v.mask.to_world = v.image.to_world;
    }
    auto done = apply(p, std::move(v.image), std::move(v.mask));
    v.image = std::move(done.image), v.mask = std::move(done.labels);
    index_t inside = 0, bad = 0;
    for (std::size_t i = 0; i < v.mask.voxels.size(); ++i)
      if (v.mask.voxels[i] != 0) ++inside, bad += !std::isfinite(v.image.voxels[i]);
    check(inside > 0, "the mask ",
          s.mask.empty() ? std::string("(voxels that are not 0)") : quote(s.mask, 4096),
          " is empty after preprocessing");
    check(bad == 0, bad, " of ", inside, " voxels in the mask are NaN or infinite: repair the image");
    return v;
  } catch (error const& e) {
    fail(list.path, ":", s.line, ": ", quote(s.image, 4096), ": ", e.what());
  }
}

/// Where masked_scans keeps what it read: in memory (two floats per voxel), or nowhere, so that every use reads the files.
enum class keep_scans { in_memory, on_disk };

/// The volumes of a list. Throws error if the grids of two rows differ after preprocessing. May be used from many threads.
class masked_scans {
 public:
  masked_scans(scan_list list, pipeline p, keep_scans keep, thread_pool* pool = nullptr)
      : list_(std::move(list)), pipeline_(std::move(p)) {
    check(!list_.rows.empty(), "masked_scans: the list ", quote(list_.path, 4096), " has no rows");
    if (keep == keep_scans::on_disk) {
      grid_ = read_masked(list_, list_.rows[0], pipeline_).image.size;
      return;
    }
    volumes_.resize(list_.rows.size());
    std::vector<std::string> reasons(volumes_.size());
    for_tasks(pool, index_t(volumes_.size()), [&](index_t i) {
      auto const k = std::size_t(i);
      reasons[k] = detail::refusal([&] {
        volumes_[k] = std::make_shared<masked_volume const>(read_masked(list_, list_.rows[k], pipeline_));
      });
    });
    for (auto const& reason : reasons) check(reason.empty(), reason);
    grid_ = volumes_[0]->image.size;
    for (std::size_t i = 0; i < volumes_.size(); ++i) check_grid(i, *volumes_[i]);
  }

  scan_list const& list() const { return list_; }
  pipeline const& preprocessing() const { return pipeline_; }
  index_t size() const { return index_t(list_.rows.size()); }
  /// The grid that all volumes have.
  extent grid() const { return grid_; }
  /// The volumes of row i, shared.
  std::shared_ptr<masked_volume const> open(index_t i) const {
    check(i >= 0 && i < size(), "masked_scans: row ", i, " of ", size(), " is asked for");
    auto const k = std::size_t(i);
    if (!volumes_.empty()) return volumes_[k];
    auto v = std::make_shared<masked_volume const>(read_masked(list_, list_.rows[k], pipeline_));
    check_grid(k, *v);
    return v;
  }

 private:
  void check_grid(std::size_t i, masked_volume const& v) const {
    check(v.image.size == grid_, list_.path, ":", list_.rows[i].line, ": ", quote(list_.rows[i].image, 4096),
          " has ", v.image.size, " voxels after preprocessing, the first row has ", grid_,
          ": end the preprocessing with pad and centre_crop, or crop_range, to one grid");
  }

  scan_list list_;
  pipeline pipeline_;
  extent grid_{0, 0, 0};
  std::vector<std::shared_ptr<masked_volume const>> volumes_;
};

/// Every patient once per epoch, in an order drawn from (seed, epoch), with one of the patient's scans drawn from
/// (seed, epoch, patient): the paper's epoch. Without patients in the list, every row once (the published code). A value like
/// epoch_order: give each worker its own.
class patient_order {
 public:
  struct place {
    index_t epoch, row;
  };
  patient_order(std::vector<std::vector<index_t>> rows_by_patient, random_key key)
      : rows_(std::move(rows_by_patient)), order_(index_t(rows_.size()), key), key_(key) {}
  index_t patients() const { return order_.items(); }
  place at(index_t i) {
    auto const [epoch, patient] = order_.at(i);
    auto const& rows = rows_[std::size_t(patient)];
    if (rows.size() == 1) return {epoch, rows[0]};
    random_stream draw(
        {key_.seed, mix(mix(key_.stream, 0x5ca4), std::uint64_t(epoch)), std::uint32_t(patient)});
    return {epoch, rows[std::size_t(draw.below(index_t(rows.size())))]};
  }

 private:
  std::vector<std::vector<index_t>> rows_;
  epoch_order order_;
  random_key key_;
};

}  // namespace insula
