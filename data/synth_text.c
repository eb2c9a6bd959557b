#include "data/synth_text.h"

#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "core/assert.h"
#include "core/memory.h"

enum { MAX_IDS = 1024 };

static fz_message draw_message(fz_draws *draws, const fz_scene *scene)
{
    fz_message message = {.kind = scene->kind};

    /* A fifth of the time a sentence names the things and not where they are. */
    if (fz_draws_below(draws, 5) == 0) {
        if (scene->kind == FZ_SCENE_RELATED) message.kind = FZ_SCENE_PAIR;
        if (scene->kind == FZ_SCENE_BETWEEN) message.kind = FZ_SCENE_TRIPLE;
    }
    message.pattern = fz_draws_below(draws, fz_grammar_patterns(message.kind));
    message.with_size = fz_draws_below(draws, 2) == 0;
    return message;
}

static fz_status caption(const fz_scene *scene, fz_draws *draws, fz_language_id language,
                         fz_annotation *out)
{
    out->is_translation = false;
    out->language = language;
    snprintf(out->prompt, sizeof out->prompt,
             "The target language is %s. What does the image describe?",
             fz_language_get(language)->name);
    return fz_grammar_say(language, scene, draw_message(draws, scene), out->output,
                          sizeof out->output);
}

static fz_status translation(const fz_scene *scene, fz_draws *draws, fz_language_id language,
                             fz_annotation *out)
{
    const fz_message message = draw_message(draws, scene);
    char source[FZ_SENTENCE_BYTES];

    out->is_translation = true;
    out->language = language;
    FZ_TRY(fz_grammar_say(FZ_EN, scene, message, source, sizeof source));
    snprintf(out->prompt, sizeof out->prompt,
             "The target language is %s. Translate the following text: %s",
             fz_language_get(language)->name, source);
    return fz_grammar_say(language, scene, message, out->output, sizeof out->output);
}

fz_status fz_synth_annotate(const fz_scene *scene, uint64_t seed, fz_split split, uint64_t n,
                            fz_annotation out[FZ_MAX_ANNOTATIONS], int *n_p)
{
    const int n_languages = split == FZ_SPLIT_TRAIN ? 2 : FZ_N_LANGUAGES; /* en, de first */
    const int n_each = split == FZ_SPLIT_TRAIN ? FZ_CAPTIONS_EACH : 1;
    fz_draws draws = fz_draws_init(seed, split, n, 1);
    int count = 0;

    for (int language = FZ_EN; language < n_languages; language++)
        for (int i = 0; i < n_each; i++)
            FZ_TRY(caption(scene, &draws, (fz_language_id)language, &out[count++]));
    for (int language = FZ_DE; language < FZ_N_LANGUAGES; language++)
        FZ_TRY(translation(scene, &draws, (fz_language_id)language, &out[count++]));
    FZ_ASSERT(count <= FZ_MAX_ANNOTATIONS);
    *n_p = count;
    return FZ_OK;
}

static fz_status tokenize(const fz_tokenizer *tokenizer, const char *text, int first, int last,
                          int64_t *longest, json_t **ids_p)
{
    int32_t ids[MAX_IDS];
    int64_t n = 0;

    ids[0] = first;
    FZ_TRY(fz_tokenizer_encode(tokenizer, text, ids + 1, MAX_IDS - 2, &n));
    FZ_CHECK(n < MAX_IDS - 2, FZ_ERR_FORMAT, "tokenize \"%.80s\": more than %d ids", text,
             MAX_IDS - 2);
    ids[n + 1] = last;
    n += 2;
    if (n > *longest) *longest = n;
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(ids[i]));
    *ids_p = list;
    return FZ_OK;
}

static fz_status add_annotation(json_t *list, const fz_annotation *annotation,
                                const fz_tokenizer *enc, const fz_tokenizer *dec,
                                fz_synth_lengths *longest)
{
    json_t *entry = json_object(), *ids = NULL;

    json_array_append_new(list, entry);
    FZ_TRY(tokenize(enc, annotation->prompt, 0, 2, &longest->prompt, &ids));
    json_object_set_new(entry, "prompt_ids", ids);
    FZ_TRY(tokenize(dec, annotation->output, 2, 1, &longest->output, &ids));
    json_object_set_new(entry, "output_ids", ids);
    json_object_set_new(entry, "lang", json_string(fz_language_get(annotation->language)->code));
    json_object_set_new(entry, "type",
                        json_string(annotation->is_translation ? "translation" : "caption"));
    json_object_set_new(entry, "prompt", json_string(annotation->prompt));
    FZ_CHECK(json_object_set_new(entry, "output", json_string(annotation->output)) == 0,
             FZ_ERR_MEMORY, "annotation: jansson has no memory");
    return FZ_OK;
}

fz_status fz_synth_json(const fz_annotation *annotations, int n, const fz_tokenizer *enc,
                        const fz_tokenizer *dec, fz_synth_lengths *longest, char **json_p,
                        size_t *bytes_p)
{
    json_t *list = json_array();
    fz_status status = FZ_OK;

    for (int i = 0; i < n && status == FZ_OK; i++)
        status = add_annotation(list, &annotations[i], enc, dec, longest);
    if (status == FZ_OK) {
        const size_t bytes = json_dumpb(list, NULL, 0, JSON_COMPACT);
        char *text = NULL;

        status = fz_alloc((void **)&text, bytes, "annotations");
        if (status == FZ_OK) {
            json_dumpb(list, text, bytes, JSON_COMPACT);
            *json_p = text;
            *bytes_p = bytes;
        }
    }
    json_decref(list);
    return status;
}
