#include "emulation/tiles.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <functional>
#include <random>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "emulation/block.h"
#include "ops/cuda/error.h"
#include "tensor/dtype.h"

namespace narrow::emulation {
namespace {

constexpr int kWarp = 32, kWarpgroup = 128, kAtomBytes = 128, kProductBytes = 32, kRows = 64;

struct Phases {
  int64_t arrivals = 0, missing = 0, bytes = 0;  // of the phase at hand
  uint32_t phase = 0;
  void end_if_complete() {
    if (missing > 0 || bytes != 0) return;
    ++phase;
    missing = arrivals;
    go_on();
  }
};

struct Box {
  CUtensorMap map;
  std::array<int, 5> at;
  uint32_t shared;   // address
  uint32_t barrier;  // of a copy to shared memory
  bool adds;         // of one from there
  int64_t elements() const {
    int64_t count = 1;
    for (int d = 0; d < map.dimensions; ++d) count *= map.box[d];
    return count;
  }
};

struct Product {
  Factor factor;
  int columns;
  uint32_t a, b;
  bool in_registers;       // A is
  uint32_t column_stride;  // not 0: rows of B stand along k
  bool adds;
  bool overlap = false;  // rows of B, as multiply_row_e4m3() has them
  std::array<void*, kWarpgroup> sums{};
  std::array<std::array<uint32_t, 4>, kWarpgroup> registers{};
  int asked = 0;  // threads that have come to it
  bool may_be_made = false;
  bool is_like(const Product& other) const {
    return factor == other.factor && columns == other.columns && a == other.a && b == other.b &&
           in_registers == other.in_registers && column_stride == other.column_stride &&
           adds == other.adds && overlap == other.overlap;
  }
};

struct Warpgroup {
  std::deque<Product> products;
  int64_t made = 0;  // so many are no longer among them
};

struct Thread {
  std::vector<Box> open;  // copies out
  std::deque<std::vector<Box>> groups;
  int64_t asked = 0;            // products
  std::deque<int64_t> commits;  // how many were asked for
};

struct State {
  std::unordered_map<uint32_t, Phases> barriers;
  std::vector<std::function<void()>> late;  // what may come now or later
  std::array<Warpgroup, 8> warpgroups;
  std::array<Thread, 1024> threads;
};
thread_local State state;
std::minstd_rand draw(1);

Thread& self() { return state.threads[static_cast<size_t>(thread_index.x)]; }

Phases& barrier_at(uint32_t address) {
  const auto found = state.barriers.find(address);
  if (found != state.barriers.end()) return found->second;
  note("a barrier that has not been made");
  return state.barriers[address];
}

// The swizzles exchange units of 16 bytes in 32, 64 or 128 by the bits of an address from 7 on.
uint32_t swizzled(uint32_t address, int bytes) {
  return address ^ ((address >> 7 & static_cast<uint32_t>(bytes / 16 - 1)) << 4);
}

// function(shared, global): of each element of the box; null where there is none in the matrix.
template <class Function>
void for_each_element(const Box& box, Function function) {
  const CUtensorMap& map = box.map;
  const int64_t count = box.elements();
  const auto size = static_cast<uint32_t>(map.element_bytes);
  if (box.shared + static_cast<size_t>(count) * size > block_memory_bytes())
    return note("copies beyond the block's memory");
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = i, offset = 0;
    bool there = true;
    for (int d = 0; d < map.dimensions; ++d) {
      const int64_t c = box.at[static_cast<size_t>(d)] + rest % map.box[d];
      rest /= map.box[d];
      there = there && c >= 0 && c < map.sizes[d];
      offset += c * map.strides[d];
    }
    const uint32_t address = box.shared + static_cast<uint32_t>(i) * size;
    function(block_memory() + swizzled(address, map.swizzle), there ? map.data + offset : nullptr);
  }
}

void spoil(const Box& box) {
  for_each_element(box, [&](std::byte* shared, std::byte*) {
    std::memset(shared, 0xff, static_cast<size_t>(box.map.element_bytes));
  });
}

void bring(const Box& box) {
  const auto size = static_cast<size_t>(box.map.element_bytes);
  for_each_element(box, [&](std::byte* shared, std::byte* global) {
    if (global) {
      std::memcpy(shared, global, size);
    } else {
      std::memset(shared, 0, size);
    }
  });
  Phases& barrier = barrier_at(box.barrier);
  barrier.bytes -= box.elements() * box.map.element_bytes;
  barrier.end_if_complete();
}

void take_out(const Box& box) {
  for_each_element(box, [&](std::byte* shared, std::byte* global) {
    if (!global) return;
    bf16 value, before;
    std::memcpy(&value, shared, sizeof value);
    std::memcpy(&before, global, sizeof before);
    if (box.adds) value = to_bf16(to_float(before) + to_float(value));
    std::memcpy(global, &value, sizeof value);
  });
}

bool do_late() {
  std::vector<std::function<void()>>& late = state.late;
  if (late.empty()) return false;
  std::swap(late[draw() % late.size()], late.back());
  const std::function<void()> one = std::move(late.back());
  late.pop_back();
  one();
  return true;
}

// The 32 bytes of a row at a step along k as numbers. swizzle: 16, none, or kAtomBytes.
template <class T>
void read_bytes(Factor factor, uint32_t begin, int swizzle, T* to) {
  std::byte bytes[kProductBytes];
  for (uint32_t unit = 0; unit < kProductBytes; unit += 16) {
    const uint32_t from = swizzle == 16 ? begin + unit : swizzled(begin + unit, swizzle);
    if (from + 16 > block_memory_bytes()) return note("multiplies beyond the block's memory");
    std::memcpy(bytes + unit, block_memory() + from, 16);
  }
  for (int i = 0; i < kProductBytes; ++i) {
    const auto code = static_cast<uint8_t>(bytes[i]);
    if (factor == Factor::int8) to[i] = static_cast<T>(static_cast<int8_t>(code));
    if (factor == Factor::e4m3) to[i] = static_cast<T>(to_float(f8_e4m3{code}));
    if (factor == Factor::bf16 && i % 2 == 0) {
      bf16 number;
      std::memcpy(&number, bytes + i, sizeof number);
      to[i / 2] = static_cast<T>(to_float(number));
    }
  }
}

template <class T>
void read_row(Factor factor, uint32_t tile, int row, T* to) {
  read_bytes(factor,
             tile + static_cast<uint32_t>(row / 8 * (8 * kAtomBytes) + row % 8 * kAtomBytes),
             kAtomBytes, to);
}

template <class T>
using Operand = std::vector<std::array<T, kProductBytes>>;  // [row][k]

template <class T>
T bf16_at(uint32_t word, int half) {
  return static_cast<T>(to_float(bf16{static_cast<uint16_t>(half == 0 ? word : word >> 16)}));
}

template <class T>
void read_registers(const Product& product, Operand<T>& a) {
  for (int thread = 0; thread < kWarpgroup; ++thread)
    for (int word = 0; word < 4; ++word) {
      const int g = thread % kWarp / 4, t = thread % 4;
      const auto row = static_cast<size_t>(16 * (thread / kWarp) + g + 8 * (word % 2));
      const uint32_t bits =
          product.registers[static_cast<size_t>(thread)][static_cast<size_t>(word)];
      if (product.factor == Factor::e4m3) {
        for (int i = 0; i < 4; ++i)
          a[row][static_cast<size_t>(4 * t + i + 16 * (word / 2))] =
              static_cast<T>(to_float(f8_e4m3{static_cast<uint8_t>(bits >> 8 * i)}));
      } else {
        for (int half = 0; half < 2; ++half)
          a[row][static_cast<size_t>(2 * t + half + 8 * (word / 2))] = bf16_at<T>(bits, half);
      }
    }
}

template <class T>
void read_transposed(const Product& product, Operand<T>& b) {
  for (int n = 0; n < product.columns; ++n)
    for (int k = 0; k < kProductBytes / 2; ++k) {
      const uint32_t at = product.b + static_cast<uint32_t>(n / 64) * product.column_stride +
                          static_cast<uint32_t>(k * kAtomBytes + n % 64 * 2);
      uint16_t bits = 0;
      if (swizzled(at, kAtomBytes) + 2 > block_memory_bytes())
        return note("multiplies beyond the block's memory");
      std::memcpy(&bits, block_memory() + swizzled(at, kAtomBytes), 2);
      b[static_cast<size_t>(n)][static_cast<size_t>(k)] = bf16_at<T>(bits, 0);
    }
}

// T: of the sums as they are made; Sum: as they are kept.
template <class T, class Sum>
void make(const Product& product) {
  const int inputs = product.factor == Factor::bf16 ? kProductBytes / 2 : kProductBytes;
  Operand<T> a(kRows), b(static_cast<size_t>(product.columns));
  if (product.in_registers) {
    read_registers(product, a);
  } else {
    for (int row = 0; row < kRows; ++row) read_row(product.factor, product.a, row, a[row].data());
  }
  if (product.overlap) {
    for (int row = 0; row < product.columns; ++row)
      read_bytes(product.factor, product.b + static_cast<uint32_t>(16 * row), 16,
                 b[static_cast<size_t>(row)].data());
  } else if (product.column_stride != 0) {
    read_transposed(product, b);
  } else {
    for (int row = 0; row < product.columns; ++row)
      read_row(product.factor, product.b, row, b[static_cast<size_t>(row)].data());
  }
  for (int thread = 0; thread < kWarpgroup; ++thread) {
    const int warp = thread / kWarp, g = thread % kWarp / 4, t = thread % 4;
    Sum* const sums = static_cast<Sum*>(product.sums[static_cast<size_t>(thread)]);
    for (int i = 0; i < product.columns / 2; ++i) {
      const auto& row = a[static_cast<size_t>(16 * warp + g + 8 * (i / 2 % 2))];
      const auto& column = b[static_cast<size_t>(i / 4 * 8 + 2 * t + i % 2)];
      T sum = product.adds ? static_cast<T>(sums[i]) : 0;
      for (int k = 0; k < inputs; ++k)
        sum += row[static_cast<size_t>(k)] * column[static_cast<size_t>(k)];
      sums[i] = static_cast<Sum>(sum);
    }
  }
}

Warpgroup& own_warpgroup() {
  return state.warpgroups[static_cast<size_t>(thread_index.x / kWarpgroup)];
}

// The thread's next product.
void ask_for(const Product& wanted, void* sums, const std::array<uint32_t, 4>& registers) {
  Warpgroup& group = own_warpgroup();
  const auto place = static_cast<size_t>(self().asked - group.made);
  if (place == group.products.size()) group.products.push_back(wanted);
  Product& product = group.products[place];
  if (!product.is_like(wanted)) note("the threads of a warpgroup ask for different products");
  const auto thread = static_cast<size_t>(thread_index.x % kWarpgroup);
  product.sums[thread] = sums;
  product.registers[thread] = registers;
  if (++product.asked == kWarpgroup) {
    // Some of them only when no thread can go on without.
    product.may_be_made = draw() % 4 != 0;
    if (!product.may_be_made)
      state.late.push_back([&group, number = self().asked] {
        group.products[static_cast<size_t>(number - group.made)].may_be_made = true;
      });
  }
  ++self().asked;
  go_on();
}

void make_products_until(int64_t end) {
  Warpgroup& group = own_warpgroup();
  while (group.made < end) {
    wait_until([&] { return group.made >= end || group.products.front().may_be_made; });
    if (group.made >= end) return;
    const Product& product = group.products.front();
    if (product.factor == Factor::int8) {
      make<int32_t, int32_t>(product);
    } else {
      make<double, float>(product);
    }
    group.products.pop_front();
    ++group.made;
    go_on();
  }
}

void end_thread() {
  const Thread& thread = self();
  if (!thread.open.empty() || !thread.groups.empty()) note("ends before its copies out");
  if (thread.asked > 0 && own_warpgroup().made < thread.asked) note("ends before its products");
}

const bool registered = [] {
  engine = {[] { state = {}; }, do_late, end_thread};
  return true;
}();

}  // namespace

