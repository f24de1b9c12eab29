// Activations of a computation on the CPU, cut from the device budget.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.hpp"
#include "strata/types.hpp"

namespace strata::zero {

/// While alive, LibTorch's CPU tensors come from one arena of exactly `budget` bytes (huge pages, lazily touched), so
/// that activations count and the hot path never faults pages in; at the cap LibTorch raises OutOfMemoryError. One per
/// process at a time. Tensors may outlive it: the arena stays until the last is gone.
class ActivationAllocator {
 public:
  [[nodiscard]] static Result<std::unique_ptr<ActivationAllocator>> install(Bytes budget);
  ~ActivationAllocator();
  ActivationAllocator(const ActivationAllocator&) = delete;
  ActivationAllocator& operator=(const ActivationAllocator&) = delete;

  [[nodiscard]] Bytes budget() const;
  [[nodiscard]] Bytes used() const;
  /// High-water mark since the last reset.
  [[nodiscard]] Bytes peak() const;
  void reset_peak();

 private:
  class Impl;
  explicit ActivationAllocator(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace strata::zero
