#include "rlhf/text/chat_template.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "rlhf/core/error.h"
#include "tests/text/chat_template_fixtures.h"

namespace rlhf {
namespace {

std::string own_source(const std::string& name) {
  return read_file(fs::path(RLHF_FIXTURES) / "text" / name);
}

ChatTemplate own(const std::string& name) {
  return ChatTemplate::parse(own_source(name), name, {{"bos_token", "<s>"}, {"eos_token", "</s>"}})
      .with_clock(fixed_clock);
}

std::vector<std::string> spans_of(const RenderedChat& chat) {
  std::vector<std::string> out;
  for (const TextSpan& span : chat.assistant)
    out.push_back(chat.text.substr(span.begin, span.end - span.begin));
  return out;
}

std::vector<std::string> spans_of(const ChatTemplate& chat, Json messages) {
  ChatInput input;
  input.messages = std::move(messages);
  return spans_of(chat.render_with_spans(input));
}

std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const UserError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

/// Texts (and spans of marks) of one template against the record.
void expect_record(const Json& all, const std::string& name, const Json& record,
                   const std::string& source) {
  ASSERT_EQ(content_hash(source), record.at("hash").get<std::string>())
      << name << " is another version";
  const ChatTemplate chat =
      ChatTemplate::parse(source, name, record.at("specials")).with_clock(fixed_clock);
  for (size_t i = 0; i < all.at("cases").size(); ++i) {
    const ChatInput input = chat_input(all, all.at("cases")[i]);
    const Json& expected = record.at("outputs")[i];
    const std::string label = name + " " + all.at("cases")[i].dump().substr(0, 200);
    std::string got;
    try {
      got = chat.render(input);
    } catch (const UserError& error) {
      EXPECT_TRUE(expected.is_null()) << label << "\n" << error.what();
      continue;
    }
    if (expected.is_null()) {
      ADD_FAILURE() << label << "\nis refused by transformers, but gave\n" << got;
      continue;
    }
    EXPECT_EQ(got, expected[0].get<std::string>()) << label;
    if (!chat.has_generation_marks()) continue;
    std::vector<TextSpan> marks;
    for (const Json& mark : expected[1]) {
      const TextSpan span{mark[0].get<size_t>(), std::min(mark[1].get<size_t>(), got.size())};
      if (span.begin < span.end) marks.push_back(span);
    }
    EXPECT_EQ(chat.render_with_spans(input).assistant, marks) << label;
  }
}

TEST(ChatTemplate, OwnTemplatesGiveTransformersText) {
  const Json all = read_gz_json("template_own.json.gz");
  EXPECT_GE(all.at("templates").size(), 11U);
  for (const auto& [name, record] : all.at("templates").items())
    expect_record(all, name, record, own_source(name));
}

TEST(ChatTemplate, RealTemplatesGiveTransformersText) {
  const Json all = read_gz_json("template_outside.json.gz");
  int seen = 0;
  for (const auto& [name, record] : all.at("templates").items()) {
    const auto source = outside_template(name);
    if (!source) continue;
    ++seen;
    expect_record(all, name, record, *source);
  }
  if (!seen)
    GTEST_SKIP() << "set RLHF_TEMPLATES to a folder of *.jinja, RLHF_DATA to one with tokenizers";
}

using Texts = std::vector<std::string>;

/// Without white space at its ends, which marks place differently.
std::string bare(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \n");
  return begin == std::string::npos ? ""
                                    : text.substr(begin, text.find_last_not_of(" \n") - begin + 1);
}

/// The stretches of `text` that `spans` cover and `others` do not, without white space at their
/// ends.
std::vector<std::string> beyond(const std::string& text, const std::vector<TextSpan>& spans,
                                const std::vector<TextSpan>& others) {
  std::vector<std::string> out;
  std::vector<char> covered(text.size(), 0);
  for (const TextSpan& span : spans)
    std::fill(covered.begin() + span.begin, covered.begin() + span.end, 1);
  for (const TextSpan& span : others)
    std::fill(covered.begin() + span.begin, covered.begin() + span.end, 0);
  for (size_t at = 0; at < text.size(); ++at) {
    if (!covered[at]) continue;
    const size_t begin = at;
    while (at < text.size() && covered[at]) ++at;
    const std::string stretch = bare(text.substr(begin, at - begin));
    if (!stretch.empty()) out.push_back(stretch);
  }
  return out;
}

// TRL ships templates with marks beside the originals. Where both write the same text, the spans
// found without marks hold nothing beyond the marked ones, and these only what the generation
// prompt gives (the header, `<think>`) and white space.
TEST(ChatTemplate, SpansWithoutMarksAreThoseOfTheMarkedVariant) {
  static const std::vector<std::string> kPrompts = {
      "",        "<｜Assistant｜>", "<｜tool▁outputs▁end｜>", "<|start|>assistant",
      "<think>", "<think></think>", "<think>\n\n</think>"};
  const Json all = read_gz_json("template_outside.json.gz");
  int compared = 0;
  for (const auto& [name, record] : all.at("templates").items()) {
    if (!name.ends_with("_training.jinja")) continue;
    const std::string original = name.substr(0, name.size() - 15) + ".jinja";
    const auto source = outside_template(original);
    if (!source) continue;
    const ChatTemplate chat =
        ChatTemplate::parse(*source, original, record.at("specials")).with_clock(fixed_clock);
    for (size_t i = 0; i < all.at("cases").size(); ++i) {
      const Json& marked = record.at("outputs")[i];
      const Json& plain = all.at("templates").at(original).at("outputs")[i];
      const ChatInput input = chat_input(all, all.at("cases")[i]);
      const bool same = !marked.is_null() && !plain.is_null() && plain[0] == marked[0];
      if (!same || marked[1].empty() || input.continue_final_message) continue;
      const std::string label = original + " " + all.at("cases")[i].dump().substr(0, 120);
      const RenderedChat found = chat.render_with_spans(input);
      std::vector<TextSpan> marks;
      for (const Json& mark : marked[1])
        marks.push_back(TextSpan{mark[0].get<size_t>(), mark[1].get<size_t>()});
      ++compared;
      EXPECT_FALSE(found.assistant.empty()) << label;
      EXPECT_EQ(beyond(found.text, found.assistant, marks), Texts{}) << label;
      for (const std::string& extra : beyond(found.text, marks, found.assistant)) {
        EXPECT_NE(std::find(kPrompts.begin(), kPrompts.end(), extra), kPrompts.end())
            << label << ": " << extra;
      }
    }
  }
  if (!compared) GTEST_SKIP() << "set RLHF_TEMPLATES to a folder of *.jinja";
  EXPECT_GT(compared, 900);
}

const Json kTurns =
    Json::parse(R"([{"role": "system", "content": "S"}, {"role": "user", "content": "Q"},
  {"role": "assistant", "content": "A1"}, {"role": "user", "content": "R"}, {"role": "assistant", "content": "A2 "}])");
const Json kNoSystem =
    Json::parse(R"([{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A1"},
  {"role": "user", "content": "R"}, {"role": "assistant", "content": "A2"}])");

