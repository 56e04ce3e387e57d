#include "rlhf/data/schema.h"

#include <gtest/gtest.h>

#include <array>

#include "tests/data/temporary.h"

namespace rlhf {
namespace {

Record record_of(std::string_view json) { return {Json::parse(json), "f.jsonl:1"}; }

constexpr std::array kAll = {RowType::unpaired, RowType::prompt_completion,  RowType::preference,
                             RowType::stepwise, RowType::language_modelling, RowType::prompt_only};

TEST(Schema, IsFoundFromTheColumns) {
  using enum RowType;
  using enum RowForm;
  const std::vector<std::pair<const char*, Schema>> cases = {
      {R"({"text": "a"})", {language_modelling, text}},
      {R"({"messages": [{"role": "user", "content": "a"}]})", {language_modelling, messages}},
      {R"({"input_ids": [1, 2]})", {language_modelling, ids}},
      {R"({"prompt": "a"})", {prompt_only, text}},
      {R"({"prompt": [{"role": "user", "content": "a"}]})", {prompt_only, messages}},
      {R"({"prompt_ids": [1]})", {prompt_only, ids}},
      {R"({"prompt": "a", "completion": "b"})", {prompt_completion, text}},
      {R"({"prompt": "a", "prompt_ids": [1], "completion_ids": [2]})", {prompt_completion, ids}},
      {R"({"prompt": "a", "chosen": "b", "rejected": "c"})", {preference, text}},
      {R"({"chosen": "b", "rejected": "c"})", {implicit_preference, text}},
      {R"({"prompt": "a", "chosen": [{"role": "user", "content": "a"}], "rejected": [{"role": "user", "content": "a"}]})",
       {implicit_preference, messages}},
      {R"({"prompt": "a", "completion": "b", "label": true})", {unpaired, text}},
      {R"({"prompt": "a", "completions": ["b"], "labels": [true]})", {stepwise, text}},
      {R"({"prompt": "a", "completion": null, "text": "b"})", {language_modelling, text}},
  };
  for (const auto& [json, expected] : cases) {
    const Record record = record_of(json);
    EXPECT_EQ(detect_schema(record, kAll), expected) << json;
    EXPECT_FALSE(check_row(record, expected).has_value())
        << json << check_row(record, expected)->text();
  }
}

TEST(Schema, FirstWantedTypeWins) {
  const Record ultra =
      record_of(R"({"prompt": "a", "messages": [{"role": "user", "content": "a"}]})");
  EXPECT_EQ(
      detect_schema(ultra, std::array{RowType::prompt_completion, RowType::language_modelling})
          .type,
      RowType::language_modelling);
  EXPECT_EQ(detect_schema(ultra, std::array{RowType::prompt_only}).type, RowType::prompt_only);
}

TEST(Schema, NamesColumnsFoundAndExpected) {
  const Record record = record_of(R"({"question": "a", "answer": "b"})");
  EXPECT_EQ(
      user_error([&] {
        detect_schema(record, std::array{RowType::prompt_completion, RowType::language_modelling});
      }),
      "[f.jsonl:1] columns `prompt` and `completion`, or `text` or `messages` were expected, got "
      "`question`, "
      "`answer`. HINT: rename columns with dataset_columns: {wanted_name: name_in_the_file}.");
}

TEST(Schema, ChecksEveryRow) {
  using enum RowType;
  using enum RowForm;
  const auto fault = [](Schema schema, std::string_view json) {
    const auto problem = check_row(record_of(json), schema);
    return problem ? problem->text() : "";
  };
  EXPECT_HAS(fault({prompt_completion, text}, R"({"prompt": "a"})"),
             "column `completion` was expected.");
  EXPECT_HAS(fault({prompt_completion, text}, R"({"prompt": "a", "completion": null})"),
             "column `completion`");
  EXPECT_HAS(fault({prompt_completion, text}, R"({"prompt": "a", "completion": 3})"),
             "to be text as in the first row");
  EXPECT_HAS(fault({language_modelling, messages}, R"({"messages": []})"), "got an empty list");
  EXPECT_HAS(fault({language_modelling, messages}, R"({"messages": [{"content": "a"}]})"),
             "with a `role`");
  EXPECT_HAS(fault({language_modelling, messages}, R"({"messages": [{"role": "user"}]})"),
             "to have a `content`");
  EXPECT_HAS(fault({language_modelling, messages},
                   R"({"messages": [{"role": "user", "content": [{"type": "image"}]}]})"),
             "parts of type `text` only");
  EXPECT_EQ(fault({language_modelling, messages},
                  R"({"messages": [{"role": "assistant", "tool_calls": [{}]}]})"),
            "");
  EXPECT_HAS(fault({language_modelling, ids}, R"({"input_ids": [1, -1]})"), "token ids, got -1");
  EXPECT_HAS(fault({language_modelling, ids}, R"({"input_ids": [1, 2], "labels": [-100]})"),
             "as many entries");
  EXPECT_HAS(fault({language_modelling, ids}, R"({"input_ids": [1, 2], "labels": [-100, 3]})"),
             "-100 or the id itself");
  EXPECT_HAS(
      fault({language_modelling, ids}, R"({"input_ids": [1, 2], "completion_mask": [0, 2]})"),
      "0 or 1, got 2");
  EXPECT_HAS(fault({unpaired, text}, R"({"prompt": "a", "completion": "b", "label": "yes"})"),
             "`label` was expected to be true or false, got \"yes\".");
  EXPECT_HAS(fault({unpaired, text}, R"({"prompt": "a", "completion": "b", "label": 2})"),
             "got 2.");
  EXPECT_HAS(fault({unpaired, text}, R"({"prompt": "a", "completion": "b"})"), "got none.");
  EXPECT_HAS(
      fault({stepwise, text}, R"({"prompt": "a", "completions": ["b", "c"], "labels": [true]})"),
      "a label for each of the 2 steps, got 1.");
  EXPECT_HAS(fault({stepwise, text}, R"({"prompt": "a", "completions": ["b"], "labels": true})"),
             "1 steps, got boolean.");
  EXPECT_HAS(fault({stepwise, text}, R"({"prompt": "a", "completions": ["b", "c"],
                                         "labels": [true, 0.5]})"),
             "`labels[1]` was expected to be true or false, got 0.5.");
  EXPECT_HAS(fault({stepwise, text}, R"({"prompt": "a", "completions": ["b", 3],
                                         "labels": [true, true]})"),
             "`completions[1]` was expected to be text");
  EXPECT_HAS(fault({preference, messages}, R"({"prompt": [{"role": "user", "content": "a"}],
                                               "chosen": "b", "rejected": "c"})"),
             "`chosen` was expected to be a list of messages");
  EXPECT_HAS(fault({prompt_only, messages},
                   R"({"prompt": [{"role": "user", "content": "a"}], "tools": 3})"),
             "`tools`");
  EXPECT_HAS(fault({prompt_only, text}, R"({"prompt": [{"role": "user", "content": "a"}]})"),
             "every row must be");
}

