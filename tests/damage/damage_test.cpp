// Damaged tokenizers, templates, conversations, rows, configurations and flags: each is read or
// refused as the user's fault, never with another exception, a crash or a hang.
#include "tests/damage/damage.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <sstream>

#include "rlhf/config/sft_config.h"
#include "rlhf/core/file.h"
#include "rlhf/core/options_args.h"
#include "rlhf/data/encode.h"
#include "rlhf/data/source.h"
#include "rlhf/text/chat_template.h"
#include "rlhf/text/tokenizer.h"
#include "tests/support/gzip.h"

namespace rlhf {
namespace {

fs::path fixtures() { return RLHF_FIXTURES; }

/// Files of that name or ending below `folder`, in order.
std::vector<fs::path> files(const fs::path& folder, std::string_view ending) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().string().ends_with(ending)) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

class Damage : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "rlhf_damage_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path write(const std::string& name, std::string_view text) const {
    std::ofstream(folder_ / name, std::ios::binary)
        << text;  // write_file() would wait for the disk
    return folder_ / name;
  }

  fs::path folder_;
};

TEST_F(Damage, Tokenizers) {
  Verdicts verdicts;
  constexpr int kRounds = 25;
  uint64_t stream = 0;
  for (const fs::path& path : files(fixtures() / "text", "tokenizer.json.gz")) {
    const std::string whole = read_gzip(path);
    const std::string config = read_file(path.parent_path() / "tokenizer_config.json");
    const Json whole_json = Json::parse(whole);
    const Json config_json = Json::parse(config);
    Random random(1, {++stream});
    for (int round = 0; round < kRounds; ++round) {
      std::string tokenizer = whole;
      std::string beside = config;
      switch (random.below(4)) {
        case 0:
          tokenizer = damaged(whole, random);
          break;
        case 1:
          tokenizer = damaged(whole_json, random).dump();
          break;
        case 2:
          beside = damaged(config, random);
          break;
        default:
          beside = damaged(config_json, random).dump();
      }
      write("tokenizer.json", tokenizer);
      write("tokenizer_config.json", beside);
      verdicts.expect(path.string() + "\n" + beside + "\n" + tokenizer, [&] {
        const Tokenizer loaded = Tokenizer::load(folder_);
        loaded.decode(std::vector<int32_t>{-1, 0, 7, 1 << 30}, /*skip_special_tokens=*/false);
        const auto ids = loaded.encode("Hello  w\u00f6rld <s></s> \u4e2d\U0001F600\n1234", true);
        loaded.decode(ids, /*skip_special_tokens=*/true);
      });
    }
  }
  verdicts.expect_both(0.01);
}

TEST_F(Damage, TemplatesAndConversations) {
  Verdicts verdicts;
  constexpr int kRounds = 60;
  const Json recorded = read_gzip_json(fixtures() / "text" / "template_own.json.gz");
  std::vector<Json> conversations;
  for (const auto& [name, messages] : recorded.at("conversations").items()) {
    conversations.push_back(messages);
  }
  const Json specials = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  uint64_t stream = 0;
  for (const fs::path& path : files(fixtures() / "text", ".jinja")) {
    const std::string whole = read_file(path);
    Random random(2, {++stream});
    for (int round = 0; round < kRounds; ++round) {
      ChatInput input;
      input.messages = conversations[random.below(conversations.size())];
      input.add_generation_prompt = random.below(2) == 0;
      std::string source = whole;
      if (random.below(2) == 0) {
        source = damaged(whole, random);
      } else {
        input.messages = damaged(input.messages, random);
        if (random.below(4) == 0) input.tools = damaged(recorded.at("cases"), random);
      }
      const std::string shown = source + "\n" + input.messages.dump();
      verdicts.expect(
          shown, [&] { ChatTemplate::parse(source, "damaged.jinja", specials).render(input); });
      verdicts.expect(shown, [&] {
        ChatTemplate::parse(source, "damaged.jinja", specials).render_with_spans(input);
      });
    }
  }
  verdicts.expect_both(0.01);
}

/// One row of every type and form.
constexpr std::string_view kRows[] = {
    R"({"text": "The sky is blue."})",
    R"({"input_ids": [5, 6, 7], "completion_mask": [0, 1, 1]})",
    R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]})",
    R"({"prompt": "2+2=", "completion": "4"})",
    R"({"prompt_ids": [5, 6], "completion_ids": [7, 8]})",
    R"({"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Hello"}]})",
    R"({"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."})",
    R"({"chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "a"}], "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "b"}]})",
    R"({"prompt": "Sky?", "completion": "Blue.", "label": true})",
    R"({"prompt": "1+1+1?", "completions": ["1+1=2", "2+1=3"], "labels": [true, false]})",
    R"({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]})",
    R"({"instruction": "Add.", "input": "1 2", "output": "3"})",
};