TEST(ChatTemplateSpans, KeepTheEndOfTurnAndNotTheHeaderNorTheLineAfter) {
  EXPECT_EQ(spans_of(own("template_chatml.jinja"), kTurns),
            (Texts{"A1<|im_end|>", "A2 <|im_end|>"}));
  EXPECT_EQ(spans_of(own("template_gemma.jinja"), kTurns),
            (Texts{"A1<end_of_turn>", "A2<end_of_turn>"}));
  EXPECT_EQ(spans_of(own("template_llama3.jinja"), kTurns),
            (Texts{"A1<|eot_id|>", "A2<|eot_id|>"}));
  EXPECT_EQ(spans_of(own("template_llama2.jinja"), kTurns), (Texts{" A1 </s>", " A2 </s>"}));
  EXPECT_EQ(spans_of(own("template_mistral.jinja"), kTurns), (Texts{" A1</s>", " A2</s>"}));
  EXPECT_EQ(spans_of(own("template_zephyr.jinja"), kNoSystem), (Texts{"A1</s>", "A2</s>"}));
}

TEST(ChatTemplateSpans, MarksWinAndAreTheSameWithoutThem) {
  EXPECT_EQ(spans_of(own("template_marked.jinja"), kTurns),
            spans_of(own("template_chatml.jinja"), kTurns));
  EXPECT_TRUE(own("template_marked.jinja").has_generation_marks());
}

TEST(ChatTemplateSpans, TextAfterTheLastTurnBelongsToIt) {
  EXPECT_EQ(spans_of(own("template_phi3.jinja"), kNoSystem),
            (Texts{"A1<|end|>", "A2<|end|>\n</s>"}));
}

TEST(ChatTemplateSpans, RewrittenHistoryKeepsEachTurnItsOwn) {
  const Json messages = Json::parse(R"([{"role": "user", "content": "Q"},
    {"role": "assistant", "content": "A1", "reasoning_content": "old"}, {"role": "user", "content": "R"},
    {"role": "assistant", "content": "A2", "reasoning_content": "new"}])");
  const ChatTemplate chat = own("template_reasoning.jinja");
  EXPECT_EQ(spans_of(chat, messages),
            (Texts{"A1<|im_end|>", "<think>\nnew\n</think>\n\nA2<|im_end|>"}));
  ChatInput input{.messages = messages};
  input.variables = {{"enable_thinking",
                      false}};  // the prompt opens and closes the block; here the turn has another
  EXPECT_EQ(spans_of(chat.render_with_spans(input)),
            (Texts{"A1<|im_end|>", "new\n</think>\n\nA2<|im_end|>"}));
  input.messages = kNoSystem;  // an empty block is the prompt's, not the model's
  EXPECT_EQ(spans_of(chat.render_with_spans(input)), (Texts{"A1<|im_end|>", "A2<|im_end|>"}));
}

