#include "rlhf/data/encode.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/data/model_folder.h"
#include "tests/data/temporary.h"

namespace rlhf {
namespace {

using Ids = std::vector<int32_t>;

const ModelFolder& model(const std::string& name) {
  static std::map<std::string, ModelFolder> models;
  return models.try_emplace(name, name).first->second;
}

Encoder encoder_of(const std::string& name, EncodeOptions options = {}) {
  return {model(name).tokenizer, &*model(name).chat, std::move(options)};
}

Record record_of(Json row) { return {std::move(row), "f.jsonl:1"}; }

constexpr Schema kPairs{RowType::prompt_completion, RowForm::text};
constexpr Schema kText{RowType::language_modelling, RowForm::text};
constexpr Schema kChats{RowType::language_modelling, RowForm::messages};
constexpr Schema kChatPairs{RowType::prompt_completion, RowForm::messages};

EncodedRow sft(const Encoder& encoder, const Schema& schema, Json row) {
  std::map<std::string, Tally> notices;
  return encoder.sft(record_of(std::move(row)), schema, notices);
}

Json message(const char* role, const std::string& content) {
  Json json = Json::object();
  json["role"] = role;
  json["content"] = content;
  return json;
}

Ids learned(const EncodedRow& row) {
  Ids ids;
  for (size_t i = 0; i < row.ids.size(); ++i) {
    if (row.supervised[i] != 0) ids.push_back(row.ids[i]);
  }
  return ids;
}

constexpr const char* kModels[] = {"byte_level", "byte_level_bos", "dummy_prefix"};

// Seams that a tokenizer would merge across, or where it would add a space.
TEST(Encode, PromptIdsAreAPrefixAndTextSurvivesAtAnySeam) {
  const std::pair<const char*, const char*> seams[] = {
      {"the sky is ", "blue"},  {"the sky is", " blue"},
      {"the ca", "t sat"},      {"two plus.", "four"},
      {"white\n", "\nspace"},   {"日本", "語です"},
      {"what is 1", "00"},      {"empty", ""},
      {"", "all of it"},        {"space ", " and space"},
      {"caf", "\xC3\xA9 naive"}};
  for (const char* name : kModels) {
    const Encoder encoder = encoder_of(name);
    const Tokenizer& tokenizer = model(name).tokenizer;
    for (const auto& [prompt, completion] : seams) {
      const Record record = record_of({{"prompt", prompt}, {"completion", completion}});
      const Ids generation = encoder.prompt(record, {RowType::prompt_only, RowForm::text});
      const EncodedRow row = sft(encoder, kPairs, record.row);
      ASSERT_LE(generation.size(), row.ids.size());
      EXPECT_EQ(common_prefix_length(generation, row.ids), generation.size())
          << name << ": " << prompt;
      for (size_t i = 0; i < row.ids.size(); ++i)
        EXPECT_EQ(row.supervised[i], i >= generation.size());
      EXPECT_EQ(row.ids.back(), *tokenizer.eos_id());
      EXPECT_EQ(tokenizer.decode(row.ids, /*skip_special=*/true), std::string(prompt) + completion)
          << name;
    }
  }
}

TEST(Encode, ContinuationAddsNoSpaceThatTheTextLacks) {
  const Encoder encoder = encoder_of("dummy_prefix");
  const Tokenizer& tokenizer = model("dummy_prefix").tokenizer;
  const Ids apart = tokenizer.encode("blue");
  const Ids following = encoder.continuation("blue");
  EXPECT_NE(apart, following);
  // What a model would generate behind "is": the ids of the whole without those of the beginning.
  const Ids whole = tokenizer.encode("is\nblue");
  const Ids before = tokenizer.encode("is\n");
  EXPECT_EQ(Ids(whole.begin() + static_cast<std::ptrdiff_t>(before.size()), whole.end()),
            following);
}

TEST(Encode, ExactlyOneBos) {
  for (const char* name : {"byte_level_bos", "dummy_prefix"}) {
    const Encoder encoder = encoder_of(name);
    const int32_t bos = *model(name).tokenizer.bos_id();
    const auto bos_count = [&](const EncodedRow& row) {
      return std::count(row.ids.begin(), row.ids.end(), bos);
    };
    EXPECT_EQ(bos_count(sft(encoder, kText, {{"text", "the cat"}})), 1);
    EXPECT_EQ(bos_count(sft(encoder, kPairs, {{"prompt", "the"}, {"completion", " cat"}})), 1);
    // Text that carries BOS itself: one is kept, and the row is counted.
    std::map<std::string, Tally> notices;
    EXPECT_EQ(bos_count(encoder.sft(record_of({{"text", "<s>the cat"}}), kText, notices)), 1);
    EXPECT_EQ(notices.size(), 1U);
    // A template decides for itself: this one writes none, the other one.
    const Json chat = {{"messages", {message("user", "the"), message("assistant", "cat")}}};
    EXPECT_EQ(bos_count(sft(encoder, kChats, chat)), 0);
    const auto with_bos = ChatTemplate::parse("<s>" + model(name).tokenizer.chat_template(), "bos");
    EXPECT_EQ(bos_count(sft({model(name).tokenizer, &with_bos, {}}, kChats, chat)), 1);
  }
}

// pad_token is eos_token in these tokenizers.
TEST(Encode, EosIsSupervisedThoughItIsThePadToken) {
  for (const char* name : kModels) {
    const Tokenizer& tokenizer = model(name).tokenizer;
    ASSERT_EQ(tokenizer.pad_id(), tokenizer.eos_id());
    for (const char* completion : {" cat", "\n", "", " "}) {
      const EncodedRow row =
          sft(encoder_of(name), kPairs, {{"prompt", "the"}, {"completion", completion}});
      EXPECT_EQ(row.ids.back(), *tokenizer.eos_id());
      EXPECT_EQ(row.supervised.back(), 1);
      EXPECT_GT(row.predicted(), 0);
    }
  }
}

TEST(Encode, EosIsNotAppendedTwice) {
  const int32_t eos = *model("byte_level").tokenizer.eos_id();
  for (const char* text : {"the cat", "the cat<|endoftext|>"}) {
    const EncodedRow row = sft(encoder_of("byte_level"), kText, {{"text", text}});
    EXPECT_EQ(std::count(row.ids.begin(), row.ids.end(), eos), 1);
  }
  // A tokenizer whose post-processor ends a text with EOS.
  Json document = Json::parse(read_file(data_fixture("byte_level/tokenizer.json")));
  document["post_processor"] = Json::parse(R"({"type": "TemplateProcessing",
      "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}],
      "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
      "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}}})");
  const Json config = Json::parse(read_file(data_fixture("byte_level/tokenizer_config.json")));
  const Tokenizer ending = Tokenizer::from_json(document, config);
  const Encoder encoder(ending, nullptr, {});
  for (const char* text : {"the cat", "the cat<|endoftext|>"}) {
    const EncodedRow row = sft(encoder, kText, {{"text", text}});
    EXPECT_EQ(std::count(row.ids.begin(), row.ids.end(), eos), 1) << text;
    EXPECT_EQ(row.ids.back(), eos);
  }
}

TEST(Encode, AssistantSpansAreTheSameWithAndWithoutMarks) {
  const Json chat = {
      {"messages",
       {message("system", "tell"), message("user", "the capital?"), message("assistant", "Paris"),
        message("user", "and?"), message("assistant", "Berlin ")}}};
  for (const char* name : kModels) {
    const Tokenizer& tokenizer = model(name).tokenizer;
    const auto plain = ChatTemplate::parse(without_marks(tokenizer.chat_template()), "plain");
    const EncodeOptions options{.assistant_only_loss = true};
    const EncodedRow marked = sft(encoder_of(name, options), kChats, chat);
    const EncodedRow unmarked = sft({tokenizer, &plain, options}, kChats, chat);
    EXPECT_EQ(marked.ids, unmarked.ids);
    EXPECT_EQ(marked.supervised, unmarked.supervised);
    // The header and the line end behind the turn are not learned, the end of the turn is.
    EXPECT_EQ(tokenizer.decode(learned(marked), /*skip_special=*/false),
              "Paris<|im_end|>Berlin <|im_end|>")
        << name;
  }
}

TEST(Encode, TurnsBeginWhereGenerationWould) {
  const EncodeOptions options{.assistant_only_loss = true};
  for (const char* name : kModels) {
    const Encoder encoder = encoder_of(name, options);
    // The line end of the header and those of the answer would merge.
    const Json prompt = {message("user", "the dog")};
    const EncodedRow row =
        sft(encoder, kChats,
            {{"messages", {message("user", "the dog"), message("assistant", "\n\nsat")}}});
    const Ids generation =
        encoder.prompt(record_of({{"prompt", prompt}}), {RowType::prompt_only, RowForm::messages});
    EXPECT_EQ(common_prefix_length(generation, row.ids), generation.size()) << name;
    EXPECT_EQ(row.supervised[generation.size() - 1], 0);
    EXPECT_EQ(row.supervised[generation.size()], 1);
  }
}

TEST(Encode, RerenderedPromptsAreSplitAtTheCommonTokensAndCounted) {
  // A template whose generation prompt opens a think block that finished conversations lack.
  const Tokenizer& tokenizer = model("byte_level").tokenizer;
  const auto thinking =
      ChatTemplate::parse(replaced(tokenizer.chat_template(), "<|im_start|>assistant\n{% endif %}",
                                   "<|im_start|>assistant\n<think>{% endif %}"),
                          "thinking");
  const Encoder encoder(tokenizer, &thinking, {});
  const Record record = record_of(
      {{"prompt", {message("user", "the")}}, {"completion", {message("assistant", "cat")}}});
  std::map<std::string, Tally> notices;
  const EncodedRow row = encoder.sft(record, kChatPairs, notices);
  ASSERT_EQ(notices.size(), 1U);
  EXPECT_EQ(notices.begin()->second.examples, std::vector<std::string>{"f.jsonl:1"});
  EXPECT_EQ(tokenizer.decode(learned(row), /*skip_special=*/false), "cat<|im_end|>\n");
  const EncodedAnswer answer = encoder.answer(record, kChatPairs);
  EXPECT_TRUE(answer.rerendered);
  EXPECT_EQ(tokenizer.decode(answer.completion, /*skip_special=*/false), "cat<|im_end|>\n");
}

TEST(Encode, AnAssistantMessageAtTheEndOfAPromptIsContinued) {
  const Encoder encoder = encoder_of("byte_level");
  const Json prompt = {message("user", "the"), message("assistant", "cat")};
  const Ids ids =
      encoder.prompt(record_of({{"prompt", prompt}}), {RowType::prompt_only, RowForm::messages});
  EXPECT_EQ(model("byte_level").tokenizer.decode(ids, /*skip_special=*/false),
            "<|im_start|>user\nthe<|im_end|>\n<|im_start|>assistant\ncat");
}

TEST(Encode, PreferencePairsShareTheirPrompt) {
  for (const char* name : kModels) {
    const Encoder encoder = encoder_of(name);
    const Tokenizer& tokenizer = model(name).tokenizer;
    const auto text = [&](const Ids& ids) { return tokenizer.decode(ids, /*skip_special=*/true); };
    // "th" is common, and inside a token of one of the members: it belongs to the answers.
    const Record implicit =
        record_of({{"chosen", "the sky is the"}, {"rejected", "the sky is this"}});
    const EncodedPair pair = encoder.pair(implicit, {RowType::implicit_preference, RowForm::text});
    Ids chosen = pair.prompt;
    chosen.insert(chosen.end(), pair.chosen.begin(), pair.chosen.end());
    EXPECT_EQ(text(chosen), "the sky is the");
    Ids rejected = pair.prompt;
    rejected.insert(rejected.end(), pair.rejected.begin(), pair.rejected.end());
    EXPECT_EQ(text(rejected), "the sky is this");
    EXPECT_FALSE(pair.prompt.empty());
    EXPECT_EQ(pair.chosen.back(), *tokenizer.eos_id());
    EXPECT_EQ(pair.rejected.back(), *tokenizer.eos_id());

    const Record chats =
        record_of({{"chosen", {message("user", "q"), message("assistant", "a")}},
                   {"rejected", {message("user", "q"), message("assistant", "b")}}});
    const EncodedPair chat_pair =
        encoder.pair(chats, {RowType::implicit_preference, RowForm::messages});
    // Behind a special token the tokenizer with a space before every text puts one, as it does
    // everywhere.
    const std::string space = std::string(name) == "dummy_prefix" ? " " : "";
    EXPECT_EQ(tokenizer.decode(chat_pair.chosen, /*skip_special=*/false),
              "a<|im_end|>" + space + "\n");
    EXPECT_EQ(tokenizer.decode(chat_pair.rejected, /*skip_special=*/false),
              "b<|im_end|>" + space + "\n");
  }
  const Record ids = record_of({{"chosen_ids", {1, 2, 3}}, {"rejected_ids", {1, 2, 4, 5}}});
  const EncodedPair given =
      encoder_of("byte_level").pair(ids, {RowType::implicit_preference, RowForm::ids});
  EXPECT_EQ(given.prompt, (Ids{1, 2}));
  EXPECT_EQ(given.rejected, (Ids{4, 5}));
}

// A member's ids do not depend on the other member.
TEST(Encode, PreferenceMembersAreIndependent) {
  const Encoder encoder = encoder_of("byte_level");
  const auto chosen = [&](const char* rejected) {
    return encoder
        .pair(record_of({{"prompt", "the"}, {"chosen", " cat"}, {"rejected", rejected}}),
              {RowType::preference, RowForm::text})
        .chosen;
  };
  EXPECT_EQ(chosen(" dog"), chosen(" a much longer answer, which goes on and on"));
}

TEST(Encode, TakesGivenIds) {
  const Encoder encoder = encoder_of("byte_level");
  const auto mask = [&](Json row, bool whole) {
    return sft(encoder,
               {whole ? RowType::language_modelling : RowType::prompt_completion, RowForm::ids},
               std::move(row))
        .supervised;
  };
  using Mask = std::vector<uint8_t>;
  EXPECT_EQ(mask({{"input_ids", {5, 6, 7}}}, true), (Mask{1, 1, 1}));
  EXPECT_EQ(mask({{"input_ids", {5, 6, 7}}, {"labels", {-100, 6, -100}}}, true), (Mask{0, 1, 0}));
  EXPECT_EQ(mask({{"input_ids", {5, 6, 7}},
                  {"completion_mask", {0, 1, 1}},
                  {"assistant_masks", {1, 0, 1}}},
                 true),
            (Mask{0, 0, 1}));
  EXPECT_EQ(mask({{"prompt_ids", {5}}, {"completion_ids", {6, 7}}}, false), (Mask{0, 1, 1}));
}

TEST(Encode, SaysWhatIsMissing) {
  const Tokenizer& tokenizer = model("byte_level").tokenizer;
  const Encoder without_chat(tokenizer, nullptr, {});
  EXPECT_HAS(user_error([&] {
               sft(without_chat, kChats, {{"messages", {message("user", "a")}}});
             }),
             "chat template");
  EXPECT_HAS(user_error([&] { Encoder(tokenizer, nullptr, {.eos_token = "<nope>"}); }), "<nope>");
  EXPECT_HAS(user_error([&] { Encoder(tokenizer, nullptr, {.max_length = 1}); }), "max_length");
}

// Rows of 3 prompt and 3 answer tokens: what is left of them, and whether a learned token is.
TEST(Truncate, Table) {
  struct Case {
    int64_t max_length;
    TruncationMode mode;
    Ids ids;
    bool kept;
  };
  const Case cases[] = {
      {7, TruncationMode::keep_start, {1, 2, 3, 4, 5, 6}, true},
      {6, TruncationMode::keep_end, {1, 2, 3, 4, 5, 6}, true},
      {5, TruncationMode::keep_start, {1, 2, 3, 4, 5}, true},
      {4, TruncationMode::keep_start, {1, 2, 3, 4}, true},
      {3, TruncationMode::keep_start, {1, 2, 3}, false},
      {2, TruncationMode::keep_start, {1, 2}, false},
      {5, TruncationMode::keep_end, {2, 3, 4, 5, 6}, true},
      {2, TruncationMode::keep_end, {5, 6}, true},
  };
  for (const Case& c : cases) {
    EncodedRow row{.ids = {1, 2, 3, 4, 5, 6}, .supervised = {0, 0, 0, 1, 1, 1}};
    EXPECT_EQ(truncate_row(row, c.max_length, c.mode), c.kept);
    EXPECT_EQ(row.ids, c.ids);
    EXPECT_EQ(row.supervised.size(), row.ids.size());
    EXPECT_EQ(learned(row),
              Ids(std::find_if(c.ids.begin(), c.ids.end(), [](int32_t id) { return id > 3; }),
                  c.ids.end()));
  }
  // The only learned token comes first: nothing predicts it.
  EncodedRow row{.ids = {1, 2, 3}, .supervised = {0, 1, 0}};
  EXPECT_FALSE(truncate_row(row, 2, TruncationMode::keep_end));
}

}  // namespace
}  // namespace rlhf