void init_barrier(uint32_t barrier, uint32_t arrivals) {
  state.barriers[barrier] = {arrivals, arrivals, 0, 0};
}

void arrive(uint32_t barrier) {
  Phases& phases = barrier_at(barrier);
  if (phases.missing == 0) note("arrives at a barrier more often than it waits for");
  --phases.missing;
  phases.end_if_complete();
}

void arrive_expecting(uint32_t barrier, uint32_t bytes) {
  barrier_at(barrier).bytes += bytes;
  arrive(barrier);
}

void arrive_after_copies(uint32_t barrier) {
  state.late.push_back([barrier, bring_copies = take_open_copies()] {
    bring_copies();
    arrive(barrier);
  });
}

void wait_at_barrier(uint32_t barrier, uint32_t parity) {
  Phases& phases = barrier_at(barrier);
  wait_until([&] { return phases.phase % 2 != parity; });
}

void copy_box(uint32_t to, const CUtensorMap& map, const int* coordinates, uint32_t barrier) {
  Box box{map, {}, to, barrier, false};
  std::copy(coordinates, coordinates + map.dimensions, box.at.begin());
  spoil(box);
  state.late.push_back([box] { bring(box); });
}

void copy_box_out(const CUtensorMap& map, bool adds, const int* coordinates, uint32_t from) {
  Box box{map, {}, from, 0, adds};
  std::copy(coordinates, coordinates + map.dimensions, box.at.begin());
  self().open.push_back(box);
}

