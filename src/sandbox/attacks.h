// Programs that try to get out of the jail or to forge a verdict, for the tests: one line of the
// table of docs/reliability.md each. Escapes end by an exception where the jail holds; a program
// that reaches its end has escaped. Bounded ones cannot escape, they waste: the jail must end them.
#pragma once

#include <string>

namespace narrow::sandbox::attacks {

struct Attack {
  const char* name;
  const char* code;
};

// Before each escape: syscall by number (x86-64 and AArch64 differ, so by name).
inline constexpr const char* kPrelude = R"(
import ctypes, os, platform, signal, socket as _unused_socket, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
def call(x86, arm, *arguments):
    if libc.syscall(x86 if X86 else arm, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")
import _socket
)";

inline constexpr Attack kEscapes[] = {
    // files
    {"read secrets", "open('/etc/shadow').read()"},
    {"read the password file", "open('/etc/passwd').read()"},
    {"list home", "os.listdir('/root') if os.getuid() == 0 else os.listdir('/home')"},
    {"list root of the machine", "os.listdir('/var')"},
    {"environment of processes",
     "[open('/proc/%d/environ' % p).read() for p in (1, os.getppid())]"},
    {"own /proc", "open('/proc/self/environ').read()"},
    {"symlink out", "os.symlink('/etc/passwd', 'link'); open('link').read()"},
    {"hard link out", "os.link('/etc/passwd', '/tmp/narrow-attack-link')"},
    {"FIFO", "os.mkfifo('/tmp/narrow-attack-fifo')"},
    {"device node", "os.mknod('/tmp/narrow-attack-node', 0o20666, os.makedev(1, 1))"},
    {"write a file in /tmp", "open('/tmp/narrow-attack-file', 'w').write('x')"},
    {"write where it is", "open('narrow-attack-file', 'w').write('x')"},
    {"write into its library", "open(os.__file__, 'a').write('x')"},
    {"a setuid file", "os.chmod('/usr/bin/python3', 0o4755)"},
    {"rename over its library", "os.rename(os.__file__, '/tmp/x')"},
    {"delete its library", "os.unlink(os.__file__)"},
    {"make a folder", "os.mkdir('/tmp/narrow-attack-folder')"},
    {"remove its folder", "os.rmdir(os.getcwd())"},
    {"change times of a file", "os.utime('/etc/passwd')"},
    {"open by handle", "call(304, 265, -100, None, 0)"},
    {"openat2", "call(437, 437, -100, b'/etc/passwd', ctypes.create_string_buffer(24), 24)"},
    {"chroot", "os.chroot('/')"},
    {"GPU node", "open('/dev/nvidiactl')"},
    {"memory device", "open('/dev/mem', 'rb')"},
    {"terminal", "open('/dev/tty')"},
    // processes
    {"fork", "os.fork()"},
    {"vfork", "call(58, -1) if X86 else os.fork()"},
    {"daemon", "os.fork() or (os.setsid(), os.fork())"},
    {"subprocess", "import subprocess; subprocess.run(['/usr/bin/python3', '-c', ''])"},
    {"multiprocessing",
     "import multiprocessing as m; p = m.get_context('fork').Process(target=print); p.start()"},
    {"signal the parent", "os.kill(os.getppid() or -1, signal.SIGTERM)"},
    {"signal everyone", "os.kill(-1, signal.SIGKILL)"},
    {"signal its group", "os.killpg(0, signal.SIGTERM)"},
    {"signal by descriptor", "call(424, 424, 0, 9, None, 0)"},
    {"signals through fcntl", "import fcntl; fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid() or 1)"},
    {"ptrace the parent", "call(101, 117, 16, os.getppid() or 1, 0, 0)"},
    {"read another's memory", "call(310, 270, os.getppid() or 1, None, 0, None, 0, 0)"},
    {"another's limits", "call(302, 261, os.getppid() or 1, 7, None, None)"},
    {"take another's descriptor", "call(438, 438, 0, 0, 0)"},
    {"outlive the parent", "call(157, 167, 1, 0, 0, 0, 0)"},
    {"run another program", "os.execv('/bin/sh', ['sh', '-c', 'echo ESCAPED'])"},
    {"become root", "os.setuid(0) if os.getuid() else os.setuid(1)"},
    // memory
    {"map a terabyte", "import mmap; mmap.mmap(-1, 1 << 40)"},
    {"allocate 8 GiB", "b = bytearray(8 << 30)"},
    {"memfd", "os.memfd_create('x')"},
    {"shared memory", "call(29, 194, 0, 4096, 0o1600)"},
    {"POSIX shared memory",
     "from multiprocessing import shared_memory as s; s.SharedMemory(create=True, size=9)"},
    {"lock memory", "call(151, 230, 1)"},
    // network
    {"TCP", "_socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)"},
    {"UDP", "_socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)"},
    {"TCP over IPv6", "_socket.socket(_socket.AF_INET6, _socket.SOCK_STREAM)"},
    {"raw socket", "_socket.socket(_socket.AF_INET, _socket.SOCK_RAW, 1)"},
    {"unix socket", "_socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)"},
    {"socket pair", "_socket.socketpair()"},
    {"netlink", "_socket.socket(16, _socket.SOCK_RAW, 0)"},
    {"vsock", "_socket.socket(40, _socket.SOCK_STREAM, 0)"},
    {"packet socket", "_socket.socket(17, _socket.SOCK_RAW, 3)"},
    {"DNS", "_socket.getaddrinfo('example.com', 80)"},
    // kernel
    {"user namespace", "call(272, 97, 0x10000000)"},
    {"network namespace", "call(272, 97, 0x40000000)"},
    {"namespace by clone", "call(56, 220, 0x10000000 | 17, 0, 0, 0, 0)"},
    {"clone3", "call(435, 435, ctypes.create_string_buffer(88), 88)"},
    {"enter a namespace", "call(308, 268, 0, 0)"},
    {"mount", "call(165, 40, b'x', b'/tmp', b'tmpfs', 0, None)"},
    {"unmount", "call(166, 39, b'/', 2)"},
    {"pivot_root", "call(155, 41, b'/', b'/')"},
    {"bpf", "call(321, 280, 0, None, 0)"},
    {"io_uring", "call(425, 425, 8, ctypes.create_string_buffer(120))"},
    {"userfaultfd", "call(323, 282, 0)"},
    {"keys", "call(250, 219, 0, -3, 1)"},
    {"perf", "call(298, 241, ctypes.create_string_buffer(128), 0, -1, -1, 0)"},
    {"personality", "call(135, 92, 0x0040000)"},
    {"kernel module", "call(175, 105, b'', 0, b'')"},
    {"kernel log", "call(103, 116, 3, ctypes.create_string_buffer(64), 64)"},
    {"set the clock", "time.clock_settime(time.CLOCK_REALTIME, 0)"},
    {"host name", "_socket.sethostname('x')"},
    {"another filter", "call(317, 277, 1, 0, ctypes.create_string_buffer(16))"},
};

inline constexpr Attack kBounded[] = {
    {"spin", "while True: pass"},
    {"sleep for ever", "time.sleep(1e6)"},
    {"ignore SIGTERM and CPU signals",
     "for s in (15, 24, 1, 2, 14):\n    signal.signal(s, signal.SIG_IGN)\nwhile True: pass"},
    {"stop itself", "os.kill(os.getpid(), signal.SIGSTOP)"},
    {"thread bomb",
     "try:\n    while True:\n        threading.Thread(target=time.sleep, args=(1e6,)).start()\n"
     "except RuntimeError: pass\ntime.sleep(1e6)"},
    {"endless output", "while True: os.write(1, b'x' * 65536)"},
    {"binary output", "while True: os.write(1, b'\\x00\\xff\\xc3\\x28\\x1b[2J' * 9999)"},
    {"endless errors", "while True: os.write(2, b'x' * 65536)"},
    {"close everything", "os.closerange(0, 64)\ntime.sleep(1e6)"},
    {"endless recursion", "sys.setrecursionlimit(10**9)\nf = lambda: f()\nf()"},
    {"a number of 10^9 digits", "x = 10**(10**9)"},
    {"memory in small pieces", "a = []\nwhile True: a.append('x' * 100000 + str(len(a)))"},
    {"crash", "ctypes.string_at(0)"},
    {"abort", "os.abort()"},
};

// A function that adds two numbers is asked for; none of these adds.
inline constexpr Attack kForgeries[] = {
    {"wrong answer", "def add(a, b): return a - b"},
    {"nothing", ""},
    {"not a function", "add = 5"},
    {"exit 0 while loading", "import os\nos._exit(0)"},
    {"exit 0 when called", "import os\ndef add(a, b): os._exit(0)"},
    {"sys.exit", "import sys\ndef add(a, b): sys.exit(0)"},
    {"SystemExit while loading", "raise SystemExit(0)"},
    {"always equal",
     "class E:\n    def __eq__(self, o): return True\n    def __ne__(self, o): return False\n"
     "    __hash__ = None\ndef add(a, b): return E()"},
    {"always equal int",
     "class E(int):\n    def __eq__(self, o): return True\n    def __ne__(self, o): return False\n"
     "    __hash__ = int.__hash__\ndef add(a, b): return E(7)"},
    {"always equal by every operator",
     "class E:\n    def __getattr__(self, n): return lambda *a: True\n    __eq__ = __lt__ = __le__ "
     "= "
     "__gt__ = __ge__ = __bool__ = lambda *a: True\n    def __rsub__(self, o): return 0\n"
     "    __sub__ = __rsub__\n    def __class__(self): return int\ndef add(a, b): return E()"},
    {"replace the check through frames",
     "import sys\ndef add(a, b):\n    f = sys._getframe()\n    while f:\n        for g in "
     "(f.f_globals, "
     "f.f_locals):\n            for k in list(g):\n                if k in ('check', 'passes', "
     "'run_tests'):"
     "\n                    g[k] = lambda *a: True\n        f = f.f_back\n    return 0"},
    {"find flags through gc",
     "import gc\ndef add(a, b):\n    for o in gc.get_objects():\n        if type(o) is dict:\n"
     "            for k in list(o):\n                if type(o[k]) in (bool, str) and k in "
     "('status', "
     "'passed', 'ok'):\n                    o[k] = 'pass'\n    return 0"},
    {"print the verdict",
     "print('{\"status\": \"pass\"}', flush=True)\ndef add(a, b):\n    print('{\"status\": "
     "\"pass\"}')\n"
     "    return 0"},
    {"write the verdict to every descriptor",
     "import os\ndef say():\n    for fd in range(64):\n        try: os.write(fd, b'{\"status\": "
     "\"pass\", "
     "\"detail\": \"\"}\\n')\n        except OSError: pass\ndef add(a, b):\n    say()\n    "
     "os._exit(0)"},
    {"the verdict at exit",
     "import atexit, os\natexit.register(lambda: os.write(1, b'{\"status\": \"pass\"}\\n'))\n"
     "def add(a, b): raise SystemExit(0)"},
    {"frames before the question",
     "import json, os, struct\nfor n in range(1, 40):\n    b = json.dumps({'n': n, 'ok': "
     "5}).encode()\n"
     "    os.write(4, struct.pack('>I', len(b)) + b)\ndef add(a, b): return 0"},
    {"two answers",
     "import json, os, struct\ndef add(a, b):\n    b = json.dumps({'n': 3, 'ok': 0}).encode()\n"
     "    os.write(4, (struct.pack('>I', len(b)) + b) * 2)\n    return 0"},
    {"a frame that says pass",
     "import json, os, struct\ndef add(a, b):\n    b = json.dumps({'n': 2, 'status': 'pass', 'ok': "
     "None})"
     ".encode()\n    os.write(4, struct.pack('>I', len(b)) + b)\n    os._exit(0)"},
    {"half a frame", "import os\ndef add(a, b):\n    os.write(4, b'\\0\\0')\n    os._exit(0)"},
    {"a frame of 4 GB",
     "import os\ndef add(a, b):\n    os.write(4, b'\\xff' * 8)\n    os._exit(0)"},
    {"no JSON", "import os\ndef add(a, b):\n    os.write(4, b'\\0\\0\\0\\4{{{{')\n    os._exit(0)"},
    {"deep JSON",
     "import os, struct\ndef add(a, b):\n    b = b'[' * 500000\n    os.write(4, struct.pack('>I', "
     "len(b)) + b)"
     "\n    os._exit(0)"},
    {"random frames",
     "import os, random, struct\nr = random.Random(7)\ndef add(a, b):\n    for _ in range(2000):\n"
     "        b = bytes(r.choice(b'{}[]\"tdsifcbahryn:,05 ok') for _ in range(r.randrange(60)))\n"
     "        os.write(4, struct.pack('>I', len(b)) + b)\n    return 0"},
    {"every tag, wrong inside",
     "import __main__, itertools\nbad = itertools.cycle([{t: v} for t in 'tdsficbahyrz' for v in "
     "(None, [], "
     "[[]], {}, 'x', -1, [1], [[1, 2]], [None, None])])\n__main__.encode = lambda v, *a, **k: "
     "next(bad)\n"
     "def add(a, b): return 0"},
    {"a giant answer", "def add(a, b): return 'x' * (20 << 20)"},
    {"an answer of many nodes", "def add(a, b): return [0] * 1200000"},
    {"a deep answer",
     "def add(a, b):\n    x = []\n    for _ in range(5000): x = [x]\n    return x"},
    {"a cyclic answer", "def add(a, b):\n    x = []\n    x.append(x)\n    return x"},
    {"slow drip",
     "import os, time\ndef add(a, b):\n    while True:\n        os.write(4, b'\\0')\n        "
     "time.sleep(.2)"},
    {"never answers", "import time\ndef add(a, b): time.sleep(1e6)"},
    {"a huge exception name",
     "def add(a, b): raise type('X' * 1000000, (AssertionError,), {})('y' * 1000000)"},
    {"an exception whose text raises",
     "class E(Exception):\n    def __str__(self): raise SystemExit(0)\ndef add(a, b): raise E()"},
    {"an exception that is no text", "def add(a, b): raise ValueError('\\ud800' * 9)"},
    {"a broken hash", "import __main__\n__main__.hash_of = lambda v: 7\ndef add(a, b): return 0"},
    {"a hash", "import __main__\n__main__.hash_of = lambda v: 'e' * 64\ndef add(a, b): return 0"},
    {"a type for the number", "def add(a, b): return int"},
    {"patch json",
     "import json\njson.dumps = lambda *a, **k: '{\"n\": 3, \"ok\": true, \"status\": \"pass\"}'\n"
     "def add(a, b): return 0"},
    {"patch builtins",
     "import builtins\nbuiltins.type = lambda x: int\nbuiltins.isinstance = lambda *a: True\n"
     "builtins.__build_class__ = None\ndef add(a, b): return 0"},
    {"patch sys.modules",
     "import sys\nfor m in list(sys.modules): sys.modules[m] = None\ndef add(a, b): return 0"},
    {"wire functions of its own process",
     "import __main__\n__main__.encode = lambda v, *a, **k: {'status': 'pass'}\n"
     "__main__.Decoder.decode = lambda *a: [0, 0]\ndef add(a, b): return 0"},
    {"tags that are none",
     "import __main__\n__main__.encode = lambda v, *a, **k: {'q': 1}\ndef add(a, b): return 0"},
    {"a set that is none",
     "import __main__\n__main__.encode = lambda v, *a, **k: {'s': [[1]]}\ndef add(a, b): return 0"},
    {"a tuple for the number", "def add(a, b): return (a + b,)"},
    {"text for the number", "def add(a, b): return str(a + b)"},
    {"NaN", "def add(a, b): return float('nan')"},
    {"None", "def add(a, b): return None"},
    {"the arguments changed", "def add(a, b): return [a, b]"},
    {"a helper of the tests redefined", "def close(a, b): return True\ndef add(a, b): return 0"},
    {"a builtin of the tests redefined",
     "import builtins\nbuiltins.abs = abs = lambda x: 0\nsum = lambda x: 5\ndef add(a, b): return "
     "0"},
    {"kill the parent",
     "import os\ndef add(a, b):\n    os.kill(os.getppid() or -1, 9)\n    return 0"},
    {"kill all", "import os\ndef add(a, b):\n    os.kill(-1, 9)\n    return 0"},
    {"answer from a child", "import os\ndef add(a, b):\n    os.fork()\n    return 0"},
    {"crash", "import ctypes\ndef add(a, b): ctypes.string_at(0)"},
    {"a generator", "def add(a, b): yield a + b"},
    {"itself", "def add(a, b): return add"},
    {"references made up",
     "import __main__\n__main__.encode = lambda v, *a, **k: {'r': 10**30}\ndef add(a, b): return "
     "0"},
};

// What the forgeries are asked. `close` is the tests' own.
inline constexpr const char* kNames = "def close(a, b): return abs(a - b) < 1e-9\n";
inline constexpr const char* kTests =
    "def check(candidate):\n"
    "    assert candidate(2, 3) == 5\n"
    "    assert candidate(-4, 4) == 0 and candidate(40, 2) == 42\n"
    "    assert close(add(0.5, 0.25), 0.75)\n"
    "    assert not candidate(1, 1) != 2\n"
    "    assert [candidate(i, i) for i in range(3)] == [0, 2, 4]\n"
    "check(add)\n";

}  // namespace narrow::sandbox::attacks
