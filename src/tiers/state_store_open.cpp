// How a store comes to be: made anew, or found and recovered.
#include <algorithm>
#include <chrono>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/check.hpp"
#include "base/size_text.hpp"
#include "tiers/state_store_impl.hpp"
#include "tiers/store_files.hpp"
#include "tiers/store_header.hpp"

namespace strata::tiers {
namespace {

class Opening {
 public:
  Opening(const StoreOptions& options, std::span<const StoreObject> objects, io::Engine& engine,
          const StoreHooks& hooks)
      : options_(options), objects_(objects), engine_(engine), hooks_(hooks) {}

  Result<StoreParts> create();
  Result<StoreParts> open();

 private:
  void plan();
  Status check_names() const;
  Status attach(std::vector<io::File> files);
  void make_log();
  StoreParts parts(Recovered found);

  Status write_directory(AlignedBuffer& directory);
  Status write_headers(std::uint64_t directory_checksum);
  Result<StoreHeader> read_headers();
  Status check_objects(const StoreHeader& header);
  Status check_sizes() const;
  [[nodiscard]] Error in_file(std::size_t path, Error error) const;
  [[nodiscard]] tl::unexpected<Error> cut_short(std::size_t path, Bytes needed) const;
  [[nodiscard]] StoreHeader expected_header(std::size_t path) const;

  Status write(std::size_t path, Offset offset, AlignedBuffer& buffer) {
    return io::transfer(engine_, io::Op::kWrite, files_[path], offset, buffer.data(), buffer.size());
  }
  Status read(std::size_t path, Offset offset, AlignedBuffer& buffer) {
    return io::transfer(engine_, io::Op::kRead, files_[path], offset, buffer.data(), buffer.size());
  }

  const StoreOptions& options_;
  const std::span<const StoreObject> objects_;
  io::Engine& engine_;
  const StoreHooks& hooks_;
  struct FoundFile {
    std::filesystem::path name;
    Bytes size;
  };
  std::vector<FoundFile> found_;
  std::unique_ptr<StoreLayout> layout_;
  std::vector<io::FileId> files_;
  std::unique_ptr<CommitLog> log_;
};

void Opening::plan() {
  layout_ = std::make_unique<StoreLayout>(
      plan_layout({objects_, options_.slots, options_.scratch, {options_.paths.size(), options_.largest_scratch}}));
}

Status Opening::check_names() const {
  std::set<std::string_view> names;
  for (const StoreObject& object : objects_) {
    if (!names.insert(object.name).second) {
      return fail(ErrorCode::kInternal, fmt::format("two objects are named '{}'", object.name));
    }
  }
  return {};
}

Status Opening::attach(std::vector<io::File> files) {
  for (io::File& file : files) {
    STRATA_ASSIGN(const io::FileId id, engine_.attach(std::move(file)));
    files_.push_back(id);
  }
  return {};
}

void Opening::make_log() {
  log_ = std::make_unique<CommitLog>(CommitLog::Setting{.engine = &engine_,
                                                        .layout = layout_.get(),
                                                        .files = files_,
                                                        .run_id = options_.run_id,
                                                        .limits = {objects_.size(), options_.slots},
                                                        .protocol = hooks_.protocol});
}

StoreParts Opening::parts(Recovered found) {
  return {.options = options_,
          .objects = {objects_.begin(), objects_.end()},
          .layout = std::move(layout_),
          .files = std::move(files_),
          .log = std::move(log_),
          .found = std::move(found),
          .reuse = hooks_.reuse};
}

StoreHeader Opening::expected_header(std::size_t path) const {
  StoreHeader header;
  header.run_id = options_.run_id;
  header.path_index = static_cast<std::uint32_t>(path);
  header.path_count = static_cast<std::uint32_t>(options_.paths.size());
  header.slots = options_.slots;
  header.objects = objects_.size();
  return header;
}

Result<StoreParts> Opening::create() {
  STRATA_TRY(check_options(options_));
  STRATA_TRY(check_names());
  plan();
  std::vector<Bytes> sizes;
  for (const PathLayout& path : layout_->paths) sizes.push_back(path.size);
  STRATA_ASSIGN(NewFiles files, NewFiles::create(options_, sizes));
  STRATA_TRY(attach(files.take_files()));
  make_log();

  AlignedBuffer directory(layout_->directory.bytes);
  encode_directory(objects_, directory.bytes());
  STRATA_TRY(write_directory(directory));
  STRATA_TRY(log_->start());
  STRATA_TRY(log_->flush_paths());
  // The header last: a file that has one is complete.
  STRATA_TRY(write_headers(checksum(directory.bytes())));
  STRATA_TRY(log_->flush_paths());
  STRATA_TRY(files.keep());

  Recovered empty;
  empty.table.entries.resize(objects_.size());
  return parts(std::move(empty));
}

Status Opening::write_directory(AlignedBuffer& directory) {
  if (directory.size().value == 0) return {};
  return write(0, layout_->directory.offset, directory);
}

Status Opening::write_headers(std::uint64_t directory_checksum) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  AlignedBuffer block(kHeaderBytes);
  for (std::size_t path = 0; path < files_.size(); ++path) {
    StoreHeader header = expected_header(path);
    header.created_unix_s = static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(now).count());
    header.directory_checksum = directory_checksum;
    block.clear();
    encode(header, block.bytes());
    STRATA_TRY(write(path, Offset{}, block));
  }
  return {};
}

