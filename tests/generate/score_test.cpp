// Rewards, step rewards and answers' log-probabilities: against transformers' scores
// (tools/make_reward_models.py), and against the same rows scored another way.
#include "rlhf/generate/score.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "rlhf/core/error.h"
#include "tests/models/cases.h"

namespace rlhf {
namespace {

using testing::find_case;
using testing::make_decoder;
using Ids = std::vector<int32_t>;

std::vector<Ids> rows_of(const Json& one) { return one["ids"].get<std::vector<Ids>>(); }

/// Of a whole row, as an answer without a prompt.
PackPrompt whole(const Ids& ids) { return {.ids = {}, .answers = {{.ids = ids}}}; }

class Rewards : public ::testing::TestWithParam<const char*> {
 protected:
  const Json& one() const { return find_case(GetParam()); }
};

// fp32 by other kernels; the promise to users is 1e-4.
TEST_P(Rewards, AreTransformersWhateverSharesThePass) {
  const auto decoder = make_decoder(one());
  const auto rows = rows_of(one());
  std::vector<PackPrompt> prompts;
  for (const auto& row : rows) prompts.push_back(whole(row));
  for (const int64_t budget : {1, 50, 8192}) {
    const auto found = rewards(decoder, prompts, {.max_tokens = budget});
    ASSERT_EQ(found.size(), rows.size());
    for (size_t i = 0; i < rows.size(); ++i) {
      EXPECT_NEAR(found[i], one()["scores"][i][0].get<double>(), 1e-5) << "row " << i;
    }
  }
}

// A shared prompt is exact; its attention is merged from two parts, so rounding differs.
TEST_P(Rewards, OfPairsAreThoseOfTheirRows) {
  const auto decoder = make_decoder(one());
  const auto rows = rows_of(one());
  // The longest row with another end.
  Ids other = rows[1];
  other.resize(other.size() - 5);
  other.back() = 9;
  const size_t seam = other.size() - 1;
  const std::span<const int32_t> chosen(rows[1]);
  const std::span<const int32_t> rejected(other);
  const std::vector<PackPrompt> pair = {
      {.ids = chosen.first(seam),
       .answers = {{.ids = chosen.subspan(seam)}, {.ids = rejected.subspan(seam)}}}};
  const auto found = rewards(decoder, pair);
  const auto alone = rewards(decoder, std::vector<PackPrompt>{whole(rows[1]), whole(other)});
  ASSERT_EQ(found.size(), 2U);
  EXPECT_NEAR(found[0], alone[0], 1e-5);
  EXPECT_NEAR(found[1], alone[1], 1e-5);
  EXPECT_NEAR(found[0], one()["scores"][1][0].get<double>(), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Models, Rewards,
                         ::testing::Values("llama_reward", "mistral_reward", "gemma2_reward",
                                           "qwen3_reward", "gpt2_reward", "gpt_neox_reward"),
                         [](const auto& chosen) { return std::string(chosen.param); });

TEST(Rewards, TakeTheLastTokenEvenIfItIsThePad) {
  // Nothing about ids: the row that ends with the padding id is scored there.
  const auto decoder = make_decoder(find_case("llama_reward"));
  Ids row = rows_of(find_case("llama_reward")).front();
  row.push_back(3);  // pad_token_id
  const auto packed = testing::pack({{row.begin(), row.end()}});
  PackedAttention attention(packed.segments);
  const auto scores =
      decoder.score(decoder.forward(packed.ids, packed.positions, attention));  // (T, 1)
  const auto found = rewards(decoder, std::vector<PackPrompt>{whole(row)});
  // One row goes through the head here and all of them there: on some CPUs such products sum in
  // another order.
  EXPECT_NEAR(found.front(), scores[-1][0].item<float>(), 1e-6);
  EXPECT_GT(std::abs(found.front() - scores[-2][0].item<float>()), 1e-3);
}

TEST(StepRewards, AreProbabilitiesOfLabelOneAtTheEnds) {
  const auto& one = find_case("llama_steps");
  const auto decoder = make_decoder(one);
  const auto rows = rows_of(one);
  const std::vector<StepsRow> steps = {{.ids = rows[0], .ends = {0, 8}},
                                       {.ids = rows[1], .ends = {}},
                                       {.ids = rows[2], .ends = {3, 10, 22}}};
  for (const int64_t budget : {1, 8192}) {
    const auto found = step_rewards(decoder, steps, {.max_tokens = budget});
    ASSERT_EQ(found.size(), 3U);
    for (size_t row = 0; row < steps.size(); ++row) {
      ASSERT_EQ(found[row].size(), steps[row].ends.size());
      for (size_t i = 0; i < found[row].size(); ++i) {
        // Two labels a token: σ(z₁ − z₀).
        const auto at = 2 * static_cast<size_t>(steps[row].ends[i]);
        const double wrong = one["scores"][row][at].get<double>();
        const double right = one["scores"][row][at + 1].get<double>();
        EXPECT_NEAR(found[row][i], 1.0 / (1.0 + std::exp(wrong - right)), 1e-5);
      }
    }
  }
  EXPECT_TRUE(
      step_rewards(decoder, std::vector<StepsRow>{{.ids = rows[0], .ends = {}}})[0].empty());
}

TEST(AnswerLogprobs, AreSumsOverTheAnswersTokens) {
  const auto& one = find_case("llama");
  const auto decoder = make_decoder(one);
  const auto rows = rows_of(one);
  // transformers' log-probabilities: element t is that of token t + 1.
  const auto sum_from = [&](size_t row, size_t token) {
    const auto logprobs = one["logprobs"][row].get<std::vector<double>>();
    return std::accumulate(logprobs.begin() + static_cast<std::ptrdiff_t>(token) - 1,
                           logprobs.end(), 0.0);
  };
  const std::span<const int32_t> first(rows[0]);
  const std::span<const int32_t> second(rows[1]);
  const Ids word = {1, 2};
  const std::vector<PackPrompt> prompts = {
      {.ids = first.first(4), .answers = {{.ids = first.subspan(4)}, {.ids = word}}},
      whole(rows[1]),
      {.ids = second.first(1), .answers = {{.ids = second.subspan(1)}}}};
  for (const int64_t budget : {1, 8192}) {
    const auto found = answer_logprobs(decoder, prompts, {.max_tokens = budget});
    ASSERT_EQ(found.size(), 4U);
    // Sums of up to 22 terms, each good to 1e-5.
    EXPECT_NEAR(found[0], sum_from(0, 4), 1e-4);
    EXPECT_NEAR(found[2], sum_from(1, 1), 2e-4);
    EXPECT_NEAR(found[3], sum_from(1, 1), 2e-4);
  }
  const Ids lone = {5};
  EXPECT_EQ(answer_logprobs(decoder, std::vector<PackPrompt>{whole(lone)}),
            std::vector<double>{0.0});
}

TEST(Score, WantsTheRightKindOfModel) {
  const Ids ids = {1, 2, 3};
  const std::vector<PackPrompt> prompts = {whole(ids)};
  const std::vector<StepsRow> steps = {{.ids = ids, .ends = {2}}};
  EXPECT_THROW(rewards(make_decoder(find_case("llama")), prompts), UserError);
  EXPECT_THROW(rewards(make_decoder(find_case("llama_three_labels")), prompts), UserError);
  EXPECT_THROW(rewards(make_decoder(find_case("llama_steps")), prompts), UserError);
  EXPECT_THROW(step_rewards(make_decoder(find_case("llama_reward")), steps), UserError);
  EXPECT_THROW(step_rewards(make_decoder(find_case("gpt_neox_steps")), steps), UserError);
  EXPECT_THROW(answer_logprobs(make_decoder(find_case("llama_reward")), prompts), UserError);
  const Ids beyond = {1, 96};
  EXPECT_THROW(
      rewards(make_decoder(find_case("llama_reward")), std::vector<PackPrompt>{whole(beyond)}),
      Error);
}

}  // namespace
}  // namespace rlhf
