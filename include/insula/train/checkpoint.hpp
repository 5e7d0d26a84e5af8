// SPDX-License-Identifier: Apache-2.0
// The checkpoints of a run: written atomically, the last few and the best kept, resumable after any kind of end.
#pragma once

#include "insula/io/safetensors_write.hpp"
#include "insula/train/checkpoint_files.hpp"

namespace insula {

struct checkpoint_options {
  int keep = 3;                   ///< newest checkpoints to keep, besides the best; 0 keeps all
  bool larger_is_better = false;  ///< of scores
};

/// Owns a folder of checkpoints, created if missing:
///   step-00000123.safetensors   one whole file per checkpoint, with "insula.step" and "insula.score" in its metadata
///   last.safetensors            symbolic link to the newest, replaced by rename
///   best.safetensors            symbolic link to the one with the best score
/// At every moment, power failures and kill -9 included, what last.safetensors names is complete. One process at a time may
/// own a folder: a second one gets an error. Temporaries that killed runs left are removed. Throws error.
class checkpoint_store {
 public:
  explicit checkpoint_store(std::string folder, checkpoint_options const& options = checkpoint_options{})
      : folder_(std::move(folder)), options_(options) {
    check(options_.keep >= 0, "checkpoint_store: keep is ", options_.keep,
          "; give the number of checkpoints to keep, or 0 for all");
    std::error_code e;
    std::filesystem::create_directories(folder_, e);
    if (e) fail_errno("create the folder", folder_, e.value());
    bool const alone = lock();
    (void)remove_stale_temporaries(folder_, alone ? 0 : 3600);
    if (alone) remove_stale_links();
    best_ = find_best();
    if (best_) link(checkpoint_name(best_->step), best_checkpoint);
  }

  /// Adds step and score to the metadata and writes the checkpoint; gives its path. Then moves the links and removes what
  /// need not be kept. Checkpoints of later steps, left by a run that this one does not continue, are removed first. Scores
  /// that are not finite do not count. Throws error if anything cannot be written, saying which checkpoint is still good;
  /// all old files are then intact.
  std::string write(index_t step, safetensors_writer& w, std::optional<double> score = {}) {
    check(step >= 0, "checkpoint_store: the step is ", step, "; it must not be negative");
    if (score && !std::isfinite(*score)) score.reset();
    w.metadata["insula.step"] = text(step);
    w.metadata["insula.version"] = version_text;
    w.metadata.erase("insula.score");
    if (score) w.metadata["insula.score"] = text(*score);
    auto const name = checkpoint_name(step), path = folder_ + "/" + name;
    try {
      w.write(path);
      link(name, last_checkpoint);
      choose_best({path, step, score});
    } catch (error const& e) {
      fail("checkpoint of step ", step, ": ", e.what(), "; ", still_good());
    }
    prune(step);
    return path;
  }

  /// find_last_checkpoint() of the folder.
  std::optional<checkpoint_file> find_last() const { return find_last_checkpoint(folder_); }
  /// The complete checkpoint with the best score, if any has one.
  std::optional<checkpoint_file> find_best() const {
    std::optional<checkpoint_file> best;
    for (auto const step : checkpoint_steps(folder_)) {
      try {
        auto const c = inspect_checkpoint(folder_ + "/" + checkpoint_name(step));
        if (c.score && (!best || better(*c.score, *best->score))) best = c;
      } catch (error const&) {  // an unreadable file is not the best
      }
    }
    return best;
  }
  /// Score of the best checkpoint so far.
  std::optional<double> best_score() const { return best_ ? best_->score : std::nullopt; }
  /// Its step.
  std::optional<index_t> best_step() const { return best_ ? std::optional(best_->step) : std::nullopt; }
  bool better(double score, double than) const {
    return options_.larger_is_better ? score > than : score < than;
  }
  std::string const& folder() const { return folder_; }
  /// A sentence for messages: "the last complete checkpoint is 'run/step-00000100.safetensors' (step 100)".
  std::string still_good() const {
    try {
      if (auto const last = find_last())
        return text("the last complete checkpoint is ", quote(last->path, 4096), " (step ", last->step, ")");
    } catch (error const&) {  // said below
    }
    return "there is no complete checkpoint";
  }

 private:
  /// True if the folder is now ours; false on file systems without locks. Throws error if another process has it.
  bool lock() {
    lock_ = descriptor(::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!lock_.open()) fail_errno("open the folder", folder_, errno);
    if (flock(lock_.get(), LOCK_EX | LOCK_NB) == 0) return true;
    check(errno != EWOULDBLOCK, "checkpoint_store: another run is writing checkpoints to ",
          quote(folder_, 4096), "; end it first or give this run a folder of its own");
    return false;
  }
  /// Takes a checkpoint that was just written into account.
  void choose_best(checkpoint_file const& c) {
    bool const replaced = best_ && best_->step == c.step;
    if (replaced)
      best_ = find_best();
    else if (c.score && (!best_ || better(*c.score, *best_->score)))
      best_ = c;
    else
      return;
    if (best_)
      link(checkpoint_name(best_->step), best_checkpoint);
    else
      (void)::unlink((folder_ + "/" + best_checkpoint).c_str());
  }
  void remove_stale_links() const {
    std::error_code e, ignored;
    for (std::filesystem::directory_iterator it(folder_, e), end; !e && it != end; it.increment(e)) {
      auto const name = it->path().filename().string();
      if (name.starts_with('.') && name.ends_with(detail::temporary_suffix) && it->is_symlink(ignored))
        (void)::unlink(it->path().c_str());
    }
  }
  /// Makes folder/alias a link to its neighbour `name`, atomically. File systems without links go without.
  void link(std::string const& name, char const* alias) const {
    auto const path = folder_ + "/" + alias;
    auto const temporary = text(folder_, "/.", alias, ".", ::getpid(), detail::temporary_suffix);
    (void)::unlink(temporary.c_str());
    if (::symlink(name.c_str(), temporary.c_str()) != 0) {
      if (errno == EPERM || errno == ENOTSUP || errno == ENOSYS) return;
      fail_errno("make the link", path, errno);
    }
    if (::rename(temporary.c_str(), path.c_str()) != 0) {
      int const e = errno;
      (void)::unlink(temporary.c_str());
      fail_errno("move the link", path, e);
    }
    if (int const e = detail::sync_folder(folder_)) fail_errno("flush to disk the folder of", path, e);
  }
  /// Removes all but the newest `keep`, the best, and the one of step `now`. A file that cannot be removed stays.
  void prune(index_t now) const {
    if (options_.keep == 0) return;
    auto steps = checkpoint_steps(folder_);
    auto const later = std::upper_bound(steps.begin(), steps.end(), now);
    std::rotate(steps.begin(), later,
                steps.end());  // oldest first: what this run does not continue, then by step
    auto surplus = index_t(steps.size()) - options_.keep;
    for (auto const step : steps) {
      if (surplus-- <= 0) return;
      if (step != now && !(best_ && best_->step == step))
        (void)::unlink((folder_ + "/" + checkpoint_name(step)).c_str());
    }
  }

  std::string folder_;
  checkpoint_options options_;
  descriptor lock_;
  std::optional<checkpoint_file> best_;
};

}  // namespace insula