Result<StoreParts> Opening::open() {
  STRATA_TRY(check_options(options_));
  STRATA_TRY(check_names());
  STRATA_ASSIGN(std::vector<io::File> files, open_files(options_));
  plan();
  for (const io::File& file : files) {
    STRATA_ASSIGN(const Bytes size, size_of(file));
    found_.push_back({file.path, size});
  }
  STRATA_TRY(attach(std::move(files)));
  STRATA_ASSIGN(const StoreHeader header, read_headers());
  STRATA_TRY(check_objects(header));
  // Same objects, same slots: from here the layout is the one that the files were made with, but for the scratch.
  STRATA_TRY(check_sizes());
  make_log();
  auto recovered = log_->recover();
  if (!recovered) return tl::unexpected(in_file(0, std::move(recovered).error()));
  // Nothing was committed to a dirty store of generation 0: there is nothing to lose.
  if (recovered->root.state == RootState::kDirty && recovered->root.generation != 0) {
    return fail(ErrorCode::kStore,
                fmt::format("'{}' was being updated in place when the run stopped; step {} is lost",
                            found_[0].name.string(), recovered->root.step),
                "resume from a checkpoint; with strata.durable_steps every step survives");
  }
  return parts(*std::move(recovered));
}

Error Opening::in_file(std::size_t path, Error error) const {
  error.message = fmt::format("'{}': {}", found_[path].name.string(), error.message);
  return error;
}

tl::unexpected<Error> Opening::cut_short(std::size_t path, Bytes needed) const {
  return fail(ErrorCode::kStore,
              fmt::format("'{}' is cut short: {} of {} bytes", found_[path].name.string(), found_[path].size.value,
                          needed.value),
              "restore the file, resume from a checkpoint, or start a new run");
}

Result<StoreHeader> Opening::read_headers() {
  std::optional<StoreHeader> first;
  AlignedBuffer block(kHeaderBytes);
  for (std::size_t path = 0; path < files_.size(); ++path) {
    if (found_[path].size < kHeaderBytes) return cut_short(path, kHeaderBytes);
    STRATA_TRY(read(path, Offset{}, block));
    STRATA_ASSIGN(const StoreHeader header, decode_header(block.bytes(), found_[path].name));
    STRATA_TRY(check_header(header, expected_header(path), found_[path].name));
    if (!first) first = header;
    if (header.objects != first->objects || header.directory_checksum != first->directory_checksum) {
      return fail(
          ErrorCode::kStore,
          fmt::format("'{}' and '{}' are of different stores", found_[0].name.string(), found_[path].name.string()),
          "give the paths of one run");
    }
  }
  return *first;
}

Status Opening::check_objects(const StoreHeader& header) {
  const Bytes room = found_[0].size - std::min(found_[0].size, layout_->directory.offset - Offset{});
  if (header.objects > room / directory_size(1)) return cut_short(0, layout_->directory.end() - Offset{});
  AlignedBuffer directory(directory_size(header.objects));
  if (directory.size() > room) return cut_short(0, (layout_->directory.offset - Offset{}) + directory.size());
  if (directory.size().value != 0) STRATA_TRY(read(0, layout_->directory.offset, directory));
  if (checksum(directory.bytes()) != header.directory_checksum) {
    return fail(ErrorCode::kStore, fmt::format("'{}' has a damaged directory", found_[0].name.string()),
                "resume from a checkpoint, or start a new run");
  }
  return check_directory(directory.bytes(), header.objects, objects_, found_[0].name);
}

Status Opening::check_sizes() const {
  for (std::size_t path = 0; path < files_.size(); ++path) {
    const PathLayout& layout = layout_->paths[path];
    if (found_[path].size < layout.slots_end - Offset{}) return cut_short(path, layout.slots_end - Offset{});
    if (found_[path].size >= layout.size) continue;
    // More scratch than the run had before.
    STRATA_ASSIGN(const io::File file, io::open_file(found_[path].name, {.access = io::Access::kReadWrite,
                                                                         .creation = io::Creation::kMustExist}));
    STRATA_TRY(io::preallocate(file, layout.size));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<StateStore>> StoreFactory::create(const StoreOptions& options,
                                                         std::span<const StoreObject> objects, io::Engine& engine,
                                                         const StoreHooks& hooks) {
  STRATA_ASSIGN(StoreParts parts, Opening(options, objects, engine, hooks).create());
  return std::unique_ptr<StateStore>(new StateStore(std::make_unique<StateStore::Impl>(std::move(parts))));
}

Result<std::unique_ptr<StateStore>> StoreFactory::open(const StoreOptions& options,
                                                       std::span<const StoreObject> objects, io::Engine& engine,
                                                       const StoreHooks& hooks) {
  STRATA_ASSIGN(StoreParts parts, Opening(options, objects, engine, hooks).open());
  return std::unique_ptr<StateStore>(new StateStore(std::make_unique<StateStore::Impl>(std::move(parts))));
}

Result<std::unique_ptr<StateStore>> StateStore::create(const StoreOptions& options,
                                                       std::span<const StoreObject> objects, io::Engine& engine) {
  return StoreFactory::create(options, objects, engine, {});
}

Result<std::unique_ptr<StateStore>> StateStore::open(const StoreOptions& options, std::span<const StoreObject> objects,
                                                     io::Engine& engine) {
  return StoreFactory::open(options, objects, engine, {});
}

}  // namespace strata::tiers
