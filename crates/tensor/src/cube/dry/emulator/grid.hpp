// Runs a grid: cube after cube, each thread of a cube a fiber that runs to its next barrier.
//
// A missing barrier shows: the threads of every other cube run in reverse order, so that what should have waited reads old values in
// one of the two, and shared memory begins as NaN.

static jmp_buf scheduler;
static jmp_buf *threads;
static bool *begun;
static unsigned char *state, *stacks;
static void **arguments;
static const size_t STACK = 128 * 1024;

template <class T> struct Argument { static T of(void *p) { return *static_cast<T *>(p); } };
template <class T> struct Argument<T *> { static T *of(void *p) { return static_cast<T *>(p); } };
template <class... P, size_t... I> static void apply(void (*kernel)(P...), void **a, std::index_sequence<I...>) {
  kernel(Argument<P>::of(a[I])...);
}
template <class... P> static void apply(void (*kernel)(P...), void **a) { apply(kernel, a, std::index_sequence_for<P...>()); }

__attribute__((noinline)) static void wait_at(State barrier) {
  state[current] = barrier;
  if (!_setjmp(threads[current])) _longjmp(scheduler, 1);
}

static void thread() {
  for (;;) {
    apply(ENTRY, arguments);
    wait_at(DONE);
  }
}

__attribute__((noinline)) static void resume(unsigned t) {
  current = t;
  threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
  state[t] = READY;
  if (_setjmp(scheduler)) return;
  if (begun[t]) _longjmp(threads[t], 1);
  begun[t] = true;
  ucontext_t fresh;
  getcontext(&fresh);
  fresh.uc_stack.ss_sp = stacks + STACK * t;
  fresh.uc_stack.ss_size = STACK;
  fresh.uc_link = nullptr;
  makecontext(&fresh, thread, 0);
  setcontext(&fresh);
}

// Lets the threads that wait pass: a warp whose threads all wait for it, else the whole cube. False if some wait in vain.
static bool release(unsigned n) {
  bool passed = false;
  unsigned at_cube = 0;
  for (unsigned first = 0; first < n; first += WARP) {
    unsigned at_warp = 0, size = min(WARP, n - first);
    for (unsigned t = first; t < first + size; t++) {
      at_warp += state[t] == AT_WARP_BARRIER;
      at_cube += state[t] == AT_CUBE_BARRIER;
    }
    if (at_warp == size) {
      memset(state + first, READY, size);
      passed = true;
    }
  }
  if (passed || at_cube < n) return passed;
  memset(state, READY, n);
  return true;
}

// One cube: 0, or 1 where threads waited at a barrier that others never reached.
static int run_cube(unsigned n, bool backwards) {
  memset(state, READY, n);
  for (;;) {
    unsigned done = 0;
    for (unsigned i = 0; i < n; i++) {
      const unsigned t = backwards ? n - 1 - i : i;
      if (state[t] == READY) resume(t);
      done += state[t] == DONE;
    }
    if (done == n) return 0;
    if (!release(n)) return 1;
  }
}

extern "C" int emulated_launch(void **a, const unsigned *grid, const unsigned *block, size_t shared) {
  const unsigned n = block[0] * block[1] * block[2];
  arguments = a;
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {block[0], block[1], block[2]};
  threads = new jmp_buf[n];
  begun = new bool[n]();
  state = new unsigned char[n];
  stacks = static_cast<unsigned char *>(malloc(STACK * n));
  int fault = 0;
  unsigned cube = 0;
  for (unsigned z = 0; z < grid[2]; z++)
    for (unsigned y = 0; y < grid[1]; y++)
      for (unsigned x = 0; x < grid[0] && !fault; x++) {
        blockIdx = {x, y, z};
        memset(dynamic_shared_mem, 0xff, shared);
        fault = run_cube(n, cube++ % 2 == 1);
      }
  free(stacks);
  delete[] threads;
  delete[] begun;
  delete[] state;
  return fault;
}
