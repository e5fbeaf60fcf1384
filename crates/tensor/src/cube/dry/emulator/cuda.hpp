// CUDA C++ as CubeCL writes it, for a host compiler: qualifiers, half types, warp functions and matrix fragments.
//
// Each thread of a cube is a fiber (grid.hpp). A collective operation publishes the address of its operands, waits for the warp,
// reads what the other lanes published, and waits again: a kernel that calls it from a part of a warp stops with a message.
#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <ucontext.h>
#include <utility>

using std::abs; using std::ceil; using std::erf; using std::exp; using std::floor; using std::fma; using std::isinf;
using std::isnan; using std::log; using std::pow; using std::round; using std::sqrt; using std::tanh; using std::trunc;
template <class T> static T min(T a, T b) { return b < a ? b : a; }
template <class T> static T max(T a, T b) { return a < b ? b : a; }
static float rsqrt(float x) { return 1.0f / std::sqrt(x); }

#define __global__
#define __device__
#define __forceinline__
#define __shared__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct uint3 { unsigned x, y, z; };
static uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
static uint3 threadIdx, blockIdx, blockDim, gridDim;
// Kernels declare it again, as external.
alignas(256) unsigned char dynamic_shared_mem[256 * 1024];

// --- what grid.hpp knows of the running thread ---

enum State { READY, AT_CUBE_BARRIER, AT_WARP_BARRIER, DONE };
static unsigned current;
static void wait_at(State barrier);
static inline void __syncthreads() { wait_at(AT_CUBE_BARRIER); }
static inline void __syncwarp() { wait_at(AT_WARP_BARRIER); }

static const unsigned WARP = 32;
static const int warpSize = WARP;
// What each thread shows to its warp during a collective operation.
static const void *shown[1024][2];

template <class T> static T of_lane(T value, unsigned lane) {
  shown[current][0] = &value;
  __syncwarp();
  T theirs = *static_cast<const T *>(shown[current / WARP * WARP + lane % WARP][0]);
  __syncwarp();
  return theirs;
}
template <class T> static T __shfl_sync(unsigned, T v, unsigned lane) { return of_lane(v, lane); }
template <class T> static T __shfl_xor_sync(unsigned, T v, unsigned mask) { return of_lane(v, current % WARP ^ mask); }

// --- half types: storage, and conversions that round to nearest, ties to even ---

static inline uint32_t bits_of(float f) { uint32_t b; memcpy(&b, &f, 4); return b; }
static inline float float_of(uint32_t b) { float f; memcpy(&f, &b, 4); return f; }

struct __half {
  uint16_t bits;
  __half() = default;
  __half(float f) {
    const uint32_t b = bits_of(f), sign = b >> 16 & 0x8000, magnitude = b & 0x7fffffff;
    if (magnitude > 0x7f800000) { bits = sign | 0x7e00; return; }
    // 65520 is halfway from the largest half to the next power of two.
    if (magnitude >= 0x477ff000) { bits = sign | 0x7c00; return; }
    if (magnitude < 0x38800000) {
      // Below 2^-14 halves are multiples of 2^-24, which is the last place of 0.5.
      bits = sign | (bits_of(float_of(magnitude) + 0.5f) - 0x3f000000);
      return;
    }
    bits = sign | (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13;
  }
  operator float() const {
    const uint32_t sign = uint32_t(bits & 0x8000) << 16, magnitude = bits & 0x7fff;
    if (magnitude >= 0x7c00) return float_of(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
    const float value = magnitude < 0x400 ? magnitude * 0x1p-24f : float_of((magnitude << 13) + 0x38000000);
    return float_of(sign | bits_of(value));
  }
};

struct __nv_bfloat16 {
  uint16_t bits;
  __nv_bfloat16() = default;
  __nv_bfloat16(float f) {
    const uint32_t b = bits_of(f);
    bits = (b & 0x7fffffff) > 0x7f800000 ? (b >> 16) | 0x40 : (b + 0x7fff + (b >> 16 & 1)) >> 16;
  }
  operator float() const { return float_of(uint32_t(bits) << 16); }
};

struct __half2 { __half x, y; };
struct __nv_bfloat162 { __nv_bfloat16 x, y; };

// --- matrix fragments: lane l holds the elements from l·size/32 on, in rows ---

namespace nvcuda { namespace wmma {
struct matrix_a; struct matrix_b; struct accumulator; struct row_major; struct col_major;
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int M, int N, int K> struct Extent;
template <int M, int N, int K> struct Extent<matrix_a, M, N, K> { static const int rows = M, columns = K; };
template <int M, int N, int K> struct Extent<matrix_b, M, N, K> { static const int rows = K, columns = N; };
template <int M, int N, int K> struct Extent<accumulator, M, N, K> { static const int rows = M, columns = N; };

template <class Use, int M, int N, int K, class T, class Layout = void> struct fragment {
  static const int rows = Extent<Use, M, N, K>::rows, columns = Extent<Use, M, N, K>::columns;
  static const int num_elements = rows * columns / int(WARP);
  T x[num_elements];
};

template <class F, class T> static void fill_fragment(F &f, T value) { for (auto &x : f.x) x = value; }

// Offset of an element of this lane in memory.
template <class F> static long place(int element, unsigned stride, bool columns_first) {
  const int at = int(current % WARP) * F::num_elements + element, row = at / F::columns, column = at % F::columns;
  return columns_first ? long(column) * stride + row : long(row) * stride + column;
}
// The hardware wants fragments that begin at 32 bytes, and rows at 16.
template <class T> static void check_alignment(const T *memory, unsigned stride) {
  if (uintptr_t(memory) % 32 != 0 || stride * sizeof(T) % 16 != 0) abort();
}
template <class F, class T> static void load(F &f, const T *memory, unsigned stride, bool columns_first) {
  check_alignment(memory, stride);
  for (int i = 0; i < F::num_elements; i++) f.x[i] = memory[place<F>(i, stride, columns_first)];
  __syncwarp();
}
template <class U, int M, int N, int K, class T, class L>
static void load_matrix_sync(fragment<U, M, N, K, T, L> &f, const T *memory, unsigned stride) {
  load(f, memory, stride, std::is_same<L, col_major>::value);
}
template <int M, int N, int K, class T>
static void load_matrix_sync(fragment<accumulator, M, N, K, T> &f, const T *memory, unsigned stride, layout_t layout) {
  load(f, memory, stride, layout == mem_col_major);
}
template <class F, class T> static void store_matrix_sync(T *memory, const F &f, unsigned stride, layout_t layout) {
  check_alignment(memory, stride);
  for (int i = 0; i < F::num_elements; i++) memory[place<F>(i, stride, layout == mem_col_major)] = f.x[i];
  __syncwarp();
}

// Element of a fragment that the warp holds together.
template <class F> static float element(int operand, int row, int column) {
  const int at = row * F::columns + column;
  const unsigned thread = current / WARP * WARP + at / F::num_elements;
  return static_cast<const F *>(shown[thread][operand])->x[at % F::num_elements];
}
template <class D, class A, class B, class C> static void mma_sync(D &d, const A &a, const B &b, const C &c) {
  shown[current][0] = &a;
  shown[current][1] = &b;
  __syncwarp();
  D sum;
  for (int i = 0; i < D::num_elements; i++) {
    const int at = int(current % WARP) * D::num_elements + i;
    float s = c.x[i];
    for (int k = 0; k < A::columns; k++) s += element<A>(0, at / D::columns, k) * element<B>(1, k, at % D::columns);
    sum.x[i] = s;
  }
  __syncwarp();
  d = sum;
}
} }
