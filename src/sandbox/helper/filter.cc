// The system-call filter: what an interpreter needs to compute, read its library and end. All else
// is refused with EPERM: sockets, new processes, anything that changes a file, name or owner,
// signals to others, tracing, namespaces, mounts, io_uring, bpf, keys.
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <vector>

#include "options.h"

namespace narrow_jail {
namespace {

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
#error "the system-call filter knows x86-64 and AArch64"
#endif

constexpr int kAllowed[] = {
    SYS_read,
    SYS_write,
    SYS_readv,
    SYS_writev,
    SYS_pread64,
    SYS_pwrite64,
    SYS_lseek,
    SYS_close,
    SYS_fstat,
    SYS_newfstatat,
    SYS_statx,
    SYS_faccessat,
    SYS_faccessat2,
    SYS_readlinkat,
    SYS_getdents64,
    SYS_getcwd,
    SYS_chdir,
    SYS_fchdir,
    SYS_fadvise64,
    SYS_statfs,
    SYS_fstatfs,
    // memory
    SYS_mmap,
    SYS_munmap,
    SYS_mprotect,
    SYS_mremap,
    SYS_madvise,
    SYS_brk,
    // signals of its own, time
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_rt_sigpending,
    SYS_rt_sigsuspend,
    SYS_rt_sigtimedwait,
    SYS_sigaltstack,
    SYS_setitimer,
    SYS_getitimer,
    SYS_nanosleep,
    SYS_clock_nanosleep,
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_gettimeofday,
    SYS_times,
    SYS_restart_syscall,
    // waiting, descriptors
    SYS_ppoll,
    SYS_pselect6,
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_eventfd2,
    SYS_pipe2,
    SYS_dup,
    SYS_dup3,
    SYS_close_range,
    // threads
    SYS_futex,
    SYS_set_robust_list,
    SYS_set_tid_address,
    SYS_rseq,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_membarrier,
    // who it is
    SYS_getpid,
    SYS_getppid,
    SYS_gettid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_getresuid,
    SYS_getresgid,
    SYS_getgroups,
    SYS_getpgid,
    SYS_getsid,
    SYS_uname,
    SYS_sysinfo,
    SYS_getrlimit,
    SYS_getrusage,
    SYS_getrandom,
    SYS_umask,
    SYS_wait4,
    SYS_waitid,
    SYS_execve,
    SYS_exit,
    SYS_exit_group,
#if defined(__x86_64__)
    SYS_stat,
    SYS_lstat,
    SYS_access,
    SYS_readlink,
    SYS_getdents,
    SYS_alarm,
    SYS_time,
    SYS_pause,
    SYS_poll,
    SYS_select,
    SYS_epoll_create,
    SYS_epoll_wait,
    SYS_eventfd,
    SYS_pipe,
    SYS_dup2,
    SYS_getpgrp,
    SYS_arch_prctl,
#endif
};

constexpr uint32_t kWriting = O_ACCMODE | O_CREAT | O_TRUNC;
constexpr int kFcntl[] = {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL};
constexpr int kIoctl[] = {0x5401 /*TCGETS*/,  0x5413 /*TIOCGWINSZ*/, 0x541B /*FIONREAD*/,
                          0x5421 /*FIONBIO*/, 0x5450 /*FIONCLEX*/,   0x5451 /*FIOCLEX*/};
constexpr int kPrctl[] = {PR_SET_NAME, PR_GET_NAME};

class Program {
 public:
  std::vector<sock_filter> code;

  void load(size_t offset) {
    code.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset)));
  }
  void load_argument(int index) {  // low half: all arguments tested here are 32 bits wide
    load(offsetof(seccomp_data, args) + 8 * index);
  }
  void answer(uint32_t verdict) { code.push_back(BPF_STMT(BPF_RET | BPF_K, verdict)); }
  void refuse(int error) { answer(SECCOMP_RET_ERRNO | error); }
  void allow_if_equal(uint32_t value) {
    code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1));
    answer(SECCOMP_RET_ALLOW);
  }
  // `body` runs when the call is `number`; it must end in an answer.
  template <class Body>
  void on(int number, Body body) {
    const size_t jump = code.size();
    code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 0));
    body();
    code[jump].jf = static_cast<uint8_t>(code.size() - jump - 1);
  }
};

}  // namespace

void restrict_system_calls(int errors) {
  Program program;
  program.load(offsetof(seccomp_data, arch));
  program.code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0));
  program.answer(SECCOMP_RET_KILL_PROCESS);
  program.load(offsetof(seccomp_data, nr));
#if defined(__x86_64__)
  program.code.push_back(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000 /*x32*/, 0, 1));
  program.answer(SECCOMP_RET_KILL_PROCESS);
#endif
  for (const int number : kAllowed) program.allow_if_equal(static_cast<uint32_t>(number));

  const auto only_values = [&](int number, int argument, const auto& values) {
    program.on(number, [&] {
      program.load_argument(argument);
      for (const int value : values) program.allow_if_equal(static_cast<uint32_t>(value));
      program.refuse(EPERM);
    });
  };
  only_values(SYS_fcntl, 1, kFcntl);
  only_values(SYS_ioctl, 1, kIoctl);
  only_values(SYS_prctl, 0, kPrctl);
  const auto read_only = [&](int number, int argument) {
    program.on(number, [&] {
      program.load_argument(argument);
      program.code.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, kWriting, 0, 1));
      program.refuse(EPERM);
      program.answer(SECCOMP_RET_ALLOW);
    });
  };
  read_only(SYS_openat, 2);
#if defined(__x86_64__)
  read_only(SYS_open, 1);
#endif
  // Threads only. glibc falls back from clone3, whose flags a filter cannot see, to clone.
  program.on(SYS_clone3, [&] { program.refuse(ENOSYS); });
  program.on(SYS_clone, [&] {
    constexpr uint32_t kSpaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                 CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
    program.load_argument(0);
    program.code.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, kSpaces, 1, 0));
    program.code.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0));
    program.refuse(EPERM);
    program.answer(SECCOMP_RET_ALLOW);
  });
  // Signals to itself (abort, raise), limits of itself.
  const int self[] = {getpid()};
  for (const int number : {SYS_kill, SYS_tgkill, SYS_tkill}) only_values(number, 0, self);
  const int own_limits[] = {0, self[0]};
  only_values(SYS_prlimit64, 0, own_limits);
  program.refuse(EPERM);

  const sock_fprog filter{static_cast<unsigned short>(program.code.size()), program.code.data()};
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) fail(errors, "system-call filter");
}

}  // namespace narrow_jail
