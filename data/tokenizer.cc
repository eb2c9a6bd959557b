#include "data/tokenizer_sp.h"

#if FZ_HAVE_SENTENCEPIECE

#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <unordered_map>
#include <vector>

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

using sentencepiece::SentencePieceProcessor;
using sentencepiece::SentencePieceTrainer;

static void say(char *error, size_t bytes, const char *text)
{
    std::snprintf(error, bytes, "%s", text);
}

void *fz_sp_load(const char *path, char *error, size_t error_bytes)
{
    try {
        auto *processor = new SentencePieceProcessor;
        const auto status = processor->Load(path);
        if (status.ok()) return processor;
        say(error, error_bytes, status.ToString().c_str());
        delete processor;
    } catch (const std::exception &e) {
        say(error, error_bytes, e.what());
    }
    return nullptr;
}

void fz_sp_destroy(void *processor)
{
    delete static_cast<SentencePieceProcessor *>(processor);
}

int64_t fz_sp_vocab(const void *processor)
{
    return static_cast<const SentencePieceProcessor *>(processor)->GetPieceSize();
}

int64_t fz_sp_encode(const void *processor, const char *text, int32_t *ids, int64_t max)
{
    try {
        std::vector<int> found;
        if (!static_cast<const SentencePieceProcessor *>(processor)->Encode(text, &found).ok())
            return -1;
        const int64_t n = static_cast<int64_t>(found.size()) < max
                              ? static_cast<int64_t>(found.size())
                              : max;
        for (int64_t i = 0; i < n; i++) ids[i] = found[static_cast<size_t>(i)];
        return n;
    } catch (const std::exception &) {
        return -1;
    }
}

int fz_sp_decode(const void *processor, const int32_t *ids, int64_t n, char *out, size_t bytes)
{
    try {
        const std::vector<int> list(ids, ids + n);
        std::string text;
        if (!static_cast<const SentencePieceProcessor *>(processor)->Decode(list, &text).ok())
            return -1;
        std::snprintf(out, bytes, "%s", text.c_str());
        return 0;
    } catch (const std::exception &) {
        return -1;
    }
}

int fz_sp_train(const char *const (*settings)[2], char *error, size_t error_bytes)
{
    try {
        std::unordered_map<std::string, std::string> list;
        for (; (*settings)[0] != nullptr; settings++) list[(*settings)[0]] = (*settings)[1];
        sentencepiece::SetRandomGeneratorSeed(1);
        const auto status = SentencePieceTrainer::Train(list);
        if (status.ok()) return 0;
        say(error, error_bytes, status.ToString().c_str());
    } catch (const std::exception &e) {
        say(error, error_bytes, e.what());
    }
    return -1;
}

#endif