void close_copies_out() {
  self().groups.push_back(std::move(self().open));
  self().open.clear();
}

void wait_for_copies_out(int pending) {
  std::deque<std::vector<Box>>& groups = self().groups;
  for (; groups.size() > static_cast<size_t>(pending); groups.pop_front())
    for (const Box& box : groups.front()) take_out(box);
}

void multiply(Factor factor, int columns, void* sums, uint32_t a, uint32_t b, bool adds) {
  ask_for({factor, columns, a, b, false, 0, adds}, sums, {});
}

void multiply_registers(int columns, float* sums, const uint32_t (&a)[4], uint32_t b, bool adds) {
  ask_for({Factor::bf16, columns, 0, b, true, 0, adds}, sums, {a[0], a[1], a[2], a[3]});
}

void multiply_row_e4m3(float* sums, const uint32_t (&a)[4], uint32_t b) {
  ask_for({Factor::e4m3, 8, 0, b, true, 0, true, true}, sums, {a[0], a[1], a[2], a[3]});
}

void multiply_transposed(int columns, float* sums, const uint32_t (&a)[4], uint32_t b,
                         uint32_t column_stride, bool adds) {
  ask_for({Factor::bf16, columns, 0, b, true, column_stride, adds}, sums, {a[0], a[1], a[2], a[3]});
}

