// The jail holds and verdicts cannot be forged: the attack list (sandbox/attacks.h) in every mode
// that this machine gives to this user. CMakeLists.txt runs it as root and as a plain user.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "base/thread_pool.h"
#include "sandbox/attacks.h"
#include "sandbox/jail.h"

namespace narrow::sandbox {
namespace {

using attacks::Attack;

// Those that this machine gives to this user. At least one: otherwise programs cannot be run here.
const std::vector<Jail>& jails() {
  static const std::vector<Jail> list = [] {
    std::vector<Jail> found;
    for (const Mode mode : {Mode::namespaces, Mode::own_user, Mode::landlock}) {
      try {
        found.push_back(Jail::probe(mode));
        std::printf("%s\n", found.back().description().c_str());
      } catch (const Error& error) {
        std::printf("%s\n", error.what());
      }
    }
    return found;
  }();
  return list;
}

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

// Processes whose parent is this one, or that run as a jail's user.
int left_behind() {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream status(entry.path() / "status");
    for (std::string line; std::getline(status, line);) {
      const bool child = line == "PPid:\t" + std::to_string(getpid());
      const bool jailed = line.starts_with("Uid:\t642") && line.size() > 10;
      if (child || jailed) ++count;
    }
  }
  return count;
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
  for_each(attacks::kBounded, [](const Jail& jail, const Attack& attack) -> std::string {
    const Outcome outcome = jail.run(std::string(attacks::kPrelude) + attack.code, kLimits);
    if (outcome.wall_ms > 4 * kLimits.wall_ms) return "took " + std::to_string(outcome.wall_ms);
    if (outcome.out.size() > kOutputBytes || outcome.err.size() > kOutputBytes) return "output";
    if (outcome.end == Outcome::End::exited && outcome.code == 0) return "ended well";
    return "";
  });
  EXPECT_EQ(left_behind(), 0);
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
  for_each(attacks::kForgeries, [](const Jail& jail, const Attack& attack) -> std::string {
    const Judged judged =
        jail.judge(addition(attack.code), {.wall_ms = 3000, .cpu_s = 4, .memory_bytes = 1 << 30});
    const std::string status = judged.verdict.at("status");
    return status == "fail" || status == "timeout" ? "" : judged.verdict.dump();
  });
  EXPECT_EQ(left_behind(), 0);
}

}  // namespace
}  // namespace narrow::sandbox
