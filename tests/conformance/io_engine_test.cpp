// The engines that drive real files, and the simulated one, through the same suite.
#include <fmt/format.h>

#include "conformance/io_engine_suite.hpp"
#include "support/sim_io.hpp"
#include "support/temp_dir.hpp"

namespace strata::io {
namespace {

class RealWorld final : public IoWorld {
 public:
  explicit RealWorld(EngineKind kind) : kind_(kind) {}

  std::string unavailable() const override {
    const auto engine = open_engine({.kind = kind_});
    return engine ? std::string() : to_string(engine.error());
  }
  Result<std::unique_ptr<Engine>> open(const EngineOptions& options) override {
    EngineOptions own = options;
    own.kind = kind_;
    return open_engine(own);
  }
  File create(const std::string& name, Bytes size) override {
    auto file = open_file(dir_.path() / name, {.creation = Creation::kMustNotExist});
    EXPECT_TRUE(file) << to_string(file.error());
    const Status allocated = preallocate(*file, size);
    EXPECT_TRUE(allocated) << to_string(allocated.error());
    return *std::move(file);
  }

 private:
  const EngineKind kind_;
  testing::TempDir dir_;
};

class SimWorld final : public IoWorld {
 public:
  explicit SimWorld(const testing::SimFaults& faults) { disk_.set_faults(faults); }
  Result<std::unique_ptr<Engine>> open(const EngineOptions& options) override {
    return testing::open_sim_engine(disk_, options);
  }
  File create(const std::string& name, Bytes size) override { return disk_.create(name, size); }

 private:
  testing::SimDisk disk_{testing::test_seed()};
};

INSTANTIATE_TEST_SUITE_P(
    Engines, IoEngineSuite,
    ::testing::Values(IoCase{"uring", [] { return std::make_unique<RealWorld>(EngineKind::kUring); }},
                      IoCase{"threads", [] { return std::make_unique<RealWorld>(EngineKind::kThreads); }},
                      IoCase{"sim", [] { return std::make_unique<SimWorld>(testing::SimFaults{}); }},
                      IoCase{"simWithShortTransfers",
                             [] {
                               return std::make_unique<SimWorld>(
                                   testing::SimFaults{.short_transfer = 0.2, .interrupted = 0.2});
                             }}),
    [](const ::testing::TestParamInfo<IoCase>& tested) { return tested.param.name; });

}  // namespace
}  // namespace strata::io