/// Reads and encodes every row of a file; the problem of a row is thrown.
void read_rows(const fs::path& path, const Encoder& encoder) {
  DataSource source;
  source.path = path;
  DataSpec spec;
  spec.sources = {source};
  constexpr RowType kWanted[] = {RowType::preference,         RowType::unpaired,
                                 RowType::stepwise,           RowType::prompt_completion,
                                 RowType::language_modelling, RowType::prompt_only};
  const RowSet set(spec, kWanted);
  RowSet::Cursor cursor(set);
  std::map<std::string, Tally> notices;
  for (int64_t row = 0; row < set.rows(); ++row) {
    Record record;
    if (const auto problem = cursor.read(row, record)) throw UserError({*problem});
    const Schema schema = set.schema(row);
    switch (schema.type) {
      case RowType::preference:
      case RowType::implicit_preference:
        encoder.pair(record, schema);
        break;
      case RowType::prompt_only:
        encoder.prompt(record, schema);
        break;
      case RowType::language_modelling:
      case RowType::prompt_completion:
        encoder.sft(record, schema, notices);
        break;
      case RowType::unpaired:
      case RowType::stepwise:
        break;  // read and checked
    }
  }
}

TEST_F(Damage, Rows) {
  Verdicts verdicts;
  constexpr int kRounds = 80;
  const fs::path model = fixtures() / "data" / "byte_level";
  const Tokenizer tokenizer = Tokenizer::load(model);
  const ChatTemplate chat = ChatTemplate::parse(tokenizer.chat_template(), "chat");
  const Encoder encoder(tokenizer, &chat, EncodeOptions{});
  uint64_t stream = 0;
  for (const std::string_view row : kRows) {
    const std::string line = std::string(row) + "\n";
    read_rows(write("rows.jsonl", line), encoder);  // undamaged
    Random random(3, {++stream});
    for (int round = 0; round < kRounds; ++round) {
      std::string text;
      switch (random.below(3)) {
        case 0:  // a bad row among good ones
          text = line + damaged(line, random) + line;
          break;
        case 1:
          text = line + damaged(Json::parse(row), random).dump() + "\n";
          break;
        default:  // the schema comes from the damaged row; the file may be an array
          text = fmt::format("[{}, {}]", damaged(line, random), line);
          text = text.substr(random.below(2));
      }
      const fs::path path = write("rows.jsonl", text);
      verdicts.expect(text, [&] { read_rows(path, encoder); });
    }
  }
  verdicts.expect_both(0.01);
}

TEST_F(Damage, ConfigurationsAndFlags) {
  Verdicts verdicts;
  constexpr int kRounds = 800;
  std::vector<std::string> lines;  // every option, and nested ones
  std::istringstream resolved(resolved_yaml(SftConfig()));
  for (std::string line; std::getline(resolved, line);) lines.push_back(line + "\n");
  lines.push_back("model_init_kwargs: {a: [1, {b: 2}]}\n");
  const std::string nested = "datasets:\n- path: a.jsonl\n  columns: [x, y]\n- {path: b.jsonl}\n";
  const std::vector<std::string> words = {
      "--learning_rate", "1e-5",        "--report_to",     "[none]",      "--packing",
      "--datasets",      "[{path: a}]", "--max-length=12", "--no_packing"};
  Random random(4, {1});
  for (int round = 0; round < kRounds; ++round) {
    std::string yaml = round % 2 == 0 ? nested : "";
    for (int line = 0; line < 6; ++line) yaml += lines[random.below(lines.size())];
    yaml = damaged(yaml, random);
    std::vector<std::string> args = {"--config", write("run.yaml", yaml).string()};
    if (round % 3 == 0) {
      args.push_back(damaged(words[random.below(words.size())], random));
      args.push_back(damaged(words[random.below(words.size())], random));
    }
    verdicts.expect(yaml, [&] {
      SftConfig config;
      OptionSet set;
      declare(set, config);
      parse_arguments(set, args);
      resolve(config, nullptr);
      Problems problems;
      validate(config, problems);
      resolved_yaml(config);
      resolved_table(config);
    });
  }
  verdicts.expect_both(0.01);
}

}  // namespace
}  // namespace rlhf
