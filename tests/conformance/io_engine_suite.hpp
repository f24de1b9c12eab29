// What every I/O engine must do. A backend instantiates IoEngineSuite with a way to open it and to make files.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <ctime>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "io/engine.hpp"
#include "support/aligned_buffer.hpp"
#include "support/seed.hpp"

namespace strata::io {

using namespace literals;  // NOLINT: sizes of a test
using strata::testing::AlignedBuffer;
using strata::testing::fill_pattern;
using strata::testing::has_pattern;
using strata::testing::pick;

/// Where a backend's engines and files come from; one per test.
class IoWorld {
 public:
  virtual ~IoWorld() = default;
  /// Why the backend can't run here; empty: it can.
  [[nodiscard]] virtual std::string unavailable() const { return {}; }
  [[nodiscard]] virtual Result<std::unique_ptr<Engine>> open(const EngineOptions& options) = 0;
  [[nodiscard]] virtual File create(const std::string& name, Bytes size) = 0;
};

struct IoCase {
  std::string name;
  std::function<std::unique_ptr<IoWorld>()> make;
};

class IoEngineSuite : public ::testing::TestWithParam<IoCase> {
 protected:
  void SetUp() override {
    world_ = GetParam().make();
    if (const std::string why = world_->unavailable(); !why.empty()) GTEST_SKIP() << why;
    open({.queue_depth = 8, .block_size = 64_KiB, .threads = 4});
  }

  void open(const EngineOptions& options) {
    engine_.reset();
    auto opened = world_->open(options);
    ASSERT_TRUE(opened) << to_string(opened.error());
    engine_ = *std::move(opened);
  }

  FileId file(const std::string& name, Bytes size) {
    auto id = engine_->attach(world_->create(name, size));
    EXPECT_TRUE(id) << to_string(id.error());
    return id.value_or(FileId());
  }

  Status write(FileId file, std::uint64_t offset, const AlignedBuffer& data) {
    return transfer(*engine_, Op::kWrite, file, Offset(offset), data.data(), Bytes(data.size()));
  }
  Status read(FileId file, std::uint64_t offset, const AlignedBuffer& data) {
    return transfer(*engine_, Op::kRead, file, Offset(offset), data.data(), Bytes(data.size()));
  }
  Status flush(FileId file) { return transfer(*engine_, Op::kFlush, file, Offset(0), nullptr, Bytes(0)); }

  std::unique_ptr<IoWorld> world_;
  std::unique_ptr<Engine> engine_;
};

inline void describe(Request& request, Op op, FileId file, std::uint64_t offset, const AlignedBuffer& data) {
  request.op = op;
  request.file = file;
  request.offset = Offset(offset);
  request.data = data.data();
  request.length = Bytes(data.size());
}

/// Holds the engine's thread in a callback until it is opened.
class Gate {
 public:
  void open() { opened_.set_value(); }
  void wait_until_reached() { reached_.get_future().wait(); }
  static void hold(Request& request) noexcept {
    auto& gate = *static_cast<Gate*>(request.context);
    gate.reached_.set_value();
    gate.future_.wait();
  }

