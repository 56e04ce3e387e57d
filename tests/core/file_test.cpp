#include "rlhf/core/file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

/// A folder of its own for each test.
class FileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "rlhf_file_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { fs::remove_all(root_); }

  fs::path root_;
};

TEST_F(FileTest, WritesWholeFilesAndReadsThemBack) {
  const fs::path path = root_ / "a.bin";
  const std::string bytes("one\0two\n", 8);
  write_file(path, bytes);
  EXPECT_EQ(read_file(path), bytes);
  write_file(path, "");
  EXPECT_EQ(read_file(path), "");
  EXPECT_EQ(std::distance(fs::directory_iterator(root_), fs::directory_iterator()), 1)
      << "a leftover beside the file";
}

TEST_F(FileTest, FailedWriteLeavesTheOldFile) {
  const fs::path path = root_ / "a.txt";
  write_file(path, "old");
  // The name of the file written aside is taken by a folder, so that it cannot be opened.
  fs::create_directory(root_ / "a.txt.unfinished");
  EXPECT_THROW(write_file(path, "new"), UserError);
  EXPECT_EQ(read_file(path), "old");
}

TEST_F(FileTest, Appends) {
  append_file(root_ / "log", "a\n");
  append_file(root_ / "log", "b\n");
  EXPECT_EQ(read_file(root_ / "log"), "a\nb\n");
}

TEST_F(FileTest, NamesWhatCannotBeRead) {
  try {
    read_file(root_ / "absent");
    FAIL();
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("absent"), std::string::npos);
  }
  EXPECT_THROW(read_file(root_), UserError) << "a folder is not a file";
  EXPECT_THROW(MappedFile{root_ / "absent"}, UserError);
  EXPECT_THROW(write_file(root_ / "no" / "folder", "x"), UserError);
}

TEST_F(FileTest, FolderAppearsOnCommitOnly) {
  const fs::path target = root_ / "checkpoint-1";
  {
    AtomicFolder folder(target);
    write_file(folder.path() / "state", "half");
    EXPECT_FALSE(fs::exists(target));
  }
  EXPECT_TRUE(fs::is_empty(root_)) << "what was not committed is removed";
  {
    AtomicFolder folder(target);
    write_file(folder.path() / "state", "1");
    folder.commit();
  }
  EXPECT_EQ(read_file(target / "state"), "1");
  EXPECT_EQ(std::distance(fs::directory_iterator(root_), fs::directory_iterator()), 1);
}

TEST_F(FileTest, FolderReplacesAnOlderOne) {
  const fs::path target = root_ / "final";
  for (const char* content : {"old", "new"}) {
    AtomicFolder folder(target);
    write_file(folder.path() / content, content);
    folder.commit();
  }
  EXPECT_FALSE(fs::exists(target / "old"));
  EXPECT_EQ(read_file(target / "new"), "new");
  EXPECT_EQ(std::distance(fs::directory_iterator(root_), fs::directory_iterator()), 1);
}

TEST_F(FileTest, FolderClearsWhatAKilledProcessLeft) {
  const fs::path target = root_ / "final";
  fs::create_directory(root_ / "final.unfinished");
  append_file(root_ / "final.unfinished" / "torn", "x");
  AtomicFolder folder(target);
  folder.commit();
  EXPECT_TRUE(fs::is_empty(target));
}

TEST_F(FileTest, MapsAndMoves) {
  append_file(root_ / "data", "hello");
  MappedFile file(root_ / "data");
  MappedFile moved = std::move(file);
  EXPECT_EQ(moved.text(), "hello");
  append_file(root_ / "empty", "");
  EXPECT_EQ(MappedFile(root_ / "empty").text(), "");
}

TEST_F(FileTest, HashesContent) {
  // XXH3_128bits of no bytes with seed 0, from xxHash's specification (section "XXH3 test
  // vectors").
  EXPECT_EQ(content_hash(""), "99aa06d3014798d86001c324468d497f");
  append_file(root_ / "data", "some bytes");
  EXPECT_EQ(content_hash_of_file(root_ / "data"), content_hash("some bytes"));
  EXPECT_NE(content_hash("some bytes"), content_hash("some byteS"));
}

TEST_F(FileTest, KnowsTheSpaceOfAFolderThatIsNotThereYet) {
  EXPECT_GT(free_space(root_ / "not" / "yet"), 0U);
  EXPECT_NO_THROW(require_space(root_ / "not" / "yet", 1, "a checkpoint"));
  EXPECT_THROW(require_space(root_, UINT64_MAX, "a checkpoint"), UserError);
}

}  // namespace
}  // namespace rlhf