void commit_products() { self().commits.push_back(self().asked); }

void wait_for_products(int pending) {
  std::deque<int64_t>& commits = self().commits;
  for (; commits.size() > static_cast<size_t>(pending); commits.pop_front())
    make_products_until(commits.front());
}

}  // namespace narrow::emulation

// --- What tensor_map.cc asks of the driver ------------------------------------------------------

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t dimensions,
                                void* data, const cuuint64_t* sizes, const cuuint64_t* strides,
                                const cuuint32_t* box, const cuuint32_t*, int,
                                CUtensorMapSwizzle swizzle, int, int) {
  *map = {};
  map->data = static_cast<std::byte*>(data);
  map->element_bytes = type;
  map->dimensions = static_cast<int>(dimensions);
  map->swizzle = swizzle;
  for (cuuint32_t d = 0; d < dimensions; ++d) {
    map->sizes[d] = static_cast<int64_t>(sizes[d]);
    map->strides[d] = d == 0 ? int64_t{type} : static_cast<int64_t>(strides[d - 1]);
    map->box[d] = static_cast<int>(box[d]);
  }
  return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned, int,
                                             cudaDriverEntryPointQueryResult*) {
  *function = reinterpret_cast<void*>(&cuTensorMapEncodeTiled);
  return cudaSuccess;
}

namespace narrow::ops::cuda {
void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw Error::failed(what);
}
}  // namespace narrow::ops::cuda
