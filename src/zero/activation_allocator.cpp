#include "zero/activation_allocator.hpp"

#include <algorithm>
#include <cstdlib>
#include <mutex>

#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "base/check.hpp"
#include "base/size_text.hpp"
#include "memory/arena.hpp"
#include "memory/extent_allocator.hpp"

namespace strata::zero {
namespace {

// Each block starts with a header that names its pool, so that the deleter needs the data pointer only.
constexpr std::uint64_t kHeader = 64;
// Small blocks would splinter the arena; they come from the C heap and count all the same.
constexpr std::uint64_t kSmall = 32 * 1024;

class Pool;

struct Header {
  Pool* pool;
  std::uint64_t bytes;    // of the whole block
  std::uint64_t in_arena; // 1: the block starts at this header, cut from the arena
};
static_assert(sizeof(Header) <= kHeader);

/// Lives until uninstalled and empty.
class Pool {
 public:
  Pool(memory::Arena arena, Bytes budget)
      : arena_(std::move(arena)), budget_(budget), extents_(arena_.size(), Bytes(512)) {}

  void* allocate(std::uint64_t bytes) {
    const std::uint64_t block = round_up(bytes + kHeader, 512);
    std::byte* base = block <= kSmall ? allocate_small(block) : allocate_in_arena(block);
    if (base == nullptr) return nullptr;
    *reinterpret_cast<Header*>(base) = {this, block, block <= kSmall ? 0u : 1u};
    return base + kHeader;
  }

  static void release(void* data) {
    if (data == nullptr) return;
    std::byte* base = static_cast<std::byte*>(data) - kHeader;
    const Header header = *reinterpret_cast<Header*>(base);
    header.pool->give_back(base, header);
  }

  void uninstall() {
    std::unique_lock lock(mutex_);
    installed_ = false;
    const bool empty = used_.value == 0;
    lock.unlock();
    if (empty) delete this;
  }

  [[nodiscard]] Bytes budget() const { return budget_; }
  [[nodiscard]] Bytes used() const {
    const std::lock_guard lock(mutex_);
    return used_;
  }
  [[nodiscard]] Bytes peak() const {
    const std::lock_guard lock(mutex_);
    return peak_;
  }
  void reset_peak() {
    const std::lock_guard lock(mutex_);
    peak_ = used_;
  }

 private:
  ~Pool() = default;

  std::byte* allocate_small(std::uint64_t block) {
    {
      const std::lock_guard lock(mutex_);
      if (!count(block)) return nullptr;
    }
    void* base = nullptr;
    return ::posix_memalign(&base, 64, block) == 0 ? static_cast<std::byte*>(base) : nullptr;
  }

  std::byte* allocate_in_arena(std::uint64_t block) {
    const std::lock_guard lock(mutex_);
    if (used_.value + block > budget_.value) return nullptr;
    const auto extent = extents_.try_allocate(Bytes(block));
    if (!extent) return nullptr;
    count(block);
    return arena_.data() + extent->offset.value;
  }

  bool count(std::uint64_t block) {
    if (used_.value + block > budget_.value) return false;
    used_ += Bytes(block);
    peak_ = std::max(peak_, used_);
    return true;
  }

  void give_back(std::byte* base, const Header& header) {
    std::unique_lock lock(mutex_);
    used_ -= Bytes(header.bytes);
    if (header.in_arena != 0) {
      extents_.free({Offset(static_cast<std::uint64_t>(base - arena_.data())), Bytes(header.bytes)});
    } else {
      std::free(base);
    }
    const bool last = !installed_ && used_.value == 0;
    lock.unlock();
    if (last) delete this;
  }

  memory::Arena arena_;
  const Bytes budget_;
  mutable std::mutex mutex_;
  memory::ExtentAllocator extents_;
  Bytes used_;
  Bytes peak_;
  bool installed_ = true;
};

}  // namespace

class ActivationAllocator::Impl final : public c10::Allocator {
 public:
  explicit Impl(Pool* pool) : pool_(pool), before_(c10::GetCPUAllocator()) { c10::SetCPUAllocator(this, 255); }
  ~Impl() override {
    c10::SetCPUAllocator(before_, 255);
    pool_->uninstall();
  }

  c10::DataPtr allocate(std::size_t bytes) override {
    void* data = pool_->allocate(bytes);
    if (data == nullptr) {
      const auto text = fmt::format(
          "the activations need more than their {}: {} in use, {} more asked for; give more device memory, or a "
          "smaller micro-batch or sequence",
          format_size(pool_->budget()), format_size(pool_->used()), format_size(Bytes(bytes)));
      throw c10::OutOfMemoryError({__func__, __FILE__, static_cast<std::uint32_t>(__LINE__)}, text);
    }
    return {data, data, &Pool::release, c10::Device(c10::DeviceType::CPU)};
  }
  [[nodiscard]] c10::DeleterFnPtr raw_deleter() const override { return &Pool::release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }

  [[nodiscard]] Pool& pool() const { return *pool_; }

 private:
  Pool* pool_;
  c10::Allocator* before_;
};

Result<std::unique_ptr<ActivationAllocator>> ActivationAllocator::install(Bytes budget) {
  STRATA_ASSIGN(memory::Arena arena, memory::Arena::map({.size = budget,
                                                         .residence = memory::Residence::kLazy,
                                                         .page_lock = memory::PageLock::kNone}));
  auto* pool = new Pool(std::move(arena), budget);  // deletes itself, see Pool
  return std::unique_ptr<ActivationAllocator>(new ActivationAllocator(std::make_unique<Impl>(pool)));
}

ActivationAllocator::ActivationAllocator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ActivationAllocator::~ActivationAllocator() = default;

Bytes ActivationAllocator::budget() const { return impl_->pool().budget(); }
Bytes ActivationAllocator::used() const { return impl_->pool().used(); }
Bytes ActivationAllocator::peak() const { return impl_->pool().peak(); }
void ActivationAllocator::reset_peak() { impl_->pool().reset_peak(); }

}  // namespace strata::zero
