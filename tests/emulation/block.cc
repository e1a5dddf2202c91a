#include "emulation/block.h"

#include <ucontext.h>

#include <algorithm>
#include <array>
#include <bit>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"

namespace narrow::emulation {
namespace {

constexpr int kWarp = 32, kCopyBytes = 16;

// Variables that kernels declare __shared__ are those of a thread of the host, and lie as far from
// this one in each (they are part of the program). Their places are above those in launch memory.
thread_local std::byte variables[1];
constexpr uint32_t kVariables = 1u << (kPlaceBits - 1);
constexpr uint32_t kFurthest = 1 << 20;  // what lies further from it is no variable

struct Copy {
  uint32_t to;
  const void* from;
  bool there;
};
using Group = std::vector<Copy>;

constexpr size_t kStackBytes = 256 << 10;
constexpr int kMostTurnsAsked = 1000;

struct Fiber {
  ucontext_t context;
  std::unique_ptr<std::byte[]> stack = std::make_unique_for_overwrite<std::byte[]>(kStackBytes);
  bool done;
  int turn;  // of what it gave last
  std::deque<Group> groups;
  Group open;
};

// Threads that wait for each other: the last one to come lets all go on.
struct Barrier {
  int arrived = 0, round = 0;
};

struct Block {
  std::vector<Fiber> fibers;
  ucontext_t host;
  int running = 0, left = 0;
  int idle = 0;   // threads that were switched to since one last came to a barrier or ended
  int asked = 0;  // how often threads have asked since others last could run
  const std::function<void()>* thread = nullptr;
  Barrier all;
  std::array<Barrier, 16> named;
  std::vector<Barrier> warps;
  std::map<std::pair<int, uint32_t>, Barrier> masks;  // by warp and lanes
  std::vector<std::array<uint32_t, 6>> given[2];      // to the warp, by each thread, in turns
  std::vector<std::byte> memory;
  std::vector<int> under_way;  // copies, to each of its units of kCopyBytes
  std::string error;           // the first
};
thread_local Block block;

// Blocks that run at a time, each in a thread of the host (the only one, if it is alone), one of
// which has the turn.
struct Cluster {
  explicit Cluster(int blocks) : members(static_cast<size_t>(blocks)) {}
  struct Member {
    Block* block = nullptr;
    std::byte* variables = nullptr;
    bool ended = false;
  };
  std::vector<Member> members;
  int turn = 0;
  int idle = 0;   // turns since something happened
  int asked = 0;  // turns passed by threads that ask, since one last told something
  Barrier all;
  std::mutex mutex;
  std::condition_variable turned;
};
thread_local Cluster* cluster = nullptr;
thread_local int rank = 0;  // in it

// To the next block that has not ended.
void pass_turn() {
  const int blocks = static_cast<int>(cluster->members.size());
  for (int i = 1; i <= blocks; ++i) {
    cluster->turn = (rank + i) % blocks;
    if (!cluster->members[static_cast<size_t>(cluster->turn)].ended) break;
  }
  cluster->turned.notify_all();
}
void wait_for_turn(std::unique_lock<std::mutex>& lock) {
  cluster->turned.wait(lock, [] {
    return cluster->turn == rank &&
           std::all_of(cluster->members.begin(), cluster->members.end(),
                       [](const Cluster::Member& member) { return member.block != nullptr; });
  });
}
// Lets the other blocks run. False: none of them has gone on since they last could.
bool let_others_run() {
  if (++cluster->idle > 2 * static_cast<int>(cluster->members.size())) return false;
  std::unique_lock lock(cluster->mutex);
  pass_turn();
  wait_for_turn(lock);
  return true;
}

void switch_to(int fiber, ucontext_t& from) {
  block.running = thread_index.x = fiber;
  swapcontext(&from, &block.fibers[static_cast<size_t>(fiber)].context);
}

// To the next thread that has not ended.
void hand_over() {
  const int me = block.running, threads = static_cast<int>(block.fibers.size());
  int next = me;
  do {
    next = (next + 1) % threads;
  } while (block.fibers[static_cast<size_t>(next)].done);
  if (next != me) switch_to(next, block.fibers[static_cast<size_t>(me)].context);
}

void leave(Barrier& barrier, int threads) {
  go_on();
  if (++barrier.arrived == threads) {
    barrier.arrived = 0;
    ++barrier.round;
  }
}
void wait_at(Barrier& barrier, int threads) {
  const int round = barrier.round;
  leave(barrier, threads);
  wait_until([&] { return barrier.round != round; });
}

Fiber& self() { return block.fibers[static_cast<size_t>(block.running)]; }

// What lane `lane` of the running thread's warp gave last.
const std::array<uint32_t, 6>& given_by(int lane) {
  return block.given[self().turn][static_cast<size_t>(block.running / kWarp * kWarp + lane)];
}

// Gives lanes of the warp words that all may read until the next call. (What was given before that
// is not needed: who has come here again has read it.)
void give(std::array<uint32_t, 6> words, uint32_t lanes = 0xffffffffu) {
  self().turn ^= 1;
  block.given[self().turn][static_cast<size_t>(block.running)] = words;
  if (lanes == 0xffffffffu) return sync_warp();
  wait_at(block.masks[{block.running / kWarp, lanes}], std::popcount(lanes));
}

void bring(const Group& group) {
  for (const Copy& copy : group) {
    --block.under_way[copy.to / kCopyBytes];
    std::byte* const to = block.memory.data() + copy.to;
    if (copy.there) {
      std::memcpy(to, copy.from, kCopyBytes);
    } else {
      std::memset(to, 0, kCopyBytes);
    }
  }
}

void fiber_main() {
  (*block.thread)();
  Fiber& me = self();
  if (!me.open.empty()) note("ends with copies of no group");
  for (const Group& group : me.groups)
    if (!group.empty()) note("ends before its copies");
  if (engine.end_thread) engine.end_thread();
  me.done = true;
  go_on();
  if (--block.left == 0) setcontext(&block.host);
  hand_over();
}

void run_block(int threads) {
  if (block.fibers.size() != static_cast<size_t>(threads))
    block.fibers = std::vector<Fiber>(static_cast<size_t>(threads));
  block.warps.assign(static_cast<size_t>(threads / kWarp), {});
  for (auto& given : block.given) given.assign(static_cast<size_t>(threads), {});
  block.all = {};
  block.named = {};
  block.masks.clear();
  block.left = threads;
  block.idle = block.asked = 0;
  std::fill(block.memory.begin(), block.memory.end(), std::byte{0xff});
  block.under_way.assign(block.memory.size() / kCopyBytes + 1, 0);
  if (engine.begin_block) engine.begin_block();
  for (Fiber& fiber : block.fibers) {
    fiber.done = false;
    fiber.turn = 0;
    fiber.groups.clear();
    fiber.open.clear();
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, fiber_main, 0);
  }
  switch_to(0, block.host);
}

// As a member of the cluster. Leaves the first error in block.error.
void run_member(Cluster& of, int of_rank, Index index, int threads, size_t shared_bytes,
                const std::function<void()>& thread) {
  cluster = &of;
  rank = of_rank;
  block_index = index;
  block_size = {threads, 1, 1};
  block.memory.resize(shared_bytes);
  block.thread = &thread;
  block.error.clear();
  std::unique_lock lock(of.mutex);
  of.members[static_cast<size_t>(rank)].block = &block;
  of.members[static_cast<size_t>(rank)].variables = variables;
  of.turned.notify_all();
  wait_for_turn(lock);
  lock.unlock();
  run_block(threads);
  lock.lock();
  of.members[static_cast<size_t>(rank)].ended = true;
  pass_turn();
}

float half_of(uint32_t pair, int half) {
  return std::bit_cast<float>(half == 0 ? pair << 16 : pair & 0xffff0000u);
}

}  // namespace

