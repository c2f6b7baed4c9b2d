#pragma once
#include <algorithm>
#include <array>
#include <barrier>
#include <chrono>
#include <map>
#include <memory>
#include <string_view>
#include <thread>
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#include "gatefold/simd/simd.hpp"
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

/// What the machine can do at most, measured in the process whose rows are divided by it.
namespace gatefold::bench {

/// Arithmetic in operations, memory in bytes.
enum class Limit { fma, dot_bf16, dot_int8, amx_bf16, amx_int8, l2, dram };

inline std::string_view name(Limit limit) {
  constexpr std::array<std::string_view, 7> kNames{"FMA",      "BF16 dot", "INT8 dot", "AMX BF16",
                                                   "AMX INT8", "L2 read",  "DRAM read"};
  return kNames[static_cast<std::size_t>(limit)];
}
inline bool is_bandwidth(Limit limit) { return limit >= Limit::l2; }

namespace detail {

/// Keeps the compiler from dropping a result or from knowing what memory holds.
inline void touch(const void* p) { asm volatile("" ::"r"(p) : "memory"); }

inline constexpr Index kTileDepth = 128;  // with 14 rows 7 KiB of a and 16 KiB of b: any L1

/// Operands of a register tile, in L1.
struct alignas(64) TileData {
  std::array<float, 14 * kTileDepth> a{};
  std::array<float, 32 * kTileDepth> b{};
  std::array<float, 14 * 32> c{};
};

#if GATEFOLD_HAS_SIMD
/// A 14 x 2 (6 x 2 with 16 registers) tile of the vector unit, the inner loop of every product here: one broadcast and
/// two multiply-adds for each row and step, two loads of b a step. Registers alone may run at a higher clock, but no
/// product does.
inline double run_fma(TileData& d, Index repeats) {
  using V = kernels::simd::Batch<float>;
  constexpr int kWidth = static_cast<int>(V::size);
  constexpr int kRows = kernels::simd::kRegisters<kernels::simd::DefaultArch> == 32 ? 14 : 6;
  for (Index r = 0; r < repeats; ++r) {
    V acc[kRows][2];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) acc[i][0] = acc[i][1] = V(0.0f);
    const float* b = d.b.data();
    for (Index k = 0; k < kTileDepth; ++k, b += 2 * kWidth) {
      const V b0 = V::load_aligned(b), b1 = V::load_aligned(b + kWidth);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const V x(d.a[static_cast<std::size_t>(i * kTileDepth + k)]);
        acc[i][0] = kernels::simd::fma(x, b0, acc[i][0]);
        acc[i][1] = kernels::simd::fma(x, b1, acc[i][1]);
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      acc[i][0].store_aligned(d.c.data() + 2 * i * kWidth);
      acc[i][1].store_aligned(d.c.data() + (2 * i + 1) * kWidth);
    }
    touch(&d);
  }
  return 2.0 * kRows * 2 * kWidth * static_cast<double>(kTileDepth) * static_cast<double>(repeats);
}

/// Reads 64-byte lines, eight streams of vectors, no arithmetic worth the name.
inline double run_read(const float* p, Index floats, Index repeats) {
  using V = kernels::simd::Batch<float>;
  constexpr Index kWidth = static_cast<Index>(V::size);
  for (Index r = 0; r < repeats; ++r) {
    V sum[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) sum[i] = V(0.0f);
    for (Index at = 0; at + 8 * kWidth <= floats; at += 8 * kWidth)
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) sum[i] = sum[i] + V::load_aligned(p + at + i * kWidth);
#pragma GCC unroll 8
    for (int i = 1; i < 8; ++i) sum[0] = sum[0] + sum[i];
    alignas(64) float out[static_cast<std::size_t>(kWidth)];
    sum[0].store_aligned(out);
    touch(out);
  }
  return 4.0 * static_cast<double>(floats) * static_cast<double>(repeats);
}
#else
inline double run_fma(TileData& d, Index repeats) {
  for (Index r = 0; r < repeats; ++r) {
    for (std::size_t i = 0; i < 8; ++i)
      for (std::size_t k = 0; k < kTileDepth; ++k)
        for (std::size_t j = 0; j < 32; ++j) d.c[i * 32 + j] += d.a[i * kTileDepth + k] * d.b[k * 32 + j];
    touch(&d);
  }
  return 2.0 * 8 * 32 * static_cast<double>(kTileDepth) * static_cast<double>(repeats);
}
inline double run_read(const float* p, Index floats, Index repeats) {
  for (Index r = 0; r < repeats; ++r) {
    float sum[16] = {};
    for (Index at = 0; at + 16 <= floats; at += 16)
      for (Index i = 0; i < 16; ++i) sum[i] += p[at + i];
    touch(sum);
  }
  return 4.0 * static_cast<double>(floats) * static_cast<double>(repeats);
}
#endif

