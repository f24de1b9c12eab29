#include "zero/storage_observer.hpp"

#include <memory>
#include <mutex>
#include <vector>

#include <c10/core/StorageImpl.h>

namespace strata::zero {
namespace {

/// LibTorch's callbacks are plain functions without a context, so the runtimes that are alive are listed here: the one
/// piece of process-wide state, forced by that interface.
class Registry {
 public:
  static Registry& instance() {
    static Registry registry;
    return registry;
  }
  void add(UnitRuntime* runtime) {
    const std::lock_guard lock(mutex_);
    runtimes_.push_back(runtime);
  }
  void remove(UnitRuntime* runtime) {
    const std::lock_guard lock(mutex_);
    std::erase(runtimes_, runtime);
  }
  void bind_owner_of(const c10::StorageImpl* storage) {
    const std::lock_guard lock(mutex_);
    for (UnitRuntime* runtime : runtimes_) runtime->bind_owner_of(storage);
  }

 private:
  std::mutex mutex_;
  std::vector<UnitRuntime*> runtimes_;
};

void check_tensor(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.has_storage() || tensor.numel() == 0) return;
  const c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
  if (storage->nbytes() == 0) Registry::instance().bind_owner_of(storage);
}

std::unique_ptr<at::ObserverContext> on_op(const at::RecordFunction& op) {
  for (const c10::IValue& input : op.inputs()) {
    if (input.isTensor()) {
      check_tensor(input.toTensor());
    } else if (input.isTensorList()) {
      for (const at::Tensor& tensor : input.toTensorVector()) check_tensor(tensor);
    }
  }
  return nullptr;
}

}  // namespace

StorageObserver::StorageObserver(UnitRuntime& runtime) : runtime_(&runtime) {
  Registry::instance().add(runtime_);
  handle_ = at::addGlobalCallback(
      at::RecordFunctionCallback(on_op).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
}

StorageObserver::~StorageObserver() {
  at::removeCallback(handle_);
  Registry::instance().remove(runtime_);
}

}  // namespace strata::zero