void run_grid(Index blocks, int threads, size_t shared_bytes, const std::function<void()>& thread,
              int of_cluster) {
  for (int z = 0; z < blocks.z; ++z)
    for (int y = 0; y < blocks.y; ++y)
      for (int x = 0; x < blocks.x; x += of_cluster) {
        Cluster members(of_cluster);
        std::string error;
        const auto run = [&](int member) {
          grid_size = blocks;
          run_member(members, member, {x + member, y, z}, threads, shared_bytes, thread);
          if (error.empty()) error = block.error;  // it still has the mutex
        };
        std::vector<std::thread> others;
        for (int member = 1; member < of_cluster; ++member) others.emplace_back(run, member);
        run(0);
        for (std::thread& other : others) other.join();
        if (!error.empty()) throw Error::failed(error);
      }
}

void note(const std::string& error) {
  if (block.error.empty())
    block.error = "block " + std::to_string(block_index.x) + ", " + std::to_string(block_index.y) +
                  ", thread " + std::to_string(block.running) + ": " + error;
}

void wait_until(const std::function<bool()>& done) {
  while (!done()) {
    if (++block.idle > 2 * static_cast<int>(block.fibers.size())) {
      if (!engine.do_late || !engine.do_late()) {
        if (!let_others_run()) {
          note("waits for threads that do not come");
          setcontext(&block.host);
        }
        block.idle = 0;
        continue;
      }
      go_on();
    }
    hand_over();
  }
}