 private:
  std::promise<void> reached_;
  std::promise<void> opened_;
  std::shared_future<void> future_ = opened_.get_future().share();
};

TEST_P(IoEngineSuite, SaysWhatItIs) {
  EXPECT_FALSE(engine_->description().empty());
}

TEST_P(IoEngineSuite, BytesSurviveTheRoundTripAtManySizesAndOffsets) {
  const FileId id = file("round-trip", 4_MiB);
  std::uint64_t version = 0;
  for (const std::uint64_t size : {4096u, 8192u, 61440u, 65536u, 69632u, 131072u, 1048576u, 1052672u}) {
    for (const std::uint64_t offset : {0u, 4096u, 65536u, 2093056u}) {
      AlignedBuffer out(size);
      fill_pattern(out.bytes(), offset, ++version);
      ASSERT_TRUE(write(id, offset, out));
      AlignedBuffer back(size);
      ASSERT_TRUE(read(id, offset, back));
      ASSERT_TRUE(has_pattern(back.bytes(), offset, version)) << size << " bytes at " << offset;
    }
  }
}

TEST_P(IoEngineSuite, WriteTouchesNothingButItsRange) {
  const FileId id = file("neighbours", 1_MiB);
  AlignedBuffer all(1u << 20);
  fill_pattern(all.bytes(), 0, 1);
  ASSERT_TRUE(write(id, 0, all));
  AlignedBuffer middle(200704);
  fill_pattern(middle.bytes(), 409600, 2);
  ASSERT_TRUE(write(id, 409600, middle));
  AlignedBuffer back(1u << 20);
  ASSERT_TRUE(read(id, 0, back));
  EXPECT_TRUE(has_pattern(back.bytes().subspan(0, 409600), 0, 1));
  EXPECT_TRUE(has_pattern(back.bytes().subspan(409600, 200704), 409600, 2));
  EXPECT_TRUE(has_pattern(back.bytes().subspan(610304), 610304, 1));
}

TEST_P(IoEngineSuite, ManyRequestsOfManyThreadsOnTwoFiles) {
  constexpr std::uint64_t kThreads = 4;
  constexpr std::uint64_t kRequests = 24;
  constexpr std::uint64_t kPart = 160u << 10;  // two and a half blocks
  const std::array<FileId, 2> ids = {file("many-a", Bytes(kThreads * kRequests * kPart)),
                                     file("many-b", Bytes(kThreads * kRequests * kPart))};
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::vector<std::unique_ptr<AlignedBuffer>> buffers;
      std::vector<Request> requests(kRequests);
      const auto offset_of = [=](std::uint64_t i) { return (t * kRequests + i) * kPart; };
      for (std::uint64_t i = 0; i < kRequests; ++i) {
        buffers.push_back(std::make_unique<AlignedBuffer>(kPart));
        fill_pattern(buffers[i]->bytes(), offset_of(i), t);
        describe(requests[i], Op::kWrite, ids[i % 2], offset_of(i), *buffers[i]);
        requests[i].urgency = i % 3 == 0 ? Urgency::kDemand : Urgency::kAhead;
        engine_->submit(requests[i]);
      }
      for (Request& request : requests) wrong += wait(request) ? 0 : 1;
      for (std::uint64_t i = 0; i < kRequests; ++i) {
        fill_pattern(buffers[i]->bytes(), 0, 99);
        describe(requests[i], Op::kRead, ids[i % 2], offset_of(i), *buffers[i]);
        engine_->submit(requests[i]);
      }
      for (Request& request : requests) wrong += wait(request) ? 0 : 1;
      for (std::uint64_t i = 0; i < kRequests; ++i) wrong += has_pattern(buffers[i]->bytes(), offset_of(i), t) ? 0 : 1;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  const EngineStats stats = engine_->stats();
  EXPECT_EQ(stats.requests, 2 * kThreads * kRequests);
  EXPECT_EQ(stats.read_bytes, kThreads * kRequests * kPart);
  EXPECT_EQ(stats.write_bytes, kThreads * kRequests * kPart);
  EXPECT_EQ(stats.errors, 0u);
}

TEST_P(IoEngineSuite, ReadsAndWritesOfRandomProgramsMatchMemory) {
  std::mt19937_64 random(strata::testing::test_seed());
  constexpr std::uint64_t kSize = 1u << 20;
  const FileId id = file("random", Bytes(kSize));
  AlignedBuffer model(kSize);
  fill_pattern(model.bytes(), 0, 0);
  ASSERT_TRUE(write(id, 0, model));
  for (std::uint64_t step = 1; step <= 60; ++step) {
    const std::uint64_t offset = pick(random, 0, kSize / 4096 - 1) * 4096;
    const std::uint64_t length = pick(random, 1, std::min<std::uint64_t>(80, (kSize - offset) / 4096)) * 4096;
    AlignedBuffer buffer(length);
    const auto part = model.bytes().subspan(offset, length);
    if (pick(random, 0, 1) == 0) {
      fill_pattern(buffer.bytes(), offset, step);
      ASSERT_TRUE(write(id, offset, buffer));
      std::copy_n(buffer.data(), length, part.begin());
    } else {
      ASSERT_TRUE(read(id, offset, buffer));
      ASSERT_TRUE(std::equal(part.begin(), part.end(), buffer.bytes().begin())) << "step " << step;
    }
  }
}

TEST_P(IoEngineSuite, ReadPastTheEndFailsItsOwnRequestAlone) {
  const FileId id = file("short-file", 256_KiB);
  AlignedBuffer all(256u << 10);
  fill_pattern(all.bytes(), 0, 5);
  ASSERT_TRUE(write(id, 0, all));
  std::vector<std::unique_ptr<AlignedBuffer>> buffers;
  std::vector<Request> requests(9);
  for (std::uint64_t i = 0; i < requests.size(); ++i) {
    buffers.push_back(std::make_unique<AlignedBuffer>(128u << 10));
    // The middle one begins within the file and ends beyond it.
    describe(requests[i], Op::kRead, id, i == 4 ? 192u << 10 : (i % 3) * (64u << 10), *buffers[i]);
    engine_->submit(requests[i]);
  }
  for (std::uint64_t i = 0; i < requests.size(); ++i) {
    const Status status = wait(requests[i]);
    if (i != 4) {
      EXPECT_TRUE(status);
      EXPECT_TRUE(has_pattern(buffers[i]->bytes(), requests[i].offset.value, 5));
      continue;
    }
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kIo);
    EXPECT_NE(status.error().message.find("short-file"), std::string::npos) << status.error().message;
    EXPECT_NE(status.error().message.find("262144"), std::string::npos) << status.error().message;
    EXPECT_NE(status.error().message.find("ends"), std::string::npos) << status.error().message;
  }
  EXPECT_EQ(engine_->stats().errors, 1u);
}

