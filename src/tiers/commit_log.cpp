#include "tiers/commit_log.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "base/check.hpp"

namespace strata::tiers {
namespace {

std::uint64_t unix_now_s() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(now).count());
}

}  // namespace

CommitLog::CommitLog(Setting setting)
    : setting_(std::move(setting)), buffer_(setting_.layout->generations[0].bytes), root_buffer_(kRootBytes) {}

Status CommitLog::start() {
  last_ = {};
  last_.run_id = setting_.run_id;
  last_.sequence = sequence_ = 1;
  last_.unix_s = unix_now_s();
  place_ = 0;
  return write_root(0, last_);
}

Result<Recovered> CommitLog::recover() {
  std::array<Result<RootRecord>, 2> roots = {RootRecord{}, RootRecord{}};
  for (std::uint32_t place = 0; place < 2; ++place) {
    STRATA_TRY(io::transfer(*setting_.engine, io::Op::kRead, setting_.files[0], setting_.layout->roots[place],
                            root_buffer_.data(), kRootBytes));
    roots[place] = decode_root(root_buffer_.bytes(), setting_.run_id);
  }
  const bool second_first = roots[1] && (!roots[0] || roots[1]->sequence > roots[0]->sequence);
  std::string reasons;
  for (const std::uint32_t place : {second_first ? 1u : 0u, second_first ? 0u : 1u}) {
    auto found = roots[place].and_then([this](const RootRecord& root) { return read_generation(root); });
    if (!found) {
      reasons += fmt::format("{}root {}: {}", reasons.empty() ? "" : "; ", place, found.error().message);
      continue;
    }
    last_ = found->root;
    place_ = place;
    // The other root may be newer, its table rotten. A repeated step would write the very same table, and that root
    // would name it before the bytes of the objects are durable again: so the numbers go on above both.
    const auto& other = roots[other_place()];
    sequence_ = std::max(last_.sequence, other ? other->sequence : 0);
    return found;
  }
  return fail(ErrorCode::kStore, fmt::format("no generation can be read ({})", reasons),
              "resume from a checkpoint, or start a new run");
}

Result<Recovered> CommitLog::read_generation(const RootRecord& root) {
  Recovered found{root, {}, {}};
  if (root.generation == 0) {
    found.table.entries.resize(setting_.limits.objects);
    return found;
  }
  STRATA_ASSIGN(const std::vector<std::byte> table, read_blob(root.table, "table"));
  STRATA_ASSIGN(found.table, decode_table(table, setting_.limits));
  if (found.table.generation != root.generation) {
    return fail(ErrorCode::kStore,
                fmt::format("table of generation {} instead of {}", found.table.generation, root.generation));
  }
  STRATA_ASSIGN(const std::vector<std::byte> metadata, read_blob(root.metadata, "metadata"));
  found.metadata.assign(reinterpret_cast<const char*>(metadata.data()), metadata.size());
  return found;
}

Result<std::vector<std::byte>> CommitLog::read_blob(const BlobRef& blob, const char* what) {
  const auto& areas = setting_.layout->generations;
  const bool inside = std::any_of(areas.begin(), areas.end(), [&](const Area& area) {
    return blob.offset >= area.offset && blob.offset < area.end() && blob.bytes <= area.end() - blob.offset;
  });
  if (!inside || blob.offset.value % kBlockAlignment.value != 0) {
    return fail(ErrorCode::kStore,
                fmt::format("{} at {} + {} bytes lies outside its area", what, blob.offset.value, blob.bytes.value));
  }
  if (blob.bytes.value != 0) {
    STRATA_TRY(io::transfer(*setting_.engine, io::Op::kRead, setting_.files[0], blob.offset, buffer_.data(),
                            round_up(blob.bytes, kBlockAlignment)));
  }
  const auto bytes = std::span<const std::byte>(buffer_.bytes()).first(blob.bytes.value);
  if (checksum(bytes) != blob.checksum) return fail(ErrorCode::kStore, fmt::format("{} is damaged", what));
  return std::vector<std::byte>(bytes.begin(), bytes.end());
}