#if defined(__x86_64__)
struct CpuLeaf7 {
  unsigned ecx = 0, edx = 0, next_eax = 0;
  bool zmm = false;  // the system saves 512-bit registers
  CpuLeaf7() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
      ecx = c, edx = d;
      zmm = __builtin_cpu_supports("avx512f");
    }
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) next_eax = a;
  }
};
inline bool has_dot_bf16(const CpuLeaf7& cpu) { return cpu.zmm && (cpu.next_eax >> 5 & 1); }
inline bool has_dot_int8(const CpuLeaf7& cpu) { return cpu.zmm && (cpu.ecx >> 11 & 1); }

/// AMX in the CPU, and Linux has granted the tile registers to this process.
inline bool has_amx([[maybe_unused]] const CpuLeaf7& cpu) {
#if defined(__linux__)
  const bool there = (cpu.edx >> 22 & 1) && (cpu.edx >> 24 & 1) && (cpu.edx >> 25 & 1);
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return there && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
/// The tile of run_fma on dot instructions: each lane takes two bf16 or four int8 of each operand.
[[gnu::target("avx512f,avx512bf16")]] inline double run_dot_bf16(TileData& d, Index repeats) {
  for (Index r = 0; r < repeats; ++r) {
    __m512 acc[14][2];
#pragma GCC unroll 16
    for (int i = 0; i < 14; ++i) acc[i][0] = acc[i][1] = _mm512_setzero_ps();
    const float* b = d.b.data();
    for (Index k = 0; k < kTileDepth; ++k, b += 32) {
      const auto b0 = (__m512bh)_mm512_load_ps(b), b1 = (__m512bh)_mm512_load_ps(b + 16);
#pragma GCC unroll 16
      for (int i = 0; i < 14; ++i) {
        const auto x = (__m512bh)_mm512_set1_ps(d.a[static_cast<std::size_t>(i * kTileDepth + k)]);
        acc[i][0] = _mm512_dpbf16_ps(acc[i][0], x, b0);
        acc[i][1] = _mm512_dpbf16_ps(acc[i][1], x, b1);
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < 14; ++i) {
      _mm512_store_ps(d.c.data() + 32 * i, acc[i][0]);
      _mm512_store_ps(d.c.data() + 32 * i + 16, acc[i][1]);
    }
    touch(&d);
  }
  return 2.0 * 14 * 64 * static_cast<double>(kTileDepth) * static_cast<double>(repeats);
}
[[gnu::target("avx512f,avx512vnni")]] inline double run_dot_int8(TileData& d, Index repeats) {
  for (Index r = 0; r < repeats; ++r) {
    __m512i acc[14][2];
#pragma GCC unroll 16
    for (int i = 0; i < 14; ++i) acc[i][0] = acc[i][1] = _mm512_setzero_si512();
    const float* b = d.b.data();
    for (Index k = 0; k < kTileDepth; ++k, b += 32) {
      const __m512i b0 = _mm512_load_si512(b), b1 = _mm512_load_si512(b + 16);
#pragma GCC unroll 16
      for (int i = 0; i < 14; ++i) {
        const __m512i x = _mm512_castps_si512(_mm512_set1_ps(d.a[static_cast<std::size_t>(i * kTileDepth + k)]));
        // As the intrinsic, of which g++ 12 would keep half the accumulators in memory.
        asm("vpdpbusd %2, %1, %0" : "+v"(acc[i][0]) : "v"(x), "v"(b0));
        asm("vpdpbusd %2, %1, %0" : "+v"(acc[i][1]) : "v"(x), "v"(b1));
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < 14; ++i) {
      _mm512_store_si512(d.c.data() + 32 * i, acc[i][0]);
      _mm512_store_si512(d.c.data() + 32 * i + 16, acc[i][1]);
    }
    touch(&d);
  }
  return 2.0 * 14 * 128 * static_cast<double>(kTileDepth) * static_cast<double>(repeats);
}
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#if defined(__linux__)
struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
/// Eight full tiles: four accumulators 0..3, two of a 4..5, two of b 6..7. Registers only: the peak that shares of AMX
/// are quoted of.
[[gnu::target("amx-tile")]] inline void load_tiles(const TileData& d) {
  const TileConfig config;
  touch(&config);  // g++ 12 knows only the first 8 bytes as read and would drop the other stores
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, d.b.data(), 64);
  _tile_loadd(5, d.b.data() + 256, 64);
  _tile_loadd(6, d.b.data() + 512, 64);
  _tile_loadd(7, d.b.data() + 768, 64);
}
[[gnu::target("amx-tile,amx-bf16")]] inline double run_amx_bf16(TileData& d, Index repeats) {
  load_tiles(d);
  for (Index r = 0; r < repeats; ++r)
    for (int k = 0; k < 32; ++k) {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  _tile_release();
  return 2.0 * 32 * 4 * 16 * 16 * 32 * static_cast<double>(repeats);
}
[[gnu::target("amx-tile,amx-int8")]] inline double run_amx_int8(TileData& d, Index repeats) {
  load_tiles(d);
  for (Index r = 0; r < repeats; ++r)
    for (int k = 0; k < 32; ++k) {
      _tile_dpbssd(0, 4, 6);
      _tile_dpbssd(1, 4, 7);
      _tile_dpbssd(2, 5, 6);
      _tile_dpbssd(3, 5, 7);
    }
  _tile_release();
  return 2.0 * 32 * 4 * 16 * 16 * 64 * static_cast<double>(repeats);
}
#endif
#endif

/// Memory in large pages where the system has them: small ones cost up to a fifth of the bandwidth.
class LargePages {
 public:
  explicit LargePages(std::size_t bytes)
      : size_((bytes + kPage - 1) / kPage * kPage),
        memory_(static_cast<float*>(::operator new (size_, std::align_val_t{kPage}))) {
#if defined(__linux__)
    madvise(memory_, size_, MADV_HUGEPAGE);
#endif
    std::fill_n(memory_, size_ / sizeof(float), 0.0f);
  }
  ~LargePages() { ::operator delete (memory_, std::align_val_t{kPage}); }
  LargePages(const LargePages&) = delete;
  LargePages& operator=(const LargePages&) = delete;
  const float* data() const { return memory_; }
  std::size_t bytes() const { return size_; }

 private:
  static constexpr std::size_t kPage = std::size_t{1} << 21;
  std::size_t size_;
  float* memory_;
};

inline std::size_t cache_bytes([[maybe_unused]] int level, std::size_t otherwise) {
#if defined(_SC_LEVEL2_CACHE_SIZE)
  const long bytes = sysconf(level == 2 ? _SC_LEVEL2_CACHE_SIZE : _SC_LEVEL3_CACHE_SIZE);
  if (bytes > 0) return static_cast<std::size_t>(bytes);
#endif
  return otherwise;
}

}  // namespace detail

/// The best rate seen so far of each limit and number of threads. A machine that others share is slower at times, never
/// faster, so every probe may only raise it.
class Ceilings {
 public:
  Ceilings() {
#if defined(__x86_64__)
    const detail::CpuLeaf7 cpu;
    has_[Limit::dot_bf16] = detail::has_dot_bf16(cpu);
    has_[Limit::dot_int8] = detail::has_dot_int8(cpu);
    has_[Limit::amx_bf16] = has_[Limit::amx_int8] = detail::has_amx(cpu);
#endif
    has_[Limit::fma] = has_[Limit::l2] = has_[Limit::dram] = true;
  }

  bool has(Limit limit) const {
    const auto at = has_.find(limit);
    return at != has_.end() && at->second;
  }

  /// Operations or bytes a second of `threads` threads together.
  double rate(Limit limit, Index threads) {
    auto& best = best_[{limit, threads}];
    if (best == 0)
      for (int i = 0; i < first_probes; ++i) probe(limit, threads);
    return best;
  }

  /// Looks again, some milliseconds long.
  void probe(Limit limit, Index threads) {
    auto& best = best_[{limit, threads}];
    best = std::max(best, measure(limit, threads));
  }

  int first_probes = 10;

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr double kSeconds = 8e-3;  // of one probe: as long as a call that it is to judge, not a lucky moment

  /// Work of `repeats` turns on one thread.
  double run(Limit limit, Index thread, Index threads, Index repeats) {
    auto& data = *tiles_.at(static_cast<std::size_t>(thread));
    switch (limit) {
      case Limit::fma:
        return detail::run_fma(data, 32 * repeats);
#if defined(__x86_64__)
      case Limit::dot_bf16:
        return detail::run_dot_bf16(data, 32 * repeats);
      case Limit::dot_int8:
        return detail::run_dot_int8(data, 32 * repeats);
#if defined(__linux__)
      case Limit::amx_bf16:
        return detail::run_amx_bf16(data, 32 * repeats);
      case Limit::amx_int8:
        return detail::run_amx_int8(data, 32 * repeats);
#endif
#endif
      default:
        break;
    }
    // Half of the L2 per thread, or everything once: each thread has its own part.
    const std::size_t all = memory_->bytes() / sizeof(float);
    const std::size_t part = all / static_cast<std::size_t>(threads) / 1024 * 1024;
    const float* const own = memory_->data() + part * static_cast<std::size_t>(thread);
    if (limit == Limit::dram) return detail::run_read(own, static_cast<Index>(part), 1);
    const std::size_t l2 = std::min(part, detail::cache_bytes(2, std::size_t{1} << 20) / 2 / sizeof(float));
    return detail::run_read(own, static_cast<Index>(l2), repeats);
  }

  double measure(Limit limit, Index threads) {
    // Threads of a library spin on for some 25 ms after its last work, on cores that the probe needs.
    if (threads > 1 && first_probes > 1) std::this_thread::sleep_for(std::chrono::milliseconds(30));
    while (std::ssize(tiles_) < threads) tiles_.push_back(std::make_unique<detail::TileData>());
    // Four times the last cache leaves at most a quarter of the reads to it.
    if (is_bandwidth(limit) && !memory_)
      memory_ = std::make_unique<detail::LargePages>(
          std::max(std::size_t{1} << 28, 4 * detail::cache_bytes(3, std::size_t{1} << 26)));
    auto& repeats = repeats_[limit];
    if (repeats == 0) {
      for (repeats = 1; limit != Limit::dram; repeats *= 2) {
        const auto start = Clock::now();
        run(limit, 0, 1, repeats);
        if (std::chrono::duration<double>(Clock::now() - start).count() > 0.7 * kSeconds) break;
      }
    }
    std::vector<double> work(static_cast<std::size_t>(threads));
    std::vector<Clock::time_point> begin(work.size()), end(work.size());
    std::barrier start(threads);
    const auto body = [&](Index thread) {
      const auto at = static_cast<std::size_t>(thread);
      start.arrive_and_wait();
      if (limit != Limit::dram) run(limit, thread, threads, repeats / 8 + 1);  // wakes the vector unit, fills the cache
      begin[at] = Clock::now();
      work[at] = run(limit, thread, threads, repeats);
      end[at] = Clock::now();
    };
    {
      std::vector<std::jthread> others;
      for (Index thread = 1; thread < threads; ++thread) others.emplace_back(body, thread);
      body(0);
    }
    double sum = 0;
    for (const double w : work) sum += w;
    const auto span = *std::max_element(end.begin(), end.end()) - *std::min_element(begin.begin(), begin.end());
    return sum / std::chrono::duration<double>(span).count();
  }

  std::map<Limit, bool> has_;
  std::map<std::pair<Limit, Index>, double> best_;
  std::map<Limit, Index> repeats_;
  std::vector<std::unique_ptr<detail::TileData>> tiles_;
  std::unique_ptr<detail::LargePages> memory_;
};

}  // namespace gatefold::bench
