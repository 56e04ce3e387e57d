// The parts of a loaded tokenizer; private to this room.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "rlhf/text/added_tokens.h"
#include "rlhf/text/decoder.h"
#include "rlhf/text/normalizer.h"
#include "rlhf/text/post_processor.h"
#include "rlhf/text/pre_tokenizer.h"
#include "rlhf/text/token_model.h"
#include "rlhf/text/tokenizer.h"
#include "rlhf/text/word_cache.h"

namespace rlhf {

/// What one thread needs while it encodes; kept for the next call.
struct EncodeWorkspace {
  std::vector<AddedTokens::Span> raw_spans;
  std::vector<AddedTokens::Span> spans;
  std::string normalized;
  PreTokens tokens;
  ModelScratch scratch;
  WordCache cache;
};

/// Lends workspaces out; as many exist as were ever in use at once.
class WorkspacePool {
 public:
  class Loan {
   public:
    explicit Loan(WorkspacePool& pool) : pool_(pool), workspace_(pool.take()) {}
    ~Loan() { pool_.give_back(std::move(workspace_)); }
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    EncodeWorkspace& operator*() { return *workspace_; }

   private:
    WorkspacePool& pool_;
    std::unique_ptr<EncodeWorkspace> workspace_;
  };

 private:
  std::unique_ptr<EncodeWorkspace> take();
  void give_back(std::unique_ptr<EncodeWorkspace> workspace);

  std::mutex mutex_;
  std::vector<std::unique_ptr<EncodeWorkspace>> free_;
};

struct Tokenizer::Impl {
  Json config = Json::object();
  std::string chat_template;
  std::unique_ptr<TokenModel> model;
  AddedTokens added;
  std::unique_ptr<Normalizer> normalizer;
  PreTokenizerStages stages;
  PostProcessor post_processor;
  Decoder decoder;
  std::map<std::string, std::string, std::less<>> names;  ///< `bos_token` to its text
  mutable WorkspacePool pool;

  /// The token of an id; empty text for none (`*known` says which).
  std::string_view token(int32_t id, bool* known) const;
  std::optional<int32_t> id(std::string_view token) const;
  std::optional<int32_t> named_id(std::string_view name) const;
  std::string named_token(std::string_view name) const;
  void encode(std::string_view text, bool add_special_tokens, EncodeWorkspace& work,
              std::vector<int32_t>& out) const;

 private:
  void encode_gap(std::string_view gap, bool at_start, EncodeWorkspace& work,
                  std::vector<int32_t>& out) const;
  void encode_piece(std::string_view piece, EncodeWorkspace& work, std::vector<int32_t>& out) const;
};

/// What stands beside tokenizer.json in a model folder.
struct TokenizerSurroundings {
  Json config = Json::object();  ///< tokenizer_config.json, with special_tokens_map.json merged in
  std::string model_type;        ///< of config.json
  std::string chat_template_file;  ///< contents of chat_template.jinja
};

/// Builds the parts. UserError with every problem found, in the form and in the references between
/// parts.
std::shared_ptr<const Tokenizer::Impl> build_tokenizer(TokenizerFile file,
                                                       TokenizerSurroundings around,
                                                       Problems& problems);

/// The tokenizer class that transformers would use, without `Fast`; empty where it takes
/// tokenizer.json as it is.
std::string rebuilding_class(const TokenizerFile& file, const Json& config,
                             std::string_view model_type);
/// Does to `file` what transformers' class of that name does.
void apply_class(std::string_view name, const Json& config, TokenizerFile& file);

}  // namespace rlhf
