// How LibTorch's OpenMP threads wait.
#pragma once

namespace strata::cli {

/// Makes them sleep instead of spin, by starting the program again with OMP_WAIT_POLICY=passive: libgomp reads it when
/// it is loaded, before main. A value that the user has set is left alone. Spinning threads take the cores from those
/// that read, write and step the optimizer; on a loaded machine a step took three times as long with it
/// (docs/performance.md).
void wait_passively(char** argv);

}  // namespace strata::cli