Json reshaped(std::string_view json, const RowReshape& reshape = {}) {
  Record record = record_of(json);
  const auto problem = reshape_row(record, reshape);
  return problem ? Json(problem->text()) : record.row;
}

TEST(Reshape, ConvertsShareGpt) {
  EXPECT_EQ(
      reshaped(R"({"system": "s", "conversations": [
      {"from": "human", "value": "q"}, {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"},
      {"from": "observation", "value": "1"}, {"from": "gpt", "value": "a", "weight": 0}], "id": 3})"),
      Json::parse(
          R"({"id": 3, "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"},
      {"role": "assistant", "content": "",
       "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]},
      {"role": "tool", "content": "1"}, {"role": "assistant", "content": "a", "weight": 0}]})"));
}

TEST(Reshape, ConvertsShareGptPreferences) {
  EXPECT_EQ(reshaped(R"({"conversations": [{"from": "human", "value": "q"}],
                         "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}})"),
            Json::parse(R"({"chosen": [{"role": "assistant", "content": "a"}],
                            "rejected": [{"role": "assistant", "content": "b"}],
                            "prompt": [{"role": "user", "content": "q"}]})"));
}

TEST(Reshape, ConvertsAlpaca) {
  EXPECT_EQ(
      reshaped(
          R"({"instruction": "i", "input": "x", "output": "o", "system": "s", "history": [["q", "a"]]})"),
      Json::parse(
          R"({"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"},
                {"role": "assistant", "content": "a"}, {"role": "user", "content": "i\nx"}],
                "completion": [{"role": "assistant", "content": "o"}]})"));
  EXPECT_EQ(reshaped(R"({"instruction": "i", "input": "", "output": "o"})")["prompt"],
            Json::parse(R"([{"role": "user", "content": "i"}])"));
  EXPECT_HAS(reshaped(R"({"instruction": 3})").get<std::string>(),
             "`instruction` was expected to be text");
}

TEST(Reshape, RenamesAndSelects) {
  EXPECT_EQ(reshaped(R"({"question": "q", "answer": "a", "n": 1})",
                     {.rename = {{"prompt", "question"}, {"completion", "answer"}}}),
            Json::parse(R"({"n": 1, "completion": "a", "prompt": "q"})"));
  EXPECT_EQ(reshaped(R"({"a": 1, "b": 2})", {.rename = {{"a", "b"}, {"b", "a"}}}),
            Json::parse(R"({"a": 2, "b": 1})"));
  EXPECT_EQ(reshaped(R"({"a": 1, "b": 2})", {.select = {"b"}}), Json::parse(R"({"b": 2})"));
  EXPECT_HAS(reshaped(R"({"a": 1})", {.rename = {{"prompt", "q"}}}).get<std::string>(),
             "column `q` (to become `prompt`)");
  EXPECT_HAS(reshaped(R"({"a": 1, "prompt": 2})", {.rename = {{"prompt", "a"}}}).get<std::string>(),
             "has already");
}

TEST(Reshape, ParsesToolsGivenAsText) {
  EXPECT_EQ(reshaped(R"({"text": "a", "tools": "[{\"name\": \"f\"}]"})")["tools"],
            Json::parse(R"([{"name": "f"}])"));
  EXPECT_HAS(reshaped(R"({"text": "a", "tools": "[{"})").get<std::string>(), "`tools`");
}

TEST(ImplicitPrompt, IsTheCommonBeginning) {
  // TRL's extract_prompt: a space before the split goes to the completions.
  const auto split = split_implicit_prompt("The sky is blue.", "The sky is green.");
  EXPECT_EQ(split.prompt, "The sky is");
  EXPECT_EQ(split.chosen, " blue.");
  EXPECT_EQ(split.rejected, " green.");
  const auto characters =
      split_implicit_prompt("caf\xC3\xA9", "caf\xC3\xA8");  // é and è share their first byte
  EXPECT_EQ(characters.prompt, "caf");
  const auto messages =
      split_implicit_prompt(Json::parse(R"([{"role": "user", "content": "q"}, {"role": "a"}])"),
                            Json::parse(R"([{"role": "user", "content": "q"}, {"role": "a"}])"));
  EXPECT_EQ(messages.prompt.size(), 1U);  // each keeps one message
  EXPECT_EQ(split_implicit_prompt(Json{1, 2, 3}, Json{1, 2}).prompt, (Json{1, 2}));
}

}  // namespace
}  // namespace rlhf
