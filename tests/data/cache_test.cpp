#include "rlhf/data/cache.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <numeric>

#include "rlhf/core/threads.h"
#include "rlhf/data/file_hashes.h"
#include "tests/data/temporary.h"

namespace rlhf {
namespace {

CacheRecipe recipe_in(const fs::path& folder, Json key = {{"k", 1}}) {
  return {.folder = folder,
          .key = std::move(key),
          .columns = {{"ids", ColumnType::int32}, {"mask", ColumnType::uint8}}};
}

/// Row r of shard s has s + r ids and r mask bytes.
void fill_shard(int64_t shard, ShardBuilder& builder) {
  for (int64_t row = 0; row < 3; ++row) {
    std::vector<int32_t> ids(static_cast<size_t>(shard + row));
    std::iota(ids.begin(), ids.end(), static_cast<int32_t>(100 * shard + row));
    builder.put(0, ids);
    builder.put(1, std::vector<uint8_t>(static_cast<size_t>(row), static_cast<uint8_t>(shard)));
    builder.end_row();
  }
  builder.set_note({{"shard", shard}});
}

bool fill(int64_t shard, ShardBuilder& builder) {
  fill_shard(shard, builder);
  return true;
}

std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file())
      files[fs::relative(entry.path(), folder).string()] = read_file(entry.path());
  }
  return files;
}

TEST(Cache, GivesBackWhatWasPut) {
  const TemporaryFolder folder;
  const auto cache = build_cache(recipe_in(folder.path()), /*shards=*/5, fill);
  ASSERT_NE(cache, nullptr);
  EXPECT_EQ(cache->rows(), 15);
  const size_t ids = cache->column("ids");
  const size_t mask = cache->column("mask");
  for (int64_t row = 0; row < 15; ++row) {
    const int64_t shard = row / 3;
    ASSERT_EQ(cache->length(ids, row), shard + row % 3);
    if (cache->length(ids, row) > 0) {
      EXPECT_EQ(cache->int32s(ids, row).front(), 100 * shard + row % 3);
    }
    ASSERT_EQ(cache->bytes(mask, row).size(), static_cast<size_t>(row % 3));
    for (const uint8_t value : cache->bytes(mask, row)) EXPECT_EQ(value, shard);
  }
  EXPECT_EQ(cache->notes()[4], (Json{{"shard", 4}}));
  EXPECT_THROW(cache->int32s(ids, 15), Error);
  EXPECT_THROW(cache->int32s(mask, 0), Error);
  EXPECT_THROW(cache->column("other"), Error);
}

TEST(Cache, IsFoundByItsKeyAlone) {
  const TemporaryFolder folder;
  EXPECT_EQ(find_cache(recipe_in(folder.path())), nullptr);
  build_cache(recipe_in(folder.path()), /*shards=*/2, fill);
  EXPECT_NE(find_cache(recipe_in(folder.path())), nullptr);
  EXPECT_EQ(find_cache(recipe_in(folder.path(), {{"k", 2}})), nullptr);
  std::atomic<int> calls{0};
  build_cache(recipe_in(folder.path()), /*shards=*/2, [&](int64_t, ShardBuilder&) {
    ++calls;
    return true;
  });
  EXPECT_EQ(calls, 0);
}

TEST(Cache, BuildAfterAKillGivesTheSameBytesAndKeepsFinishedShards) {
  const TemporaryFolder whole;
  const TemporaryFolder killed;
  build_cache(recipe_in(whole.path()), /*shards=*/6, fill);
  set_worker_threads(1);  // so that shards 0 to 3 are finished when 4 throws
  EXPECT_THROW(build_cache(recipe_in(killed.path()), /*shards=*/6,
                           [](int64_t shard, ShardBuilder& builder) {
                             if (shard == 4) throw std::runtime_error("killed");
                             return fill(shard, builder);
                           }),
               std::runtime_error);
  EXPECT_EQ(find_cache(recipe_in(killed.path())), nullptr);
  std::vector<int64_t> built;
  build_cache(recipe_in(killed.path()), /*shards=*/6, [&](int64_t shard, ShardBuilder& builder) {
    built.push_back(shard);
    return fill(shard, builder);
  });
  set_worker_threads(available_cores());
  EXPECT_EQ(built, (std::vector<int64_t>{4, 5}));
  EXPECT_EQ(contents(killed.path()), contents(whole.path()));
}