TEST_P(IoEngineSuite, AFailedRequestMayBeUsedAgain) {
  const FileId id = file("again", 64_KiB);
  AlignedBuffer buffer(4096);
  Request request;
  describe(request, Op::kRead, id, 1u << 20, buffer);
  engine_->submit(request);
  ASSERT_FALSE(wait(request));
  request.offset = Offset(0);
  engine_->submit(request);
  EXPECT_TRUE(wait(request));
  EXPECT_FALSE(request.error);
}

TEST_P(IoEngineSuite, ARequestOfNoBytesCompletes) {
  const FileId id = file("nothing", 64_KiB);
  EXPECT_TRUE(transfer(*engine_, Op::kRead, id, Offset(0), nullptr, Bytes(0)));
  EXPECT_TRUE(transfer(*engine_, Op::kWrite, id, Offset(4096), nullptr, Bytes(0)));
}

TEST_P(IoEngineSuite, FlushCompletesAmongWrites) {
  const FileId id = file("flush", 2_MiB);
  AlignedBuffer data(1u << 20);
  fill_pattern(data.bytes(), 0, 1);
  Request before;
  describe(before, Op::kWrite, id, 0, data);
  engine_->submit(before);
  ASSERT_TRUE(wait(before));
  Request during;
  describe(during, Op::kWrite, id, 1u << 20, data);
  engine_->submit(during);
  EXPECT_TRUE(flush(id));
  EXPECT_TRUE(wait(during));
  EXPECT_TRUE(flush(id));
  EXPECT_EQ(engine_->stats().requests, 4u);
}

TEST_P(IoEngineSuite, DestructorWaitsForRequestsInFlight) {
  const FileId id = file("shutdown", 8_MiB);
  std::vector<std::unique_ptr<AlignedBuffer>> buffers;
  std::vector<Request> requests(16);
  for (std::uint64_t i = 0; i < requests.size(); ++i) {
    buffers.push_back(std::make_unique<AlignedBuffer>(512u << 10));
    fill_pattern(buffers[i]->bytes(), i * (512u << 10), i);
    describe(requests[i], Op::kWrite, id, i * (512u << 10), *buffers[i]);
    engine_->submit(requests[i]);
  }
  engine_.reset();
  for (const Request& request : requests) {
    ASSERT_EQ(request.state.load(), RequestState::kDone);
    EXPECT_FALSE(request.error);
    EXPECT_EQ(request.completed, request.length.value);
  }
}