TEST(ChatTemplateSpans, APrefilledPromptCoversWhatTheTurnHasOfIt) {
  EXPECT_EQ(spans_of(own("template_prefill.jinja"), kNoSystem), (Texts{"A1<|eos|>", "A2<|eos|>"}));
  const Json angle = Json::parse(
      R"([{"role": "user", "content": "Q"}, {"role": "assistant", "content": "<thin"}])");
  EXPECT_EQ(spans_of(own("template_prefill.jinja"), angle), (Texts{"<thin<|eos|>"}));
}

TEST(ChatTemplateSpans, ToolResultsInsideATurnAreNotTheModels) {
  const Json messages = Json::parse(R"([{"role": "user", "content": "Q"},
    {"role": "assistant", "content": "see", "tool_calls": [{"function": {"name": "f"}}]},
    {"role": "tool", "content": "42"}, {"role": "assistant", "content": "It is 42."}])");
  EXPECT_EQ(spans_of(own("template_folded.jinja"), messages),
            (Texts{"see<call>f</call>", "<end>", "It is 42.<end>"}));
}

TEST(ChatTemplateSpans, AHeaderThePromptLeavesOutIsStillNoneOfTheModels) {
  // After a tool result this template adds no prompt, yet the next turn opens with the header.
  const ChatTemplate chat = ChatTemplate::parse(
      "{% for m in messages %}{{ '<' + m.role + '>' + m.content + '<end>' }}{% endfor %}"
      "{% if add_generation_prompt and messages[-1].role != 'tool' %}{{ '<assistant>' }}{% endif "
      "%}",
      "t");
  const Json messages =
      Json::parse(R"([{"role": "user", "content": "Q"}, {"role": "assistant", "content": "call"},
    {"role": "tool", "content": "42"}, {"role": "assistant", "content": "It is 42."}])");
  EXPECT_EQ(spans_of(chat, messages), (Texts{"call<end>", "It is 42.<end>"}));
}

TEST(ChatTemplateSpans, ThePromptMayChangeHowTheLastMessageIsWritten) {
  const ChatTemplate chat = ChatTemplate::parse(
      "{{ messages[0].role[:0] }}{% for m in messages %}{% if loop.last and not "
      "add_generation_prompt %}"
      "{{ '<' + m.role + '>' + m.content + '<last>' }}{% else %}{{ '<' + m.role + '>' + m.content "
      "+ '<end>' }}"
      "{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
      "t");
  const Json messages =
      Json::parse(R"([{"role": "assistant", "content": "A"}, {"role": "user", "content": "Q"},
    {"role": "assistant", "content": "B"}])");
  EXPECT_EQ(spans_of(chat, messages), (Texts{"A<end>", "B<last>"}));
}

TEST(ChatTemplateSpans, AssistantMayBegin) {
  const Json messages = Json::parse(
      R"([{"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Q"}])");
  EXPECT_EQ(spans_of(own("template_chatml.jinja"), messages), (Texts{"Hello<|im_end|>"}));
  EXPECT_EQ(spans_of(own("template_gemma.jinja"), messages), (Texts{"Hello<end_of_turn>"}));
}

TEST(ChatTemplateSpans, AreNeverEmptyInSilence) {
  const auto spans_error = [](const std::string& source) {
    const ChatTemplate chat = ChatTemplate::parse(source, "t");
    return message_of([&] { spans_of(chat, kNoSystem); });
  };
  EXPECT_NE(spans_error("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}")
                .find("HINT"),
            std::string::npos);
  EXPECT_NE(spans_error("{{ messages | length }}").find("HINT"), std::string::npos);
  EXPECT_NE(spans_error("{% macro f(m) %}{% generation %}{{ m }}{% endgeneration %}{% endmacro %}"
                        "{% for m in messages %}{{ f(m.content) }}{% endfor %}")
                .find("HINT"),
            std::string::npos);
}

TEST(ChatTemplate, ContinuesTheFinalMessage) {
  ChatInput input{.messages = kNoSystem};
  input.continue_final_message = true;
  const RenderedChat chat = own("template_chatml.jinja").render_with_spans(input);
  EXPECT_TRUE(chat.text.ends_with("<|im_start|>assistant\nA2"));
  EXPECT_EQ(spans_of(chat), (Texts{"A1<|im_end|>", "A2"}));
  input.add_generation_prompt = true;
  EXPECT_NE(
      message_of([&] { own("template_chatml.jinja").render(input); }).find("exclude each other"),
      std::string::npos);
}

TEST(ChatTemplate, MessagesNameTemplateAndLine) {
  EXPECT_TRUE(message_of([] {
                ChatTemplate::parse("\n{% if %}", "my");
              }).starts_with("[chat_template my:2] "));
  const ChatTemplate chat = ChatTemplate::parse("a\nb {{ raise_exception('only users') }}", "my");
  const std::string message = message_of([&] { chat.render(ChatInput{.messages = kTurns}); });
  EXPECT_TRUE(message.starts_with("[chat_template my:2] ")) << message;
  EXPECT_NE(message.find("only users"), std::string::npos);
  EXPECT_NE(
      message_of([&] { chat.render(ChatInput{.messages = Json::parse("[1]")}); }).find("message 0"),
      std::string::npos);
}

}  // namespace
}  // namespace rlhf