TEST(Cache, RebuildsAShardThatAKillLeftDamaged) {
  const TemporaryFolder whole;
  const TemporaryFolder killed;
  build_cache(recipe_in(whole.path()), /*shards=*/3, fill);
  EXPECT_THROW(build_cache(recipe_in(killed.path()), /*shards=*/3,
                           [](int64_t shard, ShardBuilder& builder) {
                             if (shard == 2) throw std::runtime_error("killed");
                             return fill(shard, builder);
                           }),
               std::runtime_error);
  for (const auto& entry : fs::recursive_directory_iterator(killed.path())) {
    if (entry.path().filename() != "000001.shard") continue;
    std::string bytes = read_file(entry.path());
    bytes[bytes.size() - 64] = 'x';  // a value, not the header
    write_file(entry.path(), bytes);
  }
  build_cache(recipe_in(killed.path()), /*shards=*/3, fill);
  EXPECT_EQ(contents(killed.path()), contents(whole.path()));
}

TEST(Cache, RefusedShardsLeaveNothing) {
  const TemporaryFolder folder;
  const auto cache =
      build_cache(recipe_in(folder.path()), /*shards=*/4, [](int64_t shard, ShardBuilder& builder) {
        fill_shard(shard, builder);
        return shard != 1;
      });
  EXPECT_EQ(cache, nullptr);
  EXPECT_EQ(contents(folder.path()).size(), 1U);  // the lock
}

TEST(Cache, DamageIsNoticedAndMended) {
  const TemporaryFolder folder;
  const auto recipe = recipe_in(folder.path());
  build_cache(recipe, /*shards=*/2, fill);
  const auto good = contents(folder.path());
  const auto damage = [&](const std::string& ending,
                          const std::function<void(std::string&)>& change) {
    for (const auto& [name, bytes] : good) {
      if (!name.ends_with(ending)) continue;
      std::string changed = bytes;
      change(changed);
      write_file(folder.path() / name, changed);
    }
    EXPECT_EQ(find_cache(recipe), nullptr);
    EXPECT_NE(build_cache(recipe, /*shards=*/2, fill), nullptr);
    EXPECT_EQ(contents(folder.path()), good);
  };
  damage("0.shard", [](std::string& bytes) { bytes.resize(bytes.size() - 1); });
  damage("0.shard", [](std::string& bytes) { bytes[0] = 'x'; });
  damage("1.shard", [](std::string& bytes) { bytes[16] ^= 1; });   // rows
  damage("1.shard", [](std::string& bytes) { bytes[130] ^= 1; });  // a column's place
  damage("1.shard", [](std::string& bytes) { bytes.clear(); });
  damage("manifest.json", [](std::string& bytes) { bytes.resize(bytes.size() / 2); });
}

void set_age(const fs::path& file, std::chrono::seconds age) {
  fs::last_write_time(file, fs::file_time_type::clock::now() - age);
}

TEST(FileHashes, AreRememberedWhileTheFileStays) {
  const TemporaryFolder folder;
  const fs::path cache = folder.path() / "cache";
  const fs::path file = folder.write("a.jsonl", "one");
  set_age(file, std::chrono::seconds(100));
  const std::string hash = hash_files(cache, {file}).front();
  EXPECT_EQ(hash, content_hash("one"));
  // A remembered hash is given without reading: it is planted here.
  Json known = Json::parse(read_file(cache / "hashes.json"));
  known[file.string()]["hash"] = "planted";
  write_file(cache / "hashes.json", known.dump());
  EXPECT_EQ(hash_files(cache, {file}).front(), "planted");
  // Same size, another time: read again.
  set_age(file, std::chrono::seconds(90));
  EXPECT_EQ(hash_files(cache, {file}).front(), hash);
}

TEST(FileHashes, OfYoungFilesAreNotRemembered) {
  const TemporaryFolder folder;
  const fs::path file = folder.write("a.jsonl", "one");
  EXPECT_EQ(hash_files(folder.path(), {file}).front(), content_hash("one"));
  EXPECT_FALSE(fs::exists(folder.path() / "hashes.json"));
}

TEST(UnchangedFiles, NoticeAChange) {
  const TemporaryFolder folder;
  const fs::path file = folder.write("a.jsonl", "one");
  const UnchangedFiles files({file});
  files.require();
  folder.write("a.jsonl", "two");
  EXPECT_HAS(user_error([&] { files.require(); }), "it has changed");
}

}  // namespace
}  // namespace rlhf
