// Hostile and odd tokenizer.json files of the BERT kind; ids of whole encoders are compared with
// Hugging Face's in similarity/encoder_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/json.h"
#include "text/bert_text.h"
#include "text/tokenizer.h"

namespace narrow::text {
namespace {

Json document() {
  return Json::parse(R"({
    "normalizer": {"type": "BertNormalizer", "lowercase": true, "strip_accents": null},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
    "added_tokens": [{"id": 3, "content": "[MASK]", "special": true, "lstrip": true, "rstrip": true}],
    "model": {"type": "WordPiece", "unk_token": "[UNK]", "max_input_chars_per_word": 6,
              "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[MASK]": 3,
                        "un": 4, "##aff": 5, "##able": 6, "u": 7, "!": 8, "##é": 9}}})");
}

std::vector<int32_t> encode(const Json& json, const std::string& text) {
  return Tokenizer::from_json(json.dump(), "")
      .encode(text, {.add_special = true, .parse_special = true});
}

std::string refusal(const Json& json) {
  try {
    Tokenizer::from_json(json.dump(), "");
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

using Ids = std::vector<int32_t>;

TEST(WordPiece, LongestPieceFirst) {
  EXPECT_EQ(encode(document(), "Unaff!"), (Ids{1, 4, 5, 8, 2}));
  EXPECT_EQ(encode(document(), ""), (Ids{1, 2}));
  EXPECT_EQ(encode(document(), "unx"), (Ids{1, 0, 2}));      // the rest is no piece: all unknown
  EXPECT_EQ(encode(document(), "unaffab"), (Ids{1, 0, 2}));  // seven characters
  EXPECT_EQ(encode(document(), "\xff un"), (Ids{1, 4, 2}));  // a broken byte is cleaned away
  EXPECT_EQ(encode(document(), "un  [MASK]\n u"), (Ids{1, 4, 3, 7, 2}));
}

TEST(WordPiece, Decodes) {
  const auto tokenizer = Tokenizer::from_json(document().dump(), "");
  EXPECT_EQ(tokenizer.decode(encode(document(), "unaff un!"), /*skip_special=*/true),
            "[CLS] unaff un ! [SEP]");  // neither is among the added tokens here
}

TEST(WordPiece, AddedTokensTakeTheirBlanks) {
  const auto pieces = [](bool left, bool right) {
    Json json = document();
    json["added_tokens"][0]["lstrip"] = left;
    json["added_tokens"][0]["rstrip"] = right;
    std::vector<std::string> texts;
    for (const auto& piece :
         Tokenizer::from_json(json.dump(), "").split_special("a \xC2\xA0[MASK]\t b"))
      texts.push_back(piece.text);
    return texts;
  };
  using testing::ElementsAre;
  EXPECT_THAT(pieces(false, false), ElementsAre("a \xC2\xA0", "[MASK]", "\t b"));
  EXPECT_THAT(pieces(true, false), ElementsAre("a", "[MASK]", "\t b"));
  EXPECT_THAT(pieces(false, true), ElementsAre("a \xC2\xA0", "[MASK]", "b"));
}

TEST(WordPiece, RefusesDamagedFiles) {
  EXPECT_EQ(refusal(document()), "");
  const auto with = [](const char* pointer, const Json& value) {
    Json json = document();
    json[Json::json_pointer(pointer)] = value;
    return refusal(json);
  };
  EXPECT_THAT(with("/model/unk_token", "?"), testing::HasSubstr("unk_token"));
  for (const Json& value : {Json(0), Json(-1), Json(1 << 20), Json("x")})
    EXPECT_THAT(with("/model/max_input_chars_per_word", value),
                testing::HasSubstr("max_input_chars_per_word"));
  EXPECT_THAT(with("/model/vocab", Json::array()), testing::HasSubstr("vocab"));
  EXPECT_NE(with("/model/vocab/un", 1 << 30), "");
  EXPECT_NE(with("/model/vocab/un", -1), "");
  EXPECT_NE(with("/model/vocab/un", "4"), "");
  EXPECT_THAT(with("/model/type", "Unigram"), testing::HasSubstr("BPE and WordPiece"));
  EXPECT_THAT(with("/post_processor/cls", Json::array({"[NONE]", 1})), testing::HasSubstr("cls"));
  EXPECT_NE(with("/post_processor/sep", 3), "");
  EXPECT_NE(with("/added_tokens/0/single_word", true), "");
}

TEST(BertText, CasedModelsKeepAccents) {
  EXPECT_EQ(bert_clean("\xC4\xB0 \xC3\x89", {.strip_accents = false, .lowercase = false}),
            "\xC4\xB0 \xC3\x89");
  EXPECT_EQ(bert_clean("\xC4\xB0 \xC3\x89", {.strip_accents = false}), "i\xCC\x87 \xC3\xA9");
  EXPECT_EQ(bert_clean("\xC4\xB0 \xC3\x89", {}), "i e");
}

}  // namespace
}  // namespace narrow::text