void ask_again() {
  // So long as a warp asks its lanes meet, and so go on: what counts is what is told.
  if (++block.asked > 2 * static_cast<int>(block.fibers.size())) {
    block.asked = 0;
    if (!engine.do_late || !engine.do_late()) {
      if (++cluster->asked > kMostTurnsAsked || !let_others_run()) {
        note("asks for what is not told");
        setcontext(&block.host);
      }
    }
    go_on();
  }
  hand_over();
}
void tell() {
  cluster->asked = 0;
  go_on();
}

void go_on() { block.idle = cluster->idle = 0; }

void sync_block() { wait_at(block.all, static_cast<int>(block.fibers.size())); }

void sync_cluster() {
  wait_at(cluster->all, static_cast<int>(block.fibers.size() * cluster->members.size()));
}

void sync_warp() { wait_at(block.warps[static_cast<size_t>(block.running / kWarp)], kWarp); }

void sync_named(int barrier, int threads) {
  wait_at(block.named[static_cast<size_t>(barrier)], threads);
}

void leave_named(int barrier, int threads) {
  leave(block.named[static_cast<size_t>(barrier)], threads);
}

uint32_t exchange(uint32_t value, int lane) {
  give({value});
  return given_by(lane)[0];
}

uint32_t exchange_among(uint32_t lanes, uint32_t value, int lane) {
  give({value}, lanes);
  return given_by(lane)[0];
}

bool is_true_in_warp(bool value) {
  give({value ? 1u : 0u});
  bool all = true;
  for (int lane = 0; lane < kWarp; ++lane) all = all && given_by(lane)[0] == 1;
  return all;
}

std::byte* block_memory() { return block.memory.data(); }
size_t block_memory_bytes() { return block.memory.size(); }

uint32_t place_of(const void* local) {
  const auto* const at = static_cast<const std::byte*>(local);
  if (at >= block.memory.data() && at < block.memory.data() + block.memory.size())
    return static_cast<uint32_t>(at - block.memory.data());
  const auto distance = reinterpret_cast<intptr_t>(at) - reinterpret_cast<intptr_t>(variables);
  if (std::abs(distance) >= intptr_t{kFurthest}) {
    note("neither launch memory nor a variable");
    return kVariables - 1;  // which no memory reaches
  }
  return kVariables + kFurthest + static_cast<uint32_t>(distance);
}

void store_in_block(int to_rank, uint32_t place, const void* from, int bytes) {
  const Cluster::Member& member = cluster->members[static_cast<size_t>(to_rank)];
  if (member.ended) return note("stores to a block that has ended");
  if (place >= kVariables) {
    const auto distance =
        static_cast<int32_t>(place - kVariables) - static_cast<int32_t>(kFurthest);
    std::memcpy(member.variables + distance, from, static_cast<size_t>(bytes));
    return;
  }
  if (size_t{place} + static_cast<size_t>(bytes) > member.block->memory.size())
    return note("stores beyond a block's memory");
  std::memcpy(member.block->memory.data() + place, from, static_cast<size_t>(bytes));
}

