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
static inline __half2 operator*(__half2 a, __half2 b) { return {a.x * b.x, a.y * b.y}; }
static inline __nv_bfloat162 operator*(__nv_bfloat162 a, __nv_bfloat162 b) { return {a.x * b.x, a.y * b.y}; }

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

// --- registers of matrices, in the lanes where the hardware has them (PTX: ldmatrix and mma.m16n8k16) ---

// Lane l's register of the n-th 8×8 matrix, whose rows lie where lanes 8n to 8n + 7 say: two neighbours of row l / 4, or, transposed, of column l / 4.
static void ldmatrix(uint32_t **registers, int count, const void *row, bool transposed) {
  if (uintptr_t(row) % 16 != 0) abort();
  shown[current][0] = row;
  __syncwarp();
  const unsigned first = current / WARP * WARP, lane = current % WARP;
  for (int n = 0; n < count; n++) {
    uint16_t pair[2];
    for (unsigned i = 0; i < 2; i++) {
      const unsigned r = transposed ? lane % 4 * 2 + i : lane / 4, c = transposed ? lane / 4 : lane % 4 * 2 + i;
      pair[i] = static_cast<const uint16_t *>(shown[first + 8 * n + r][0])[c];
    }
    memcpy(registers[n], pair, 4);
  }
  __syncwarp();
}

struct Operands { uint32_t a[4], b[2]; };

template <class T> static float half_of(const uint32_t &pair, int i) {
  T halves[2];
  memcpy(halves, &pair, 4);
  return halves[i];
}

template <class T> static void mma(const Operands &own, const float *c, float **d) {
  shown[current][0] = &own;
  __syncwarp();
  const unsigned first = current / WARP * WARP, lane = current % WARP;
  float sums[4];
  for (int i = 0; i < 4; i++) {
    const unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    float s = c[i];
    for (unsigned k = 0; k < 16; k++) {
      const unsigned quarter = k % 8 / 2;
      const auto *a = static_cast<const Operands *>(shown[first + row % 8 * 4 + quarter][0]);
      const auto *b = static_cast<const Operands *>(shown[first + column * 4 + quarter][0]);
      s += half_of<T>(a->a[row / 8 + k / 8 * 2], k % 2) * half_of<T>(b->b[k / 8], k % 2);
    }
    sums[i] = s;
  }
  __syncwarp();
  for (int i = 0; i < 4; i++) *d[i] = sums[i];
}

// The functions that the kernels call, whose bodies of inline PTX are left out.
#define MATRIX_INSTRUCTIONS(T)                                                                                               \
  static void __ldmatrix_m8n8_##T##_4x(uint32_t &a, uint32_t &b, uint32_t &c, uint32_t &d, const void *row) {                \
    uint32_t *registers[] = {&a, &b, &c, &d};                                                                                \
    ldmatrix(registers, 4, row, false);                                                                                      \
  }                                                                                                                          \
  static void __ldmatrix_m8n8_##T##_4x_trans(uint32_t &a, uint32_t &b, uint32_t &c, uint32_t &d, const void *row) {          \
    uint32_t *registers[] = {&a, &b, &c, &d};                                                                                \
    ldmatrix(registers, 4, row, true);                                                                                       \
  }                                                                                                                          \
  static void __mma_m16n8k16_##T##_##T##_float(const uint32_t &a0, const uint32_t &a1, const uint32_t &a2,                   \
      const uint32_t &a3, const uint32_t &b0, const uint32_t &b1, const float &c0, const float &c1, const float &c2,         \
      const float &c3, float &d0, float &d1, float &d2, float &d3) {                                                         \
    const Operands own = {{a0, a1, a2, a3}, {b0, b1}};                                                                       \
    const float c[] = {c0, c1, c2, c3};                                                                                      \
    float *d[] = {&d0, &d1, &d2, &d3};                                                                                       \
    mma<T>(own, c, d);                                                                                                       \
  }
MATRIX_INSTRUCTIONS(__half)
MATRIX_INSTRUCTIONS(__nv_bfloat16)
