// Bytes a server sends: as a stream of events in pieces, and as an answer with log-probabilities,
// read as each kind of request reads them. The first byte chooses the size of the pieces. The same
// bytes in one piece give the same text.
#include <algorithm>

#include "base/error.h"
#include "client/sse.h"
#include "client/wire.h"

namespace {

using namespace narrow;
using namespace narrow::client;

std::string stream(std::string_view bytes, size_t piece, bool chat) {
  GenerationReader reader(chat, 64, {}, "fuzz");
  SseReader events(1 << 14, "fuzz", [&](std::string_view data) { reader.event(data, {}); });
  try {
    for (size_t at = 0; at < bytes.size(); at += piece) events.push(bytes.substr(at, piece));
    events.finish();
    if (!reader.complete()) return "cut off";
    const auto result = reader.result(nullptr);
    if (result.token_ids.size() > 64) std::abort();
    return result.text;
  } catch (const Error& error) {
    return std::string("error: ") + error.what();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const bool chat = data[0] % 2 == 0;
  const std::string whole = stream(bytes, std::max<size_t>(1, bytes.size()), chat);
  if (stream(bytes, 1 + data[0] / 2, chat) != whole) std::abort();
  refusal_text(bytes);
  static const std::vector<int32_t> kIds = {7, 8, 9};
  for (const ScoreWay way : {ScoreWay::prompt_logprobs, ScoreWay::echo, ScoreWay::echo_and_one}) {
    try {
      const auto result = read_scores(parse_json(bytes, "fuzz"), way, kIds, 1, 0, "fuzz");
      if (result.tokens.size() != 2 || result.greedy.size() != 2 || result.sum() > 0.01)
        std::abort();
    } catch (const Error&) {
    }
  }
  return 0;
}
