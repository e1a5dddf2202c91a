#include "checkpoint/hub.h"

#include <openssl/evp.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <thread>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"
#include "checkpoint/http.h"

namespace narrow::checkpoint {
namespace {

namespace fs = std::filesystem;

// The one file in a folder: how a sentence encoder pools (encoder_checkpoint.h).
constexpr const char* kPoolingFile = "1_Pooling/config.json";
constexpr int64_t kMaxFileBytes = int64_t{1} << 40;
constexpr int kAttempts = 5;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

struct Repository {
  std::string name;  // "org/name"
  std::string revision = "main";
};

bool is_word(const std::string& text, const char* extra) {
  return !text.empty() && text.find("..") == std::string::npos && text.front() != '.' &&
         std::all_of(text.begin(), text.end(), [&](unsigned char c) {
           return std::isalnum(c) ||
                  std::string_view(extra).find(static_cast<char>(c)) != std::string_view::npos;
         });
}

std::optional<Repository> parse_repository(const std::string& text) {
  Repository parsed;
  const size_t at = text.find('@');
  parsed.name = text.substr(0, at);
  if (at != std::string::npos) parsed.revision = text.substr(at + 1);
  const size_t slash = parsed.name.find('/');
  if (slash == std::string::npos || text.size() > 256) return {};
  if (!is_word(parsed.name.substr(0, slash), "-_.") ||
      !is_word(parsed.name.substr(slash + 1), "-_.") || !is_word(parsed.revision, "-_./"))
    return {};
  return parsed;
}

Repository require_repository(const std::string& text) {
  if (auto parsed = parse_repository(text)) return *parsed;
  throw Error::refused("not a hub name: \"" + text + "\"", {}, "expected org/name[@revision]");
}

fs::path home() {
  const std::string given = variable("HF_HOME");
  if (!given.empty()) return given;
  const std::string cache = variable("XDG_CACHE_HOME");
  if (!cache.empty()) return fs::path(cache) / "huggingface";
  const std::string user = variable("HOME");
  if (user.empty()) throw Error::refused("neither HF_HOME nor HOME is set");
  return fs::path(user) / ".cache/huggingface";
}

fs::path cache_folder(const Repository& repository) {
  const std::string given = variable("HF_HUB_CACHE");
  std::string folder = "models--" + repository.name;
  folder.replace(folder.find('/'), 1, "--");
  return (given.empty() ? home() / "hub" : fs::path(given)) / folder;
}

std::string token() {
  const std::string given = variable("HF_TOKEN");
  if (!given.empty()) return given;
  const fs::path file = home() / "token";
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored)) return {};
  std::string text = read_text(file, 4096);
  text.erase(text.find_last_not_of(" \r\n\t") + 1);
  return text;
}

std::string endpoint() {
  std::string given = variable("HF_ENDPOINT");
  while (given.ends_with('/')) given.pop_back();
  return given.empty() ? "https://huggingface.co" : given;
}

bool offline() {
  const std::string given = variable("HF_HUB_OFFLINE");
  return !given.empty() && given != "0" && given != "false" && given != "FALSE";
}

// One file of a repository. id: SHA-256 of the content for large files, otherwise the id that git
// gives it; it is the name of the cached blob as well.
struct RemoteFile {
  std::string name;
  int64_t bytes = 0;
  std::string id;
  bool large = false;
};

struct Listing {
  std::string commit;
  std::vector<RemoteFile> files;
};

bool is_hex(const std::string& text, size_t digits) {
  return text.size() == digits && std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return std::isdigit(c) || (c >= 'a' && c <= 'f');
         });
}

// Only what a model needs: weights, configuration, tokenizer; never code. "consolidated" is a
// second copy of the weights in another layout.
bool is_wanted(const std::string& name) {
  if (name == kPoolingFile) return true;
  return name.find('/') == std::string::npos && name.front() != '.' &&
         !name.starts_with("consolidated") &&
         (name.ends_with(".json") || name.ends_with(".jinja") || name.ends_with(".safetensors"));
}