TEST_P(IoEngineSuite, CallbackMaySubmitAnotherRequest) {
  const FileId id = file("chain", 1_MiB);
  struct Chain {
    Engine& engine;
    FileId file;
    AlignedBuffer data{4096};
    std::array<Request, 8> requests;
    std::size_t next = 0;
    std::promise<void> done;
    void submit() {
      Request& request = requests[next];
      describe(request, next % 2 == 0 ? Op::kWrite : Op::kRead, file, (next / 2) * 4096, data);
      request.context = this;
      request.on_complete = [](Request& r) noexcept {
        auto& chain = *static_cast<Chain*>(r.context);
        EXPECT_FALSE(r.error);
        if (++chain.next < chain.requests.size()) {
          chain.submit();
        } else {
          chain.done.set_value();
        }
      };
      engine.submit(request);
    }
  };
  Chain chain{*engine_, id, AlignedBuffer(4096), {}, 0, {}};
  chain.submit();
  chain.done.get_future().wait();
  EXPECT_EQ(engine_->stats().requests, 8u);
}

TEST_P(IoEngineSuite, CallbackMayDestroyOrReuseItsRequest) {
  const FileId id = file("destroyed", 1_MiB);
  struct Owner {
    std::unique_ptr<Request> request = std::make_unique<Request>();
    AlignedBuffer data{8192};
    Engine* engine = nullptr;
    int uses = 0;
    std::promise<void> done;
  } owner;
  owner.engine = engine_.get();
  describe(*owner.request, Op::kWrite, id, 0, owner.data);
  owner.request->context = &owner;
  owner.request->on_complete = [](Request& r) noexcept {
    auto& o = *static_cast<Owner*>(r.context);
    if (++o.uses < 3) {
      o.engine->submit(r);
      return;
    }
    o.request.reset();
    o.done.set_value();
  };
  engine_->submit(*owner.request);
  owner.done.get_future().wait();
  EXPECT_EQ(owner.uses, 3);
}

TEST_P(IoEngineSuite, SubmitBlocksWhileTheInboxIsFull) {
  constexpr std::uint32_t kCapacity = 4;
  open({.queue_depth = 1, .block_size = 64_KiB, .threads = 1, .inbox_capacity = kCapacity});
  const FileId id = file("full", 1_MiB);
  AlignedBuffer data(4096);
  Gate gate;
  Request holder;
  describe(holder, Op::kWrite, id, 0, data);
  holder.on_complete = &Gate::hold;
  holder.context = &gate;
  engine_->submit(holder);
  gate.wait_until_reached();
  std::vector<Request> requests(kCapacity + 1);
  for (Request& request : requests) describe(request, Op::kWrite, id, 0, data);
  for (std::uint32_t i = 0; i < kCapacity; ++i) engine_->submit(requests[i]);
  std::promise<void> submitted;
  std::future<void> last = submitted.get_future();
  std::thread submitter([&] {
    engine_->submit(requests[kCapacity]);
    submitted.set_value();
  });
  EXPECT_EQ(last.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  gate.open();
  submitter.join();
  for (Request& request : requests) EXPECT_TRUE(wait(request));
}

TEST_P(IoEngineSuite, DemandIsServedWhileAFloodRunsAhead) {
  open({.queue_depth = 2, .block_size = 64_KiB, .threads = 2});
  const FileId id = file("demand", 16_MiB);
  AlignedBuffer flood(16u << 20);
  Request ahead;
  describe(ahead, Op::kWrite, id, 0, flood);
  engine_->submit(ahead);
  AlignedBuffer wanted(4096);
  ASSERT_TRUE(read(id, 0, wanted));
  EXPECT_TRUE(wait(ahead));
}

TEST_P(IoEngineSuite, MoreBlocksThanAnyQueueHolds) {
  open({.queue_depth = 10000, .block_size = 4_KiB, .threads = 4});
  const FileId id = file("deep", 20_MiB);
  AlignedBuffer out(20u << 20);
  fill_pattern(out.bytes(), 0, 6);
  ASSERT_TRUE(write(id, 0, out));
  AlignedBuffer back(20u << 20);
  ASSERT_TRUE(read(id, 0, back));
  EXPECT_TRUE(has_pattern(back.bytes(), 0, 6));
  EXPECT_EQ(engine_->stats().requests, 2u);
}

TEST_P(IoEngineSuite, AnIdleEngineUsesNoProcessorTime) {
  const FileId id = file("idle", 64_KiB);
  AlignedBuffer data(4096);
  ASSERT_TRUE(write(id, 0, data));
  const auto cpu_ms = [] {
    timespec used{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return used.tv_sec * 1000 + used.tv_nsec / 1'000'000;
  };
  const auto before = cpu_ms();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(cpu_ms() - before, 50) << "a thread polls";
}

}  // namespace strata::io
