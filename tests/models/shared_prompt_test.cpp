// A prompt that is computed once for several answers against the same prompt repeated: every
// family, forward and backward.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "rlhf/math/linear_logprobs.h"
#include "rlhf/nn/packed_batch.h"
#include "tests/models/cases.h"

namespace rlhf {
namespace {

constexpr int64_t kNoSharing = 0;
constexpr int64_t kAlways = std::numeric_limits<int64_t>::max();

/// Prompts and answers of chosen lengths, ids by formula. The caller's numbers count the answers.
class Texts {
 public:
  explicit Texts(int64_t vocabulary) : vocabulary_(vocabulary) {}

  void add(int64_t prompt, const std::vector<int64_t>& answers, bool scores_prompt = false) {
    prompts_.push_back({next(prompt), {}});
    for (const int64_t length : answers) prompts_.back().answers.push_back(next(length));
    scored_.push_back(scores_prompt);
  }

  PackedBatch pack(int64_t share_limit) const {
    std::vector<PackPrompt> packed;
    int64_t number = 0;
    for (size_t i = 0; i < prompts_.size(); ++i) {
      PackPrompt one{.ids = prompts_[i].ids, .answers = {}};
      for (const auto& answer : prompts_[i].answers) one.answers.push_back({answer, number++});
      if (scored_[i]) one.scored_as = number++;
      packed.push_back(std::move(one));
    }
    return batch_prompts(packed, share_limit);
  }

 private:
  struct Prompt {
    std::vector<int32_t> ids;
    std::vector<std::vector<int32_t>> answers;
  };

  std::vector<int32_t> next(int64_t length) {
    std::vector<int32_t> ids;
    for (int64_t t = 0; t < length; ++t) {
      const double uniform = testing::weight_value(/*name_hash=*/11, count_++, 0.5, 0.5);
      // 0 to 2 are special; the last one is left out for its rounding.
      ids.push_back(3 + static_cast<int32_t>(uniform * static_cast<double>(vocabulary_ - 4)));
    }
    return ids;
  }

