// SPDX-License-Identifier: Apache-2.0
// Files: atomic replacement under failures, mapping, and reading.
#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <cstring>

#include "insula/io/atomic_file.hpp"
#include "insula/io/mapped_file.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;

namespace {

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

TEST_CASE("an atomic file appears complete, and only after commit") {
  support::folder const dir;
  auto const path = dir / "a.bin";
  std::string const big(700'000, 'x');
  atomic_file f(path);
  f.write("head ");
  f.write(big);
  f.write(" tail");
  CHECK_FALSE(std::filesystem::exists(path));
  CHECK(f.size() == big.size() + 10);
  f.commit();
  CHECK(read_file(path) == "head " + big + " tail");
  CHECK(dir.list() == std::vector<std::string>{"a.bin"});
  CHECK_THAT(message_of([&] { f.write("more"); }), Contains("committed"));
}

TEST_CASE("an atomic file that is not committed leaves the old contents and no temporary") {
  support::folder const dir;
  write_file(dir / "a", "old");
  {
    atomic_file f(dir / "a");
    f.write("new");
  }
  CHECK(read_file(dir / "a") == "old");
  CHECK(dir.list() == std::vector<std::string>{"a"});
}

TEST_CASE("a write that fails half-way says why, keeps the old file and removes the temporary") {
  support::folder const dir;
  write_file(dir / "a", "old");
  std::string message;
  {
    small_disk const full(100'000);
    message = message_of([&] { write_file(dir / "a", std::string(300'000, 'n')); });
    CHECK_THAT(message, Contains("/a'") && Contains("File too large") && Contains("ulimit -f"));
    message = message_of([&] {  // small pieces: the failure shows when the buffer is flushed
      atomic_file f(dir / "a");
      for (int i = 0; i < 3000; ++i) f.write(std::string(100, 'n'));
      f.commit();
    });
    CHECK_THAT(message, Contains("File too large"));
  }
  CHECK(read_file(dir / "a") == "old");
  CHECK(dir.list() == std::vector<std::string>{"a"});
  write_file(dir / "a", "new");
  CHECK(read_file(dir / "a") == "new");
}

TEST_CASE("a device that is always full reports no space left") {
  if (!std::filesystem::exists("/dev/full")) return;
  descriptor const full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  REQUIRE(full.open());
  int const e = write_fully(full.get(), "x", 1);
  CHECK(e == ENOSPC);
  CHECK_THAT(message_of([&] { fail_errno("write", "f", e); }),
             Contains("No space left") && Contains("free some space"));
}

TEST_CASE("devices, folders and missing folders are refused as targets") {
  support::folder const dir;
  CHECK_THAT(message_of([] { atomic_file f("/dev/null"); }), Contains("not a regular file"));
  CHECK(std::filesystem::is_character_file("/dev/null"));
  CHECK_THAT(message_of([&] { atomic_file f(dir.path()); }), Contains("is a folder"));
  CHECK_THAT(message_of([&] { atomic_file f(dir / "no/such/a"); }),
             Contains("No such file") && Contains("folder"));
  CHECK_THAT(message_of([&] { atomic_file f(dir / ""); }), Contains("folder"));
  write_file(dir / "plain", "x");
  CHECK_THAT(message_of([&] { atomic_file f(dir / "plain/a"); }), Contains("is a file and not a folder"));
  CHECK(dir.list() == std::vector<std::string>{"plain"});
}

TEST_CASE("writing through a symbolic link keeps the link and replaces what it points to") {
  support::folder const dir;
  std::filesystem::create_directory(dir / "real");
  std::filesystem::create_directory_symlink("real", dir / "folder");
  write_file(dir / "folder/a", "1");
  CHECK(read_file(dir / "real/a") == "1");
  std::filesystem::create_symlink("real/a", dir / "link");
  write_file(dir / "link", "2");
  CHECK(std::filesystem::is_symlink(dir / "link"));
  CHECK(read_file(dir / "real/a") == "2");
  std::filesystem::create_symlink("real/b", dir / "dangling");
  write_file(dir / "dangling", "3");
  CHECK(read_file(dir / "real/b") == "3");
  std::filesystem::create_symlink("loop", dir / "loop");
  CHECK_THAT(message_of([&] { write_file(dir / "loop", "4"); }), Contains("symbolic links"));
}

TEST_CASE("a new file keeps the permissions of the one it replaces") {
  support::folder const dir;
  write_file(dir / "a", "1");
  std::filesystem::permissions(dir / "a", std::filesystem::perms(0640));
  write_file(dir / "a", "2");
  CHECK(std::filesystem::status(dir / "a").permissions() == std::filesystem::perms(0640));
}

TEST_CASE("a file with a name of the greatest length can be written") {
  support::folder const dir;
  std::string const name(255, 'n');
  write_file(dir / name, "x");
  CHECK(read_file(dir / name) == "x");
}

TEST_CASE("a killed writer leaves a temporary that is removed, a living one is left alone") {
  support::folder const dir;
  write_file(dir / "a", "old");
  pid_t const child = fork();
  if (child == 0) {
    atomic_file f(dir / "a");
    f.write(std::string(600'000, 'n'));
    _exit(0);  // no destructors: as if killed
  }
  REQUIRE(child > 0);
  waitpid(child, nullptr, 0);
  CHECK(read_file(dir / "a") == "old");
  REQUIRE(dir.list().size() == 2);
  CHECK(remove_stale_temporaries(dir.path(), 3600) == 0);  // too young
  atomic_file alive(dir / "a");
  alive.write("new");
  REQUIRE(dir.list().size() == 3);
  CHECK(remove_stale_temporaries(dir.path(), 0) == 1);
  alive.commit();
  CHECK(read_file(dir / "a") == "new");
  CHECK(dir.list() == std::vector<std::string>{"a"});
  CHECK_THAT(message_of([&] { remove_stale_temporaries(dir / "none"); }), Contains("No such file"));
}

TEST_CASE("concurrent writers of one file never mix") {
  support::folder const dir;
  for (int i = 0; i < 4; ++i)
    if (fork() == 0) {
      for (int k = 0; k < 10; ++k) write_file(dir / "a", std::string(400'000, char('a' + i)));
      _exit(0);
    }
  while (wait(nullptr) > 0) {
  }
  auto const s = read_file(dir / "a");
  CHECK(s == std::string(400'000, s.front()));
  CHECK(dir.list() == std::vector<std::string>{"a"});
}

TEST_CASE("whole files are read, empty, large, growing and missing ones") {
  support::folder const dir;
  write_file(dir / "empty", "");
  CHECK(read_file(dir / "empty").empty());
  std::string big(3'000'001, '\0');
  for (std::size_t i = 0; i < big.size(); ++i) big[i] = char(i * 7);
  write_file(dir / "big", big);
  CHECK(read_file(dir / "big") == big);
  CHECK_FALSE(read_file("/proc/self/status").empty());  // its size is reported as 0
  CHECK_THAT(message_of([&] { (void)read_file(dir / "big", 1000); }),
             Contains("3000001") && Contains("1000"));
  CHECK_THAT(message_of([&] { (void)read_file(dir / "none"); }),
             Contains("/none'") && Contains("No such file"));
  CHECK_THAT(message_of([&] { (void)read_file(dir.path()); }), Contains("is a folder"));
}

TEST_CASE("a mapped file shows its bytes, also after it is moved or replaced on disk") {
  support::folder const dir;
  write_file(dir / "a", "hello");
  mapped_file m(dir / "a");
  auto const* const address = m.data();
  mapped_file n(std::move(m));
  CHECK(n.data() == address);
  CHECK(m.size() == 0);
  write_file(dir / "a", "other contents");
  CHECK(std::memcmp(n.data(), "hello", 5) == 0);
  m = std::move(n);
  CHECK(m.size() == 5);
  write_file(dir / "empty", "");
  CHECK(mapped_file(dir / "empty").size() == 0);
  CHECK_THAT(message_of([&] { mapped_file(dir / "none"); }), Contains("open") && Contains("No such file"));
  CHECK_THAT(message_of([&] { mapped_file("/dev/null"); }), Contains("not a regular file"));
}

TEST_CASE("names in messages are printable and of bounded length") {
  CHECK(quote("a\nb\x1b[0m") == "'a\\x0ab\\x1b[0m'");
  CHECK(quote("abcdef", 3) == "'abc...'");
}
