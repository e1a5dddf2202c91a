// Runs the source of CUDA kernels on the host, where no GPU is: their source is compiled with the
// headers in cuda/ in place of NVIDIA's and of those of ours that hold instructions. A block runs
// at a time, or the blocks of a cluster, or of a launch whose blocks wait for each other: each in a
// thread of the host, which take turns when all of their own threads wait. Those are fibers, which
// take turns at barriers and at exchanges of a warp.
//
// Copies to shared memory (cp.async) come as late as they may: when their group is waited for. From
// when one is started on, what it overwrites is spoilt (NaN in every type), and read_shared() and
// load_transposed() tell who reads it. So do barriers that not all threads reach.
//
// Not like a GPU: one thread runs until it hands over, so that plain stores are seen at once; sums
// of products of matrices are in double; powers of two are those of the C library; variables that
// a kernel declares __shared__ keep what the last block left; no limit on shared memory is known.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace narrow::emulation {

struct Index {
  int x = 0, y = 0, z = 0;
};
// Of the thread that runs, of its block; sizes of the block and the grid.
inline thread_local Index thread_index, block_index, block_size, grid_size;

// thread(): what each thread does, without throwing. threads: a multiple of 32. cluster: blocks
// that run at a time, side by side along x. Throws Error::failed with the first error that a
// block's threads made.
void run_grid(Index blocks, int threads, size_t shared_bytes, const std::function<void()>& thread,
              int cluster = 1);

// What else happens in a block than what its threads do (tiles.h).
struct Engine {
  void (*begin_block)() = nullptr;
  bool (*do_late)() = nullptr;  // one thing that may come late; false: there is none
  void (*end_thread)() = nullptr;
};
inline Engine engine;

// Set by tests: called once, by the first thread that waits for the kernel in front.
inline std::function<void()> before_wait;

// --- Called by threads --------------------------------------------------------------------------

// An error of the running thread.
void note(const std::string& error);

// Lets others run until done(); notes an error when none of them goes on, nor the engine.
void wait_until(const std::function<bool()>& done);
// Of a thread that asks again and again for what those of other blocks tell: lets others run.
void ask_again();
void tell();
// Something happened that others may wait for.
void go_on();

void sync_block();
// The same of `threads` threads that name the same barrier.
void sync_named(int barrier, int threads);
void leave_named(int barrier, int threads);  // counted, without waiting
void sync_warp();
// Of all threads of the cluster's blocks.
void sync_cluster();
// The value that lane `lane` of the warp gives.
uint32_t exchange(uint32_t value, int lane);
// The same among the lanes of a mask. (Behind it exchanges of the whole warp are no longer right
// where some of its lanes have had fewer.)
uint32_t exchange_among(uint32_t lanes, uint32_t value, int lane);
bool is_true_in_warp(bool value);  // in all lanes

// Shared memory that the launch gives. Addresses count from its beginning.
std::byte* block_memory();
size_t block_memory_bytes();
// Where something lies in it, or among the variables that a kernel declares __shared__: a place,
// below 2^kPlaceBits.
uint32_t place_of(const void* local);
inline constexpr int kPlaceBits = 28;
// Stores to a place of the cluster's block of this rank.
void store_in_block(int rank, uint32_t place, const void* from, int bytes);
void read_shared(uint32_t at, void* to, int bytes);

// 16 bytes, or as many zeros; of the thread's open group.
void start_copy(uint32_t to, const void* from, bool there);
// The thread's open group, which is no longer that: who calls what this returns brings it.
std::function<void()> take_open_copies();
void commit_copies();
// Until at most `pending` of the thread's latest groups are under way.
void wait_for_copies(int pending);

// mma m16n8k16 and m16n8k32, ldmatrix.x4 and ldmatrix.x4.trans, as device.cuh has them.
void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void mma_int8(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void load_matrices(const void* row, uint32_t (&to)[4]);
void load_transposed(uint32_t row, uint32_t (&to)[4]);

}  // namespace narrow::emulation