Status CommitLog::commit(GenerationTable table, std::uint64_t step, const std::string& metadata) {
  encode_generation(std::move(table), step, metadata);
  for (const CommitStep commit_step : setting_.protocol.commit) STRATA_TRY(take_step(commit_step));
  last_ = next_;
  place_ = other_place();
  sequence_ = last_.sequence;
  return {};
}

void CommitLog::encode_generation(GenerationTable table, std::uint64_t step, const std::string& metadata) {
  STRATA_CHECK(metadata.size() <= kMetadataMax.value, "the caller refused longer metadata");
  const auto& areas = setting_.layout->generations;
  const bool last_in_first = last_.generation != 0 && last_.table.offset == areas[0].offset;
  const Area& area = areas[last_in_first ? 1 : 0];
  const Bytes table_bytes = encoded_size(table.entries.size());
  const Bytes metadata_at = round_up(table_bytes, kBlockAlignment);
  used_ = round_up(metadata_at + Bytes(metadata.size()), kBlockAlignment);
  STRATA_CHECK(used_ <= area.bytes, "a generation outgrew its area");

  table.sequence = sequence_ + 1;
  std::memset(buffer_.data(), 0, used_.value);
  const auto table_span = buffer_.bytes().first(table_bytes.value);
  encode(table, table_span);
  const auto metadata_span = buffer_.bytes().subspan(metadata_at.value, metadata.size());
  if (!metadata.empty()) std::memcpy(metadata_span.data(), metadata.data(), metadata.size());

  next_ = {};
  next_.run_id = setting_.run_id;
  next_.sequence = table.sequence;
  next_.generation = table.generation;
  next_.step = step;
  next_.unix_s = unix_now_s();
  next_.table = {area.offset, table_bytes, checksum(table_span)};
  next_.metadata = {area.offset + metadata_at, Bytes(metadata.size()), checksum(metadata_span)};
}

Status CommitLog::take_step(CommitStep step) {
  switch (step) {
    case CommitStep::kWriteTable:
      return io::transfer(*setting_.engine, io::Op::kWrite, setting_.files[0], next_.table.offset, buffer_.data(),
                          used_);
    case CommitStep::kFlushPaths: return flush_paths();
    case CommitStep::kWriteRoot: return write_root(other_place(), next_);
    case CommitStep::kFlushRoot: return flush_root();
  }
  return {};
}

Status CommitLog::mark_dirty() {
  RootRecord root = last_;
  root.sequence = sequence_ + 1;
  root.state = RootState::kDirty;
  STRATA_TRY(write_root(other_place(), root));
  if (setting_.protocol.dirty_mark == StoreProtocol::DirtyMark::kFlushed) STRATA_TRY(flush_root());
  last_ = root;
  place_ = other_place();
  sequence_ = root.sequence;
  return {};
}

Status CommitLog::write_root(std::uint32_t place, const RootRecord& root) {
  root_buffer_.clear();
  encode(root, root_buffer_.bytes());
  return io::transfer(*setting_.engine, io::Op::kWrite, setting_.files[0], setting_.layout->roots[place],
                      root_buffer_.data(), kRootBytes);
}

Status CommitLog::flush_root() {
  return io::transfer(*setting_.engine, io::Op::kFlush, setting_.files[0], Offset{}, nullptr, Bytes{});
}

Status CommitLog::flush_paths() {
  const std::size_t count = setting_.files.size();
  const auto requests = std::make_unique<io::Request[]>(count);
  for (std::size_t i = 0; i < count; ++i) {
    requests[i].op = io::Op::kFlush;
    requests[i].file = setting_.files[i];
    setting_.engine->submit(requests[i]);
  }
  Status first;
  for (std::size_t i = 0; i < count; ++i) {
    // Every request must be done before its memory goes.
    Status status = io::wait(requests[i]);
    if (first && !status) first = std::move(status);
  }
  return first;
}

}  // namespace strata::tiers
