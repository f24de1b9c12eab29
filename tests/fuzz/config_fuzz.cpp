// libFuzzer entry point for everything that reads configuration text. Build: CXX=clang++ cmake -DSTRATA_FUZZ=ON
// -DSTRATA_SANITIZE=address,undefined; run: build/config_fuzz -max_len=4096 configs
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "config/load.hpp"
#include "config/report_text.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  strata::config::LoadOptions options;
  options.hidden_size = 4096;
  const auto result = strata::config::check_text(text, options);
  (void)strata::config::check_document(result, options);
  (void)strata::config::format_report(result.loaded, strata::config::Rows::kAll);
  return 0;
}
