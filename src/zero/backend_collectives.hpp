// Collectives over c10d: Gloo on CPUs, NCCL on GPUs. Who makes the backend is another file's business.
#pragma once

#include <cstdint>
#include <memory>

#include <c10/util/intrusive_ptr.h>

#include "zero/collectives.hpp"

namespace strata::zero {

/// What precedes every collective. Backends match calls by their order alone: two gathers of equal size in opposite
/// order on two ranks swap data silently. With kEveryCall the ranks first exchange 56 bytes each that say what comes
/// next. Cost: one more small gather per collective, a round trip beside the megabytes of a unit (tens of microseconds
/// on one machine), so it is the default; kNever is for a benchmark of it.
enum class OrderCheck : std::uint8_t { kEveryCall, kNever };

/// Tensors are views over the caller's spans; nothing is copied but the backend's own buffers. Calls block until done.
/// The mean: the backend sums in the element type, in its own order, which is the same in every run of one world size;
/// the sum is then divided by the world size in float32 and rounded to nearest even once. (Not AVG: Gloo lacks it, and
/// NCCL divides before it sums. A power of two of ranks divides exactly.)
/// Errors: kInternal for ranks in different order, naming both; kIo for whatever the backend throws (a peer that is
/// gone, a timeout). After any error the group is out of step: the run ends and resumes.
[[nodiscard]] std::unique_ptr<Collectives> collectives_over(c10::intrusive_ptr<c10d::Backend> backend,
                                                            OrderCheck check = OrderCheck::kEveryCall);

}  // namespace strata::zero