void read_shared(uint32_t at, void* to, int bytes) {
  if (at % static_cast<uint32_t>(bytes) != 0) note("reads across a boundary");
  if (size_t{at} + static_cast<size_t>(bytes) > block.memory.size()) {
    note("reads beyond the block's memory");
    std::memset(to, 0xff, static_cast<size_t>(bytes));
    return;
  }
  if (block.under_way[at / kCopyBytes] > 0) note("reads what a copy may not have brought yet");
  std::memcpy(to, block.memory.data() + at, static_cast<size_t>(bytes));
}

void start_copy(uint32_t to, const void* from, bool there) {
  if (to % kCopyBytes != 0 || size_t{to} + kCopyBytes > block.memory.size())
    return note("copies beyond the block's memory or across a boundary");
  std::memset(block.memory.data() + to, 0xff, kCopyBytes);
  ++block.under_way[to / kCopyBytes];
  self().open.push_back({to, from, there});
}

void commit_copies() {
  self().groups.push_back(std::move(self().open));
  self().open.clear();
}

void wait_for_copies(int pending) {
  std::deque<Group>& groups = self().groups;
  for (; groups.size() > static_cast<size_t>(pending); groups.pop_front()) bring(groups.front());
}

std::function<void()> take_open_copies() {
  Group open;
  std::swap(open, self().open);
  return [open] { bring(open); };
}

void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  give({a[0], a[1], a[2], a[3], b[0], b[1]});
  const int lane = block.running % kWarp, g = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; ++i) {
    const int column = 2 * t + i % 2;
    double sum = c[i];
    for (int k = 0; k < 16; ++k) {
      const int of = k % 8 / 2, upper = k / 8;  // the lane of its four, which of its words
      const uint32_t row_word = given_by(4 * g + of)[static_cast<size_t>(i / 2 + 2 * upper)];
      const uint32_t column_word = given_by(4 * column + of)[static_cast<size_t>(4 + upper)];
      sum += static_cast<double>(half_of(row_word, k % 2)) * half_of(column_word, k % 2);
    }
    c[i] = static_cast<float>(sum);
  }
}

void mma_int8(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  give({a[0], a[1], a[2], a[3], b[0], b[1]});
  const int lane = block.running % kWarp, g = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; ++i) {
    const int column = 2 * t + i % 2;
    for (int k = 0; k < 32; ++k) {
      const int of = k % 16 / 4, upper = k / 16;
      const uint32_t row_word = given_by(4 * g + of)[static_cast<size_t>(i / 2 + 2 * upper)];
      const uint32_t column_word = given_by(4 * column + of)[static_cast<size_t>(4 + upper)];
      c[i] += static_cast<int8_t>(row_word >> 8 * (k % 4)) *
              static_cast<int8_t>(column_word >> 8 * (k % 4));
    }
  }
}

void load_matrices(const void* row, uint32_t (&to)[4]) {
  const auto address = reinterpret_cast<uint64_t>(row);
  give({static_cast<uint32_t>(address), static_cast<uint32_t>(address >> 32)});
  const int lane = block.running % kWarp, g = lane / 4, t = lane % 4;
  for (int matrix = 0; matrix < 4; ++matrix) {
    const auto& words = given_by(8 * matrix + g);
    const auto* const from =
        reinterpret_cast<const std::byte*>(words[0] | static_cast<uint64_t>(words[1]) << 32);
    const uint32_t place = place_of(from);
    if (place < kVariables) {
      read_shared(place + 4 * static_cast<uint32_t>(t), &to[matrix], 4);
    } else {
      std::memcpy(&to[matrix], from + 4 * t, 4);
    }
  }
}

void load_transposed(uint32_t row, uint32_t (&to)[4]) {
  give({row});
  const int lane = block.running % kWarp, g = lane / 4, t = lane % 4;
  for (int matrix = 0; matrix < 4; ++matrix) {
    uint16_t pair[2];
    for (int i = 0; i < 2; ++i)
      read_shared(given_by(8 * matrix + 2 * t + i)[0] + 2 * static_cast<uint32_t>(g), &pair[i], 2);
    to[matrix] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
  }
}

}  // namespace narrow::emulation
