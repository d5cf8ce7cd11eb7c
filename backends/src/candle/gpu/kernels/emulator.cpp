// Runs kernels on the host: threads of a block are contexts with stacks of their own, which
// take turns at every barrier.
#include "emulator.h"

#include <memory>
#include <setjmp.h>
#include <ucontext.h>
#include <vector>

#include "kernels.cu"

static const Kernel *&kernels() {
  static const Kernel *first = nullptr;
  return first;
}

Kernel::Kernel(const char *name, void (*call)(void **), bool synchronous)
    : name(name), call(call), synchronous(synchronous), next(kernels()) {
  kernels() = this;
}

namespace {
const size_t STACK = 64 << 10;

struct Fiber {
  ucontext_t start;
  std::unique_ptr<char[]> stack;
  jmp_buf at;
  bool begun, ended;
  Index index;
  float lent;
};

struct Block {
  std::vector<Fiber> fibers;
  jmp_buf scheduler;
  ucontext_t caller;
  size_t now;
  const Kernel *kernel;
  void **parameters;
};

thread_local Block block;

void run() {
  block.kernel->call(block.parameters);
  block.fibers[block.now].ended = true;
  _longjmp(block.scheduler, 1);
}

void go(Fiber &fiber) {
  if (fiber.begun) _longjmp(fiber.at, 1);
  fiber.begun = true;
  setcontext(&fiber.start);
}

void resume(size_t i) {
  block.now = i;
  threadIdx = block.fibers[i].index;
  if (_setjmp(block.scheduler) == 0) go(block.fibers[i]);
}

// Every round takes each thread to its next barrier.
void rounds(size_t threads) {
  for (bool some = true; some;) {
    some = false;
    for (size_t i = 0; i < threads; i++) {
      if (block.fibers[i].ended) continue;
      resume(i);
      some |= !block.fibers[i].ended;
    }
  }
}

Index nth(size_t i) {
  const uint32_t x = blockDim.x, y = blockDim.y;
  return {(uint32_t)(i % x), (uint32_t)(i / x % y), (uint32_t)(i / x / y)};
}

void together(size_t threads) {
  if (block.fibers.size() < threads) block.fibers.resize(threads);
  for (size_t i = 0; i < threads; i++) {
    Fiber &fiber = block.fibers[i];
    if (!fiber.stack) fiber.stack.reset(new char[STACK]);
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.get();
    fiber.start.uc_stack.ss_size = STACK;
    fiber.start.uc_link = &block.caller;
    makecontext(&fiber.start, run, 0);
    fiber.begun = fiber.ended = false;
    fiber.index = nth(i);
  }
  rounds(threads);
}
} // namespace

void __syncthreads() {
  if (_setjmp(block.fibers[block.now].at) == 0) _longjmp(block.scheduler, 1);
}

float __shfl_xor_sync(uint32_t, float x, int lanes) {
  const size_t own = block.now;
  block.fibers[own].lent = x;
  __syncthreads();
  const float got = block.fibers[own ^ lanes].lent;
  __syncthreads();
  return got;
}

// 0, or 1 if there is no kernel of this name.
extern "C" int vlmbench_emulated_launch(const char *name, const uint32_t *grid,
                                        const uint32_t *threads, void **parameters) {
  const Kernel *kernel = kernels();
  while (kernel && strcmp(kernel->name, name)) kernel = kernel->next;
  if (!kernel) return 1;
  block.kernel = kernel;
  block.parameters = parameters;
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {threads[0], threads[1], threads[2]};
  const size_t count = (size_t)threads[0] * threads[1] * threads[2];
  for (uint32_t z = 0; z < grid[2]; z++)
    for (uint32_t y = 0; y < grid[1]; y++)
      for (uint32_t x = 0; x < grid[0]; x++) {
        blockIdx = {x, y, z};
        if (kernel->synchronous) {
          together(count);
          continue;
        }
        for (size_t i = 0; i < count; i++) {
          threadIdx = nth(i);
          kernel->call(parameters);
        }
      }
  return 0;
}
