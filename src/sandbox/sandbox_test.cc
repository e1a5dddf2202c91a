// The jail and the oracle for honest programs; tests/sandbox_attacks_test.cc has the others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "sandbox/attacks.h"
#include "sandbox/jail.h"
#include "sandbox/test_jails.h"

namespace narrow::sandbox {
namespace {

TEST(Jail, ProbeNamesModePythonAndReasons) {
  const Jail jail = Jail::probe();
  EXPECT_THAT(jail.description(),
              testing::StartsWith(std::string("mode ") + static_cast<char>(jail.mode())));
  EXPECT_THAT(jail.description(), testing::HasSubstr("python 3."));
  EXPECT_THAT(jail.description(), testing::HasSubstr("numpy "));
}

// What probe() finds as in a locked container: no capabilities, no namespaces and, unless asked
// for, no Landlock. 'D': refused.
char probed_in_a_locked_container(bool landlock) {
  const pid_t child = fork();
  if (child == 0) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct none[2] = {};
    constexpr uint32_t kSpaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                 CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
    constexpr uint32_t kNotThere = SECCOMP_RET_ERRNO | ENOSYS, kRefused = SECCOMP_RET_ERRNO | EPERM;
    const uint32_t ruleset = landlock ? SECCOMP_RET_ALLOW : kNotThere;
    sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 444 /*landlock_create_ruleset*/, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, ruleset),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, kSpaces, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, kRefused),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter{std::size(code), code};
    if (syscall(SYS_capset, &header, none) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
      _exit(1);
    try {
      _exit(static_cast<char>(Jail::probe().mode()));
    } catch (const Error& error) {
      _exit(error.kind() == Error::Kind::refused ? 'D' : 1);
    }
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? static_cast<char>(WEXITSTATUS(status)) : '?';
}

TEST(Jail, ALockedContainerGivesLandlockOrIsRefused) {
  EXPECT_EQ(probed_in_a_locked_container(/*landlock=*/true), 'C');
  EXPECT_EQ(probed_in_a_locked_container(/*landlock=*/false), 'D');
}

TEST(Jail, RunsAProgram) {
  for (const Jail& jail : jails()) {
    const Outcome outcome = jail.run(
        "import sys, math, collections\nprint(sys.stdin.read()[::-1])\n"
        "sys.stderr.write('e')\nsys.exit(3)",
        {}, "abc");
    EXPECT_EQ(outcome.out, "cba\n");
    EXPECT_EQ(outcome.err, "e");
    EXPECT_EQ(outcome.end, Outcome::End::exited);
    EXPECT_EQ(outcome.code, 3);
    EXPECT_FALSE(outcome.timed_out);
  }
}

Json addition(const std::string& code) {
  return {{"kind", "tests"},
          {"code", code},
          {"names", attacks::kNames},
          {"tests", attacks::kTests},
          {"entry", "add"},
          {"canonical", "def add(a, b): return a + b"},
          {"setup", ""},
          {"seconds", 1.5}};
}

TEST(Oracle, HonestProgramsPass) {
  for (const Jail& jail : jails())
    for (const char* code :
         {"def add(a, b): return a + b", "add = lambda a, b: a + b", "from operator import add",
          "class N(int): pass\ndef add(a, b): return N(a + b) if type(a) is int else a + b",
          "print('noise')\ndef add(a, b):\n    print(a)\n    return a + b"}) {
      const Judged judged = jail.judge(addition(code), {});
      EXPECT_EQ(judged.verdict.at("status"), "pass") << code << judged.verdict;
    }
}

TEST(Oracle, ValuesCrossAsTheyAre) {
  const char* tests =
      "values = [None, True, -1, 10**40, 0.1, float('inf'), -0.0, 1j, 'é\\ud800', b'\\xff', "
      "bytearray(b'a'), [1, [2]], (1, (2,)), {1, 2}, frozenset([3]), {1: {'a': (1,)}, (2,): "
      "None}]\n"
      "for v in values:\n    w = same(v)\n    assert type(w) is type(v) and repr(w) == repr(v), v\n"
      "l = [3, 1, 2]\nchange(l)\nassert l == [1, 2, 3]\n"
      "assert list(numbers(3)) == [0, 1, 2]\nassert set(keys({1: 2})) == {1}\n"
      "assert second(P(1, 2)) == 2 and second(PAIR) == 4\nassert LIMIT == 9\nassert count([1, 1]) "
      "== {1: 2}\n"
      "try:\n    fails()\n    assert False\nexcept ZeroDivisionError: pass\n";
  const char* code =
      "import collections\nLIMIT = 9\ndef same(v): return v\ndef change(l): l.sort()\n"
      "def numbers(n):\n    for i in range(n): yield i\ndef keys(d): return d.keys()\n"
      "class P:\n    def __init__(self, a, b): self.a, self.b = a, b\n"
      "def second(p): return p.b\nPAIR = P(3, 4)\ndef count(l): return collections.Counter(l)\n"
      "def fails(): return 1 // 0\n";
  Json job = addition(code);
  job["tests"] = tests;
  job["names"] = "";
  job["canonical"] = code;
  for (const Jail& jail : jails()) {
    const Judged judged = jail.judge(job, {});
    EXPECT_EQ(judged.verdict.at("status"), "pass") << judged.verdict;
  }
}

}  // namespace
}  // namespace narrow::sandbox