  int64_t vocabulary_;
  uint64_t count_ = 0;
  std::vector<Prompt> prompts_;
  std::vector<bool> scored_;
};

/// The windows of the tiny models are 8 tokens. Behind 21 tokens of prompt an answer of 13 leaves
/// the prompt's sight on its way, one of 5 never does and no token of it sees the prompt's begin.
Texts long_texts(const DecoderConfig& config) {
  Texts texts(config.vocab_size);
  texts.add(21, {13, 5});
  texts.add(3, {1, 17, 2}, /*scores_prompt=*/true);
  texts.add(9, {4});
  texts.add(12, {8, 8}, /*scores_prompt=*/true);
  return texts;
}

/// Log-probabilities and the gradients of Σ g·log p, g in (−1, 1) by the row's and the token's
/// number.
struct Outcome {
  at::Tensor logprobs;
  std::vector<at::Tensor> gradients;
};
Outcome outcome_of(Decoder& decoder, const PackedBatch& batch) {
  PackedAttention attention(batch.segments);
  const auto hidden = decoder.forward(batch.ids, batch.positions, attention, batch.rows);
  Outcome outcome{linear_logprobs(hidden, decoder.head(), batch.targets).logprobs, {}};
  auto factors = at::empty({batch.scored()}, at::kDouble);
  for (int64_t r = 0; r < batch.scored(); ++r)
    factors[r] = testing::weight_value(/*name_hash=*/23, static_cast<uint64_t>(r), 0.0, 1.0);
  (outcome.logprobs * factors.to(outcome.logprobs.scalar_type())).sum().backward();
  for (const auto& [name, tensor] : decoder.tensors()) {
    outcome.gradients.push_back(tensor.grad().defined() ? tensor.grad().clone()
                                                        : at::zeros_like(tensor));
    tensor.mutable_grad() = at::Tensor();
  }
  outcome.logprobs = outcome.logprobs.detach();
  return outcome;
}

double largest(const at::Tensor& values) { return values.abs().max().item<double>(); }

/// `tolerance` is relative to the largest log-probability and to the largest entry of all
/// gradients.
void expect_near(const Decoder& decoder, const Outcome& got, const Outcome& expected,
                 double tolerance) {
  ASSERT_EQ(got.logprobs.sizes(), expected.logprobs.sizes());
  EXPECT_LE(largest(got.logprobs - expected.logprobs), tolerance * largest(expected.logprobs));
  double scale = 0.0;
  for (const auto& gradient : expected.gradients) scale = std::max(scale, largest(gradient));
  ASSERT_GT(scale, 0.0);
  for (size_t i = 0; i < got.gradients.size(); ++i) {
    EXPECT_LE(largest(got.gradients[i] - expected.gradients[i]), tolerance * scale)
        << decoder.tensors()[i].name;
  }
}

bool shares(const PackedBatch& batch) {
  return std::any_of(batch.segments.begin(), batch.segments.end(),
                     [](const auto& segment) { return segment.prefix >= 0; });
}

class SharedPromptTest : public ::testing::TestWithParam<std::string> {
 protected:
  Decoder make(at::ScalarType dtype = at::kFloat) const {
    auto decoder = testing::make_decoder(testing::find_case(GetParam()), dtype);
    decoder.set_requires_grad(true);
    return decoder;
  }
};

/// Families whose rows of any length may share, and those whose rotary angles depend on a row's
/// length.
class SharedPrompt : public SharedPromptTest {};
class LimitedSharedPrompt : public SharedPromptTest {};

// fp32: sums in another order, and two softmax parts merged where one was: 1e-5 of the largest
// entry.
TEST_P(SharedPrompt, IsTheRepeatedPrompt) {
  auto decoder = make();
  const auto texts = long_texts(decoder.config());
  const auto shared = texts.pack(decoder.config().shared_prefix_limit());
  ASSERT_TRUE(shares(shared));
  expect_near(decoder, outcome_of(decoder, shared), outcome_of(decoder, texts.pack(kNoSharing)),
              1e-5);
}

// Double: rounding alone is left, so a term that is missing or counted twice cannot hide.
TEST_P(SharedPrompt, IsTheRepeatedPromptInDouble) {
  auto decoder = make(at::kDouble);
  const auto texts = long_texts(decoder.config());
  expect_near(decoder, outcome_of(decoder, texts.pack(kAlways)),
              outcome_of(decoder, texts.pack(kNoSharing)), 1e-11);
}

// Where angles depend on a row's length, rows up to the limit share and longer ones do not: both
// stay exact, side by side.
TEST_P(LimitedSharedPrompt, AboveTheLimitThePromptIsRepeated) {
  auto decoder = make(at::kDouble);
  const int64_t limit = decoder.config().shared_prefix_limit();
  ASSERT_EQ(limit, 16) << "the tiny models' original_max_position_embeddings";
  const auto both = long_texts(decoder.config());
  EXPECT_EQ(shares(both.pack(limit)), false) << "every group holds a row of more than 16 tokens";

  Texts texts(decoder.config().vocab_size);
  texts.add(10, {6, 2});  // 16: shares
  texts.add(10, {7, 2});  // 17: does not
  texts.add(30, {10, 3});
  texts.add(5, {11, 4}, /*scores_prompt=*/true);
  const auto batch = texts.pack(limit);
  EXPECT_EQ(batch.tokens(), (10 + 6 + 2) + (17 + 12) + (40 + 33) + (5 + 11 + 4));
  expect_near(decoder, outcome_of(decoder, batch), outcome_of(decoder, texts.pack(kNoSharing)),
              1e-11);
  // The limit is not timid: beyond it sharing would give other numbers.
  const auto forced = outcome_of(decoder, texts.pack(kAlways));
  const auto exact = outcome_of(decoder, texts.pack(kNoSharing));
  EXPECT_GT(largest(forced.logprobs - exact.logprobs), 1e-3);
}

// The angles of rows up to the limit are the same whatever stands beside them.
TEST_P(LimitedSharedPrompt, UpToTheLimitAnyRowShares) {
  auto decoder = make();
  Texts texts(decoder.config().vocab_size);
  texts.add(10, {6, 2});
  texts.add(5, {11, 4});
  const auto shared = texts.pack(decoder.config().shared_prefix_limit());
  EXPECT_EQ(shared.tokens(), (10 + 6 + 2) + (5 + 11 + 4));
  expect_near(decoder, outcome_of(decoder, shared), outcome_of(decoder, texts.pack(kNoSharing)),
              1e-5);
}

std::vector<std::string> names(bool limited) {
  std::vector<std::string> out;
  for (const auto& one : testing::cases()) {
    if ((testing::config_of(one).shared_prefix_limit() < kAlways) == limited)
      out.push_back(one["name"].get<std::string>());
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(Models, SharedPrompt, ::testing::ValuesIn(names(/*limited=*/false)),
                         [](const auto& chosen) { return chosen.param; });
INSTANTIATE_TEST_SUITE_P(Models, LimitedSharedPrompt, ::testing::ValuesIn(names(/*limited=*/true)),
                         [](const auto& chosen) { return chosen.param; });

TEST(SharedPromptLimit, LengthMattersInTheseFamiliesAlone) {
  EXPECT_EQ(names(/*limited=*/true), (std::vector<std::string>{"llama_dynamic", "llama_longrope",
                                                               "phi3_version4_longrope"}));
}

}  // namespace
}  // namespace rlhf