// Runs `attempt` until it does not fail for a reason that may pass.
template <class Attempt>
auto with_retries(const Attempt& attempt) {
  for (int tries = 1;; ++tries) {
    try {
      return attempt();
    } catch (const Error& error) {
      if (error.kind() != Error::Kind::failed || tries == kAttempts) throw;
      log::warning("{}; attempt {} of {}", error.what(), tries + 1, kAttempts);
    }
    // Doubling pauses, in steps short enough to be interrupted: 0.5, 1, 2, 4 s.
    for (int step = 0; step < 5 << (tries - 1); ++step) {
      throw_if_interrupted();
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
}

Listing fetch_listing(const Repository& repository) {
  std::string revision = repository.revision;
  for (size_t slash; (slash = revision.find('/')) != std::string::npos;)
    revision.replace(slash, 1, "%2F");
  const std::string url =
      endpoint() + "/api/models/" + repository.name + "/revision/" + revision + "?blobs=true";
  constexpr int64_t kMaxListingBytes = int64_t{32} << 20;
  const std::string text = with_retries([&] {
    HttpResponse response = http_get(url, token(), kMaxListingBytes);
    if (response.status == 401 || response.status == 403)
      throw Error::refused("the hub answers " + std::to_string(response.status), url,
                           "a private or gated model needs HF_TOKEN; a wrong name looks the same");
    if (response.status == 404) throw Error::refused("no such model or revision on the hub", url);
    if (response.status != 200)
      throw Error::failed("the hub answers " + std::to_string(response.status), url);
    return response.body;
  });
  const Json document = parse_json(text, url);
  Listing listing;
  listing.commit = json_get<std::string>(document, "sha", url);
  if (!is_hex(listing.commit, 40)) throw Error::refused("\"sha\" is not a commit", url);
  const auto siblings = document.find("siblings");
  if (siblings == document.end() || !siblings->is_array())
    throw Error::refused("no \"siblings\"", url);
  for (const Json& item : *siblings) {
    RemoteFile file;
    file.name = json_get<std::string>(item, "rfilename", url);
    if (file.name.empty() || !is_wanted(file.name)) continue;
    if (file.name.find('\0') != std::string::npos) throw Error::refused("bad file name", url);
    const std::string where = url + ": " + file.name;
    file.bytes = json_get<int64_t>(item, "size", where);
    file.large = item.contains("lfs") && item["lfs"].is_object();
    file.id = file.large ? json_get<std::string>(item["lfs"], "sha256", where)
                         : json_get<std::string>(item, "blobId", where);
    if (file.bytes < 0 || file.bytes > kMaxFileBytes || !is_hex(file.id, file.large ? 64 : 40))
      throw Error::refused("bad size or hash", where);
    listing.files.push_back(file);
  }
  if (listing.files.empty()) throw Error::refused("no model files in the repository", url);
  return listing;
}

// SHA-1 over "blob <size>\0<content>": git's name for a file.
std::string git_blob_id(const fs::path& path) {
  const InputFile file(path);
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(),
                                                                   EVP_MD_CTX_free);
  if (!context || EVP_DigestInit_ex(context.get(), EVP_sha1(), nullptr) != 1)
    throw Error::failed("OpenSSL failed to start");
  const std::string header = "blob " + std::to_string(file.size_bytes()) + '\0';
  EVP_DigestUpdate(context.get(), header.data(), header.size());
  std::vector<std::byte> chunk;
  for (int64_t offset = 0; offset < file.size_bytes();
       offset += static_cast<int64_t>(chunk.size())) {
    constexpr int64_t kChunkBytes = 1 << 20;
    chunk.resize(static_cast<size_t>(std::min(kChunkBytes, file.size_bytes() - offset)));
    file.read(offset, chunk);
    EVP_DigestUpdate(context.get(), chunk.data(), chunk.size());
  }
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  EVP_DigestFinal_ex(context.get(), digest, &length);
  std::string hex;
  for (unsigned i = 0; i < length; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

void download_blob(const Repository& repository, const std::string& commit, const RemoteFile& file,
                   const fs::path& blob, Progress& progress) {
  const std::string url =
      endpoint() + "/" + repository.name + "/resolve/" + commit + "/" + file.name;
  const fs::path incomplete = blob.string() + ".incomplete";
  std::error_code ignored;
  const auto already = static_cast<int64_t>(fs::file_size(incomplete, ignored));
  if (!ignored) progress.skip(std::min(already, file.bytes));
  with_retries([&] {
    http_download(url, token(), incomplete, file.bytes,
                  [&](int64_t bytes) { progress.advance(bytes); });
  });
  const std::string id = file.large ? sha256_file(incomplete) : git_blob_id(incomplete);
  if (id != file.id) {
    fs::remove(incomplete);
    throw Error::failed(
        "the content does not have the hash that the hub gives: " + id + " instead of " + file.id,
        url, "run the command again; the damaged file was removed");
  }
  fs::rename(incomplete, blob);
  sync_directory(blob.parent_path());
}

void link_file(const fs::path& link, const std::string& id) {
  // Of <repository>/snapshots/<revision>/<name>, which may be in a folder.
  const bool in_folder = link.parent_path().filename() == fs::path(kPoolingFile).parent_path();
  const fs::path repository = in_folder ? "../../.." : "../..";
  const fs::path target = repository / "blobs" / id;
  fs::create_directories(link.parent_path());
  std::error_code missing;
  if (fs::read_symlink(link, missing) == target && !missing) return;
  const fs::path fresh = link.string() + ".new";
  fs::remove(fresh);
  fs::create_symlink(target, fresh);
  fs::rename(fresh, link);
}

void copy_synced(const fs::path& from, const fs::path& to) {
  const InputFile source(from);
  OutputFile target(to);
  std::vector<std::byte> chunk;
  for (int64_t offset = 0; offset < source.size_bytes();
       offset += static_cast<int64_t>(chunk.size())) {
    constexpr int64_t kChunkBytes = int64_t{8} << 20;
    chunk.resize(static_cast<size_t>(std::min(kChunkBytes, source.size_bytes() - offset)));
    source.read(offset, chunk);
    target.write(chunk);
  }
  target.commit();
}

fs::path cached_snapshot(const Repository& repository) {
  const fs::path folder = cache_folder(repository);
  const fs::path reference = folder / "refs" / repository.revision;
  std::error_code ignored;
  std::string commit = repository.revision;
  if (fs::is_regular_file(reference, ignored)) {
    commit = read_text(reference, 256);
    commit.erase(commit.find_last_not_of(" \r\n\t") + 1);
  }
  if (is_hex(commit, 40) && fs::is_directory(folder / "snapshots" / commit, ignored))
    return folder / "snapshots" / commit;
  throw Error::refused(repository.name + " is not in the cache and HF_HUB_OFFLINE is set",
                       folder.string());
}

}  // namespace

bool looks_like_hub_name(const std::string& model) {
  std::error_code ignored;
  return !model.ends_with(".gguf") && parse_repository(model).has_value() &&
         !fs::exists(model, ignored);
}

fs::path snapshot(const std::string& text) {
  const Repository repository = require_repository(text);
  if (offline()) return cached_snapshot(repository);
  const Listing listing = fetch_listing(repository);
  const fs::path folder = cache_folder(repository);
  const fs::path snapshot = folder / "snapshots" / listing.commit;
  fs::create_directories(folder / "blobs");
  fs::create_directories(snapshot);
  int64_t total = 0;
  std::vector<RemoteFile> missing;
  for (const RemoteFile& file : listing.files) {
    const fs::path blob = folder / "blobs" / file.id;
    std::error_code absent;
    const auto bytes = static_cast<int64_t>(fs::file_size(blob, absent));
    if (absent || bytes != file.bytes) {
      missing.push_back(file);
      total += file.bytes;
    }
  }
  if (!missing.empty()) {
    Progress progress("download " + repository.name, total, "bytes");
    for (const RemoteFile& file : missing)
      download_blob(repository, listing.commit, file, folder / "blobs" / file.id, progress);
  }
  for (const RemoteFile& file : listing.files) link_file(snapshot / file.name, file.id);
  // Last, so that offline use never finds a revision whose files are not all there.
  if (repository.revision != listing.commit) {
    const fs::path reference = folder / "refs" / repository.revision;
    fs::create_directories(reference.parent_path());
    write_text(reference, listing.commit);
  }
  return snapshot;
}

fs::path resolve_model(const std::string& model) {
  return looks_like_hub_name(model) ? snapshot(model) : fs::path(model);
}

void pull(const std::string& repository, const fs::path& directory) {
  std::error_code ignored;
  if (fs::exists(directory) && (!fs::is_directory(directory) || !fs::is_empty(directory, ignored)))
    throw Error::refused("exists and is not an empty directory", directory.string(),
                         "choose another name or remove it");
  const fs::path source = snapshot(repository);
  fs::path target = directory.lexically_normal();
  if (!target.has_filename()) target = target.parent_path();
  const fs::path partial = target.string() + ".partial";
  fs::remove_all(partial);
  fs::create_directories(partial);
  for (const auto& entry : fs::directory_iterator(source)) {
    throw_if_interrupted();
    if (entry.is_directory()) continue;
    copy_synced(fs::canonical(entry.path()), partial / entry.path().filename());
  }
  if (fs::exists(source / kPoolingFile)) {
    fs::create_directories((partial / kPoolingFile).parent_path());
    copy_synced(fs::canonical(source / kPoolingFile), partial / kPoolingFile);
    sync_directory((partial / kPoolingFile).parent_path());
  }
  sync_directory(partial);
  fs::rename(partial, target);
}

}  // namespace narrow::checkpoint
