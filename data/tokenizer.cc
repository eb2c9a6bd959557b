#include "data/tokenizer_sp.h"

#if FZ_HAVE_SENTENCEPIECE

#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <string>
#include <unordered_map>
#include <vector>

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include "data/utf8.h"

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

void fz_sp_specials(const void *processor, int32_t ids[4])
{
    const auto *sp = static_cast<const SentencePieceProcessor *>(processor);
    ids[0] = sp->bos_id();
    ids[1] = sp->eos_id();
    ids[2] = sp->pad_id();
    ids[3] = sp->unk_id();
}

const char *fz_sp_piece(const void *processor, int32_t id)
{
    return static_cast<const SentencePieceProcessor *>(processor)->IdToPiece(id).c_str();
}

int64_t fz_sp_encode(const void *processor, const char *text, int32_t *ids, int64_t max)
{
    try {
        std::vector<int> found;
        if (!static_cast<const SentencePieceProcessor *>(processor)->Encode(text, &found).ok())
            return -1;
        const int64_t n =
            static_cast<int64_t>(found.size()) < max ? static_cast<int64_t>(found.size()) : max;
        for (int64_t i = 0; i < n; i++)
            ids[i] = found[static_cast<size_t>(i)];
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
        fz_utf8_copy(text.data(), text.size(), out, bytes);
        return 0;
    } catch (const std::exception &) {
        return -1;
    }
}

/* Lines of a file, one sentence each. Training from a path would write the path into the model, and
 * equal texts would give unequal bytes. */
class Lines : public sentencepiece::SentenceIterator
{
  public:
    explicit Lines(const char *path) : file_(path)
    {
        Next();
    }
    bool done() const override
    {
        return done_;
    }
    void Next() override
    {
        done_ = !std::getline(file_, line_);
    }
    const std::string &value() const override
    {
        return line_;
    }
    sentencepiece::util::Status status() const override
    {
        return sentencepiece::util::Status();
    }
    bool failed() const
    {
        return file_.bad() || !file_.is_open();
    }

  private:
    std::ifstream file_;
    std::string line_;
    bool done_ = false;
};

int fz_sp_train(const char *text_path, const char *model_path, const char *const (*settings)[2],
                char *error, size_t error_bytes)
{
    try {
        std::unordered_map<std::string, std::string> list;
        std::string model;
        Lines lines(text_path);
        if (lines.failed()) return say(error, error_bytes, "the text cannot be read"), -1;
        for (; (*settings)[0] != nullptr; settings++)
            list[(*settings)[0]] = (*settings)[1];
        sentencepiece::SetRandomGeneratorSeed(1);
        const auto status = SentencePieceTrainer::Train(list, &lines, &model);
        if (!status.ok()) return say(error, error_bytes, status.ToString().c_str()), -1;

        std::ofstream out(model_path, std::ios::binary);
        out.write(model.data(), static_cast<std::streamsize>(model.size()));
        out.close();
        if (!out.fail()) return 0;
        say(error, error_bytes, "the model cannot be written");
    } catch (const std::exception &e) {
        say(error, error_bytes, e.what());
    }
    return -1;
}

#endif
