// What this build is.
#pragma once

namespace strata {

extern const char* const kVersion;  ///< "0.1.0"
extern const char* const kCommit;   ///< short hash of the source, "unknown" outside a checkout

}  // namespace strata
