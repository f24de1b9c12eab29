#include "optim/cores.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace strata::optim {
namespace {

class CoresTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::temp_directory_path() / ("strata-cores-" + std::to_string(::getpid()));
    std::filesystem::create_directories(root_);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void add_cpu(int cpu, const std::string& siblings) {
    const auto folder = root_ / ("cpu" + std::to_string(cpu)) / "topology";
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "thread_siblings_list") << siblings << '\n';
  }

  std::filesystem::path root_;
};

TEST_F(CoresTest, TakesOneThreadOfEachCore) {
  for (const int cpu : {0, 1, 2, 3}) add_cpu(cpu, cpu % 2 == 0 ? "0,2" : "1,3");
  EXPECT_EQ(physical_cores({0, 1, 2, 3}, root_), (std::vector<int>{0, 1}));
}

TEST_F(CoresTest, TakesTheAllowedThreadOfACore) {
  for (const int cpu : {0, 1, 2, 3}) add_cpu(cpu, cpu < 2 ? "0-1" : "2-3");
  EXPECT_EQ(physical_cores({1, 2, 3}, root_), (std::vector<int>{1, 2}));
}

TEST_F(CoresTest, WithoutTopologyEachCpuIsACore) {
  EXPECT_EQ(physical_cores({4, 7}, root_), (std::vector<int>{4, 7}));
}

TEST_F(CoresTest, ThisProcessHasAtLeastOne) {
  EXPECT_FALSE(physical_cores(allowed_cpus()).empty());
}

}  // namespace
}  // namespace strata::optim
