// The jail holds and verdicts cannot be forged: the attack list (sandbox/attacks.h) in every mode
// that this machine gives to this user. CMakeLists.txt runs it as root and as a plain user.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "base/thread_pool.h"
#include "sandbox/attacks.h"
#include "sandbox/jail.h"
#include "sandbox/test_jails.h"

namespace narrow::sandbox {
namespace {

using attacks::Attack;

constexpr Limits kLimits{.wall_ms = 1000, .cpu_s = 1, .memory_bytes = 512 << 20};

// Runs body(jail, attack) for each, side by side; a body answers what is wrong, or nothing.
template <class Body>
void for_each(std::span<const Attack> list, Body body) {
  ASSERT_FALSE(jails().empty());
  ThreadPool pool(8);  // most of them wait
  for (const Jail& jail : jails()) {
    std::vector<std::string> wrong(list.size());
    pool.parallel_for(list.size(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) wrong[i] = body(jail, list[i]);
    });
    for (size_t i = 0; i < list.size(); ++i)
      EXPECT_EQ(wrong[i], "") << list[i].name << ", mode " << static_cast<char>(jail.mode());
  }
}

// Processes that belong to nobody any more, or to this program, and may be of a jail: a helper, or
// something of a jail's user or of this one.
std::set<int> strays() {
  std::set<int> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream status(entry.path() / "status");
    std::string name;
    int pid = 0, parent = 0, uid = 0;
    for (std::string key; status >> key;) {
      if (key == "Name:") status >> name;
      if (key == "Pid:") status >> pid;
      if (key == "PPid:") status >> parent;
      if (key == "Uid:") status >> uid;
      status.ignore(1 << 10, '\n');
    }
    const bool jailed = uid / 1000 == 64 || (uid != 0 && uid == static_cast<int>(getuid()));
    if ((parent == 1 || parent == getpid()) && (name == "narrow-jail" || jailed)) found.insert(pid);
  }
  return found;
}

// What has come since `before` and stays: a helper that is just ending is given a moment.
std::set<int> left_behind(const std::set<int>& before) {
  std::set<int> left;
  for (int look = 0; look < 20; ++look) {
    left.clear();
    for (const int pid : strays())
      if (!before.contains(pid)) left.insert(pid);
    if (left.empty()) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return left;
}

TEST(Jail, NothingGetsOut) {
  for_each(attacks::kEscapes, [](const Jail& jail, const Attack& attack) -> std::string {
    const Outcome outcome = jail.run(
        std::string(attacks::kPrelude) + attack.code + "\nos.write(1, b'ESCAPED')\n", kLimits);
    if (outcome.out.find("ESCAPED") != std::string::npos) return "escaped";
    // It was refused, not lost before it tried.
    if (outcome.err.find("Traceback") == std::string::npos) return "did not run: " + outcome.err;
    if (outcome.err.find("NameError") != std::string::npos) return outcome.err;
    return "";
  });
}

TEST(Jail, WasteIsBounded) {
  const std::set<int> before = strays();
  for_each(attacks::kBounded, [](const Jail& jail, const Attack& attack) -> std::string {
    const Outcome outcome = jail.run(std::string(attacks::kPrelude) + attack.code, kLimits);
    if (outcome.wall_ms > 4 * kLimits.wall_ms) return "took " + std::to_string(outcome.wall_ms);
    if (outcome.out.size() > kOutputBytes || outcome.err.size() > kOutputBytes) return "output";
    if (outcome.end == Outcome::End::exited && outcome.code == 0) return "ended well";
    return "";
  });
  EXPECT_TRUE(left_behind(before).empty());
}

Json addition(const std::string& code) {
  return {{"kind", "tests"},
          {"code", code},
          {"names", attacks::kNames},
          {"tests", attacks::kTests},
          {"entry", "add"},
          {"canonical", "def add(a, b): return a + b"},
          {"setup", ""},
          {"seconds", 1.0}};
}

TEST(Oracle, NoVerdictIsForged) {
  const std::set<int> before = strays();
  for_each(attacks::kForgeries, [](const Jail& jail, const Attack& attack) -> std::string {
    const Judged judged =
        jail.judge(addition(attack.code), {.wall_ms = 3000, .cpu_s = 4, .memory_bytes = 1 << 30});
    const std::string status = judged.verdict.at("status");
    return status == "fail" || status == "timeout" ? "" : judged.verdict.dump();
  });
  EXPECT_TRUE(left_behind(before).empty());
}

}  // namespace
}  // namespace narrow::sandbox
